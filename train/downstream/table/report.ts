/**
 * A table for people: Markdown, and a page with bars.
 *
 * @module
 */
import { stringify } from "../../deps/csv.ts";
import { markdownTable } from "../../cli/table.ts";
import { escaped, tag } from "../../visualize/markup.ts";
import { page, type Section } from "../../visualize/page.ts";
import { METRIC_TITLES } from "../probe/report.ts";
import type { TableEncoder, TableProtocol, TableRow, TableSet } from "./results.ts";
import { BASELINES } from "./results.ts";

/** A probe that came to nothing. */
export interface MissingCell {
  readonly encoder: string;
  readonly variant: string;
  readonly dataset: string;
  readonly reason: string;
}

/** All that a table says. */
export interface Table {
  readonly command: string;
  readonly protocol: TableProtocol;
  readonly encoders: readonly TableEncoder[];
  readonly sets: readonly TableSet[];
  readonly rows: readonly TableRow[];
  readonly missing: readonly MissingCell[];
}

const percent = (share: number): string => (100 * share).toFixed(1);
const signed = (points: number): string => `${points < 0 ? "" : "+"}${points.toFixed(1)}`;
const half = (ci95: number | null): string => ci95 === null ? "" : ` ± ${percent(ci95)}`;
const metricTitle = (metric: string): string =>
  Object.hasOwn(METRIC_TITLES, metric)
    ? METRIC_TITLES[metric as keyof typeof METRIC_TITLES]
    : metric;

/** Names of rows, encoder by encoder, in the order in which they were made. */
function lines({ rows }: Table): { readonly encoder: string; readonly variant: string }[] {
  const seen = new Map(rows.map((it) => [`${it.encoder}\n${it.variant}`, it]));
  return [...seen.values()];
}

const titleOf = ({ encoder, variant }: Pick<TableRow, "encoder" | "variant">): string =>
  variant === "" ? encoder : `${encoder}, ${variant}`;

/** A table of one kind of numbers: encoders are lines, sets are columns, the mean is the last. */
function grid(
  table: Table,
  corner: string,
  text: (row: TableRow) => string | undefined,
  value: (row: TableRow) => number | undefined,
  format: (mean: number) => string,
): string[] {
  const { sets, rows } = table;
  const columns = sets.filter(({ name }) => rows.some((it) => it.dataset === name));
  const body = lines(table).flatMap((line) => {
    const own = columns.map(({ name }) =>
      rows.find((it) =>
        it.dataset === name && it.encoder === line.encoder && it.variant === line.variant
      )
    );
    const cells = own.map((it) => (it && text(it)) ?? "-");
    if (cells.every((it) => it === "-")) return [];
    const values = own.map((it) => it && value(it));
    const whole = values.length > 1 && values.every((it) => it !== undefined);
    const mean = whole ? values.reduce((a, b) => a + b!, 0)! / values.length : undefined;
    return [[titleOf(line), ...cells, mean === undefined ? "-" : format(mean)]];
  });
  const titles = columns.map(({ name }) => {
    const { metric } = rows.find((it) => it.dataset === name)!;
    return `${name}, ${metricTitle(metric)}`;
  });
  return body.length === 0 ? [] : [...markdownTable([[corner, ...titles, "mean"], ...body]), ""];
}

/** What the numbers are. */
function readingText({ protocol, encoders, rows }: Table): string[] {
  const judged = {
    matpac: "a linear layer on frozen embeddings as in MATPAC's paper: Adam at 1e-4, batches of " +
      "128, the epoch of best validation loss, five repeats",
    evar: "a linear layer on standardised embeddings as in EVAR: the epoch of best validation " +
      "score, three repeats; clips of known sets are cut to EVAR's seconds or filled up with " +
      "silence, training clips from their start too, where EVAR crops at random",
    hear: "HEAR 2021's grid of perceptrons",
  }[protocol];
  const of = (known: readonly (string | undefined)[]) => known.some((it) => it !== undefined);
  return [
    `- Scores are percent, of ${judged}, as far as no other option is given in the command. ± is ` +
    "the 95 % interval over repeats (1.96 sd / sqrt(n)): it says nothing of other clips.",
    ...protocol === "matpac" && of(encoders.map(({ title }) => title))
      ? [
        "- Encoders of other systems stand here twice: by pieces of 6 s, as the paper has it, " +
        "and by whole clips in each system's own chunks. Which vectors, crops and pooling the " +
        "paper took for them is not known.",
      ]
      : [],
    ...of(rows.map(({ knn }) => knn as undefined | string))
      ? [
        "- Nearest neighbours: the 20 training clips of largest cosine vote with exp((cosine - " +
        "1) / 0.07); nothing is trained.",
      ]
      : [],
    ...of(rows.map(({ published }) => published?.source))
      ? [
        "- Published: ours minus theirs, in points. † is a figure that the table took from the " +
        "system's own paper, with other vectors and another protocol. Which published encoder a " +
        "file is follows from its digest, or else from system, sizes and, of BEATs, its name. " +
        "The same model differs by up to 1.9 points between papers. BEATs iter3+ counts as " +
        "supervised: its tokenizer was distilled from a fine-tuned model.",
      ]
      : [],
  ];
}

