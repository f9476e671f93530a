/**
 * The tables of presets and recipes in train/README.md, from the code; `deno task docs` writes
 * them.
 *
 * @module
 */
import { stepFlops } from "../../bench/step.ts";
import { type Device, formatBytes } from "../../engine/mod.ts";
import { studentSpecs } from "../../model/objectives/matpac.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";
import { deviations, RECIPES, type Side, sideOf } from "../../model/objectives/recipe.ts";
import { resolveConfig } from "../../train/config/config.ts";
import { measureRun, totalBytes } from "../../train/run/memory.ts";
import { markdownTable } from "./markdown.ts";

const NAMES = Object.keys(PRESETS) as PresetName[];

/** Columns that follow from the sizes alone. */
const SIZES = [
  "preset",
  "encoder",
  "predictor",
  "head, prototypes",
  "crop",
  "trained parameters",
  "GFLOP per clip",
];
/** Columns that the recorded update says. */
const MEMORY = ["fixed memory", "per clip", "`--recompute`", "`--precision mixed`"];

function sizesOf(name: PresetName): string[] {
  const { geometry } = PRESETS[name];
  const parameters = studentSpecs(geometry, RECIPES.paper)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return [
    `\`${name}\``,
    `${geometry.width} / ${geometry.depth} / ${geometry.heads}`,
    `${geometry.predictorWidth} / ${geometry.predictorDepth} / ${geometry.predictorHeads}`,
    `${geometry.headHidden}, ${geometry.prototypes}`,
    `${geometry.cropFrames / 100} s`,
    `${(parameters / 1e6).toFixed(1)} M`,
    (stepFlops(geometry) / 1e9).toFixed(1),
  ];
}

/**
 * Bytes of a run, and of each clip of a pass: plain, with `--recompute`, with `--precision mixed`.
 */
function memoryOf(device: Device, name: PresetName): number[] {
  const total = (clips: number, ...more: string[]) => {
    const words = ["--preset", name, "--out", "none", ...more];
    const batch = ["--batch", String(clips), "--micro-batch", String(clips)];
    return totalBytes(measureRun(device, resolveConfig([...words, ...batch])));
  };
  const [fixed, perClip] = lineThrough(total(8), total(16));
  const slope = (...more: string[]) => lineThrough(total(8, ...more), total(16, ...more))[1];
  return [fixed, perClip, slope("--recompute"), slope("--precision", "mixed")];
}

/** Value at 0 and slope of the line through values at 8 and 16. */
function lineThrough(at8: number, at16: number): [number, number] {
  return [2 * at8 - at16, (at16 - at8) / 8];
}

const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Cells with the memory of a preset as a manual has them. */
function writtenMemory(manual: string, name: PresetName): string[] {
  const line = manual.split("\n").find((it) => it.startsWith(`| \`${name}\``)) ?? "";
  return line.split("|").slice(1 + SIZES.length, -1).map((cell) => cell.trim());
}

/** What a cell says, if `bytes` lie within a tenth of that, else what they are. */
export function memoryCell(written: string | undefined, bytes: number): string {
  const [value, unit] = written?.split(" ") ?? [];
  const near = Math.abs(Number(value) * UNITS[unit] - bytes) < 0.1 * bytes;
  return near ? written! : formatBytes(bytes);
}

/** The table of presets, with the memory that `manual` says where this adapter's is near it. */
export function presetTable(device: Device, manual: string): string {
  const rows = NAMES.map((name) => {
    const written = writtenMemory(manual, name);
    const memory = memoryOf(device, name).map((bytes, i) => memoryCell(written[i], bytes));
    return [...sizesOf(name), ...memory];
  });
  return markdownTable([...SIZES, ...MEMORY], rows);
}

/** The table of recipes. */
export function recipeTable(): string {
  const rows = deviations().map(([name, row]) => {
    const cell = (side: "paper" | "released", { text }: Side) =>
      sideOf("paper", row) === side ? `**${text}**` : text;
    return [
      String(row.row),
      `\`${name}\``,
      row.topic,
      cell("paper", row.paper),
      cell("released", row.released),
    ];
  });
  return markdownTable(["row", "NAME", "topic", "paper", "released"], rows);
}
