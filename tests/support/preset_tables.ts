/**
 * README's tables of presets and recipes, from the code. `deno task setup` first where there is no
 * adapter, then `deno run -A tests/train/preset_tables.ts` writes them anew.
 *
 * @module
 */
import { stepFlops } from "../../bench/step.ts";
import { type Device, formatBytes, openDevice } from "../../engine/mod.ts";
import { studentSpecs } from "../../model/objectives/matpac.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";
import { deviations, RECIPES, type Side, sideOf } from "../../model/objectives/recipe.ts";
import { resolveConfig } from "../../train/config/config.ts";
import { measureRun, totalBytes } from "../../train/run/memory.ts";
import { markdownTable, README, withTable } from "./readme.ts";

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
export function memoryOf(device: Device, name: PresetName): number[] {
  const total = (clips: number, ...more: string[]) => {
    const words = ["--preset", name, "--out", "none", ...more];
    const batch = ["--batch", String(clips), "--micro-batch", String(clips)];
    return totalBytes(measureRun(device, resolveConfig([...words, ...batch])));
  };
  const slope = (...more: string[]) => (total(16, ...more) - total(8, ...more)) / 8;
  const perClip = slope();
  return [
    total(16) - 16 * perClip,
    perClip,
    slope("--recompute"),
    slope("--precision", "mixed"),
  ];
}

/** The table of presets without its columns of memory. */
export function presetRows(): string[][] {
  return NAMES.map(sizesOf);
}

/** The table of presets as this adapter has it. */
export function presetTable(device: Device): string {
  const rows = NAMES.map((name) => [...sizesOf(name), ...memoryOf(device, name).map(formatBytes)]);
  return markdownTable([...SIZES, ...MEMORY], rows);
}

/** Columns of memory of a table, in bytes. */
export function memoryColumns(readme: string): number[][] {
  const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
  return NAMES.map((name) => {
    const line = readme.split("\n").find((it) => it.startsWith(`| \`${name}\``)) ?? "";
    return line.split("|").slice(1 + SIZES.length, -1).map((cell) => {
      const [value, unit] = cell.trim().split(" ");
      return Number(value) * UNITS[unit];
    });
  });
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

if (import.meta.main) {
  using device = await openDevice();
  const readme = withTable(Deno.readTextFileSync(README), "presets", presetTable(device));
  Deno.writeTextFileSync(README, withTable(readme, "recipes", recipeTable()));
}