/** Sources of published figures that the table has. */
function sources({ rows }: Table): string[] {
  return [...new Set(rows.flatMap(({ published }) => published?.source ?? []))];
}

/** The text of table.md. */
export function markdownOf(table: Table): string {
  const { command, sets, encoders, missing, rows } = table;
  const score = ({ mean, ci95 }: TableRow) => `${percent(mean)}${half(ci95)}`;
  const known = encoders.map((it) => [
    ...[it.name, it.title ?? "MATPAC or its kin", it.published ?? "none"],
    it.sha256.slice(0, 12),
  ]);
  const folders = sets.map((it) => [
    ...[it.name, it.timestamps ? "events" : String(it.clips), String(it.classes)],
    ...[it.published ?? "none", it.seconds === undefined ? "-" : String(it.seconds)],
  ]);
  const skipped = rows.filter((it) => it.skipped > 0);
  return [
    ...["# Encoders on labelled sounds", "", "```sh", command, "```", ""],
    ...grid(table, "linear probe", score, ({ mean }) => mean, percent),
    ...grid(
      table,
      "tuned probe",
      ({ tuned }) => tuned && `${percent(tuned.mean)}${half(tuned.ci95)}`,
      ({ tuned }) => tuned?.mean,
      percent,
    ),
    ...grid(
      table,
      "nearest neighbours",
      ({ knn }) => knn === undefined ? undefined : percent(knn),
      ({ knn }) => knn,
      percent,
    ),
    ...grid(
      table,
      "published",
      ({ published: it }) =>
        it && `${it.value.toFixed(1)}${it.note ? "†" : ""} (${signed(it.difference)})`,
      ({ published }) => published?.difference,
      (mean) => signed(mean),
    ),
    ...sources(table).map((it) => `Published figures: ${it}.`),
    "",
    ...missing.length > 0 ? ["Missing:", ""] : [],
    ...missing.map((it) => `- ${titleOf(it)} on ${it.dataset}: ${it.reason}`),
    ...missing.length > 0 ? [""] : [],
    ...skipped.map((it) => `- ${titleOf(it)} on ${it.dataset}: ${it.skipped} clips skipped`),
    ...skipped.length > 0 ? [""] : [],
    ...markdownTable([["encoder", "system", "published as", "SHA-256"], ...known]),
    "",
    ...markdownTable([["data set", "clips", "classes", "published as", "EVAR's s"], ...folders]),
    "",
    ...readingText(table),
    "",
  ].join("\n");
}

const STYLE = `
.bars { display: grid; grid-template-columns: minmax(7rem, 18rem) 1fr max-content;
  gap: 0.35rem 0.8rem; align-items: center; margin: 0.6rem 0; }
.bars > span { overflow-wrap: anywhere; }
.bar { position: relative; height: 1.1rem; background: var(--panel); border-radius: 3px; }
.bar > * { position: absolute; top: 0; bottom: 0; }
.bar .fill { left: 0; background: var(--first); border-radius: 3px; }
.bar .range { top: 30%; bottom: 30%; border: solid var(--ink); border-width: 0 2px;
  background: linear-gradient(var(--ink), var(--ink)) center / 100% 2px no-repeat; }
.bar .knn { width: 3px; background: var(--second); }
.bar .published { width: 3px; background: var(--third); }
.bars > .words { grid-column: 2 / -1; color: var(--faint); margin-top: -0.3rem; }
.key { display: inline-block; width: 0.8rem; height: 0.8rem; vertical-align: -0.1rem; }
@media (max-width: 40rem) { .bars { grid-template-columns: 1fr max-content; }
  .bars > .name, .bars > .words { grid-column: 1 / -1; } .bars > .name { margin-top: 0.4rem; } }
`;

const place = (share: number): string => `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;

/** The bar of a cell with its interval, neighbours and the published figure. */
function bar({ mean, ci95, knn, published }: TableRow): string {
  const [low, high] = [mean - (ci95 ?? 0), mean + (ci95 ?? 0)].map((it) =>
    Math.min(1, Math.max(0, it))
  );
  const part = (name: string, style: string, title: string) =>
    tag("i", { class: name, style, title }, " ");
  return tag(
    "div",
    { class: "bar" },
    [
      part("fill", `width:${place(mean)}`, percent(mean)),
      ci95 === null ? "" : part(
        "range",
        `left:${place(low)};width:${place(high - low)}`,
        `± ${percent(ci95)}`,
      ),
      knn === undefined ? "" : part("knn", `left:${place(knn)}`, `neighbours ${percent(knn)}`),
      published
        ? part("published", `left:${place(published.value / 100)}`, `published ${published.value}`)
        : "",
    ].join(""),
  );
}

function setSection(table: Table, set: TableSet): Section[] {
  const baselines: readonly string[] = Object.values(BASELINES);
  const isBaseline = ({ encoder }: TableRow) => baselines.includes(encoder);
  const rows = table.rows.filter(({ dataset }) => dataset === set.name)
    .toSorted((a, b) => Number(isBaseline(a)) - Number(isBaseline(b)));
  if (rows.length === 0) return [];
  const cells = rows.map((row) => {
    const theirs = row.published
      ? `, published ${row.published.value.toFixed(1)}${row.published.note ? "†" : ""} (${
        signed(row.published.difference)
      })`
      : "";
    const knn = row.knn === undefined ? "" : `, kNN ${percent(row.knn)}`;
    return [
      tag("span", { class: "name" }, escaped(titleOf(row))),
      bar(row),
      tag("span", {}, escaped(`${percent(row.mean)}${half(row.ci95)}`)),
    ].join("") + (knn + theirs === ""
      ? ""
      : tag("span", { class: "words" }, escaped((knn + theirs).slice(2))));
  });
  return [{
    title: `${set.name}, ${metricTitle(rows[0].metric)}`,
    words: [],
    drawings: [tag("div", { class: "bars" }, cells.join("\n"))],
  }];
}

/** The text of table.html. */
export function pageOf(table: Table): string {
  const key = (colour: string, words: string) =>
    `${tag("i", { class: "key", style: `background:var(--${colour})` }, " ")} ${escaped(words)}`;
  const missing: Section[] = table.missing.length === 0 ? [] : [{
    title: "Missing",
    words: table.missing.map((it) => `${titleOf(it)} on ${it.dataset}: ${it.reason}`),
  }];
  return page(
    "Encoders on labelled sounds",
    [["protocol", table.protocol], ["command", table.command]],
    [
      ...table.sets.flatMap((set) => setSection(table, set)),
      ...missing,
      {
        title: "How to read it",
        words: readingText(table).map((it) => it.slice(2)),
        drawings: [
          tag(
            "p",
            {},
            [
              key("first", "linear probe, 0 to 100 %, with its interval"),
              key("second", "nearest neighbours"),
              ...table.rows.some((it) => it.published) ? [key("third", "published")] : [],
            ].join(" &#160; "),
          ),
          ...sources(table).map((it) => tag("p", {}, escaped(`Published figures: ${it}.`))),
        ],
      },
    ],
    STYLE,
  );
}

/** Columns of EVAR's `results/scores.csv`. */
const COLUMNS = ["representation", "task", "score", "run_id", "report"] as const;

/**
 * The rows of a table as EVAR's `scores.csv` has them.
 *
 * @param before the file as it is; rows that are in it already are not added again
 * @returns the file with them
 */
export function scoresCsv({ rows, protocol }: Table, before: string | undefined): string {
  const text: string = stringify(
    rows.map((it) => ({
      representation: titleOf(it),
      task: it.dataset,
      score: it.mean.toFixed(5),
      run_id: it.checkpoint.sha256.slice(0, 8),
      report: `${protocol} ${it.metric}: ${titleOf(it)} on ${it.dataset} -> ${it.mean.toFixed(5)}` +
        (it.ci95 === null ? "" : ` +- ${it.ci95.toFixed(5)}`),
    })),
    { columns: [...COLUMNS] },
  ).replaceAll("\r\n", "\n");
  if (before === undefined || before.trim() === "") return text;
  const known = new Set(before.split("\n"));
  const added = text.split("\n").slice(1).filter((it) => it !== "" && !known.has(it));
  return `${before.replace(/\n*$/, "\n")}${added.map((it) => `${it}\n`).join("")}`;
}
