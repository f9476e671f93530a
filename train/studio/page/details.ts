/**
 * More of chosen runs: how their configurations differ, scores, skipped files, how to go on.
 *
 * @module
 */
import { h, type JSX, useState } from "../../deps/preact.ts";
import type { RunDetails } from "../api.ts";
import { Batch } from "./batch.ts";
import type { Source } from "./client.ts";
import type { Chosen } from "./curves.ts";
import { Choice, Copy, Note, Swatch, Table, Toggle, useAnswer } from "./elements.ts";
import { valueText, whole } from "./words.ts";

type Known = readonly (Chosen & { readonly details: RunDetails })[];

/** Runs whose details are shown. */
const MOST = 12;

const TABS = [
  ["differences", "Configuration"],
  ["batch", "Batch"],
  ["evaluation", "Evaluation"],
  ["skipped", "Skipped files"],
  ["resume", "Go on"],
] as const;
type Tab = (typeof TABS)[number][0];

function runName({ run, look }: Chosen): JSX.Element {
  return h("span", { class: "run-name" }, h(Swatch, { index: look }), h("span", {}, run.name));
}

function Differences({ known }: { readonly known: Known }): JSX.Element {
  const [all, setAll] = useState(false);
  const rows = [
    ...known.map(({ details }) => details.options ?? {}),
  ];
  const machines = known.map(({ details }) => details.machine);
  const names = [...new Set(rows.flatMap(Object.keys))].sort();
  const texts = (name: string) => rows.map((it) => valueText(it[name]));
  const differs = (it: readonly string[]) => new Set(it).size > 1;
  const one = known.length === 1;
  const shown = names.map((it) => [it, texts(it)] as const)
    .filter(([, it]) => all || one || differs(it));
  const keys = [...new Set(machines.flatMap(Object.keys))];
  const about = keys.map((it) => [it, machines.map((machine) => machine[it] ?? "–")] as const)
    .filter(([, it]) => all || one || differs(it));
  return h(
    "div",
    {},
    one ? null : h(Toggle, { label: "Options that are alike, too", value: all, onChange: setAll }),
    known.filter(({ details }) => !details.options).map(({ run }) =>
      h(Note, { kind: "warning", key: run.id }, `${run.name}: config.json cannot be read.`)
    ),
    shown.length + about.length === 0
      ? h("p", { class: "empty" }, "These runs have the same configuration.")
      : h(Table, {
        caption: "Configuration of the chosen runs",
        head: ["option", ...known.map(runName)],
        rows: [...shown, ...about].map(([name, values]) => [
          name,
          ...values.map((it) => h("span", { class: differs(values) ? "differs" : "" }, it)),
        ]),
      }),
  );
}

function Evaluation({ known }: { readonly known: Known }): JSX.Element {
  const having = known.filter(({ details }) => details.evaluations.length > 0);
  if (having.length === 0) {
    return h("p", { class: "empty" }, "None of these runs was evaluated; pretrain --eval does it.");
  }
  const steps = [
    ...new Set(having.flatMap(({ details }) => details.evaluations.map((it) => it.step))),
  ]
    .sort((a, b) => a - b);
  const best = (it: RunDetails) => Math.max(...it.evaluations.map(({ score }) => score));
  return h(Table, {
    caption: "Scores of the linear probe, by step",
    head: ["step", ...having.map(runName)],
    rows: steps.map((step) => [
      whole(step),
      ...having.map(({ details }) => {
        const score = details.evaluations.find((it) => it.step === step)?.score;
        if (score === undefined) return "–";
        const words = `${(100 * score).toFixed(1)} % ${details.metric ?? ""}`;
        return score === best(details)
          ? h("strong", { title: "the best of the run" }, words)
          : words;
      }),
    ]),
  });
}

function Skipped({ known }: { readonly known: Known }): JSX.Element {
  const rows = known.flatMap(({ run, details }) =>
    details.skipped.map(({ path, reason }) => ({ run, path, reason }))
  );
  const count = known.reduce((sum, { details }) => sum + details.skippedCount, 0);
  if (count === 0) return h("p", { class: "empty" }, "No file was skipped.");
  return h(
    "div",
    {},
    rows.length < count
      ? h("p", { class: "about" }, `The first ${rows.length} of ${count}.`)
      : null,
    h(Table, {
      caption: "Skipped files",
      head: ["file", "reason", "run"],
      rows: rows.map(({ run, path, reason }) => [path, reason, run.name]),
    }),
  );
}

function Resume({ known }: { readonly known: Known }): JSX.Element {
  const having = known.filter(({ details }) => details.resume !== null);
  return h(
    "div",
    {},
    having.length === 0
      ? h(
        "p",
        { class: "empty" },
        "None of these runs was interrupted: there is nothing to go on with.",
      )
      : having.map(({ run, details }) =>
        h(
          "div",
          { class: "command", key: run.id },
          h("code", { tabIndex: 0 }, details.resume),
          h(Copy, { text: details.resume! }),
        )
      ),
  );
}

/** The part below the charts. */
export function Details({ source, chosen, version }: {
  readonly source: Source;
  readonly chosen: readonly Chosen[];
  readonly version: string;
}): JSX.Element {
  const [tab, setTab] = useState<Tab>("differences");
  const asked = chosen.slice(0, MOST);
  const { value, error } = useAnswer(
    () =>
      Promise.all(asked.map(async (it) => {
        // One that is gone does not take the others away.
        const details = await source.details(it.run.id).catch((error: Error) => error);
        return { ...it, details };
      })),
    [asked.map(({ run }) => run.id).join("\n"), version],
  );
  const known = (value ?? []).flatMap((it) =>
    it.details instanceof Error ? [] : [{ ...it, details: it.details }]
  );
  const gone = (value ?? []).filter((it) => it.details instanceof Error);
  const parts: Record<Tab, JSX.Element> = {
    differences: h(Differences, { known }),
    batch: h(Batch, { chosen }),
    evaluation: h(Evaluation, { known }),
    skipped: h(Skipped, { known }),
    resume: h(Resume, { known }),
  };
  return h(
    "section",
    { class: "card details", "aria-label": "Details of the chosen runs" },
    h(Choice<Tab>, {
      label: "Details",
      options: source.live ? TABS : TABS.filter(([it]) => it !== "batch"),
      value: tab,
      onChange: setTab,
    }),
    error ? h(Note, { kind: "error" }, error) : null,
    gone.map(({ run, details }) =>
      h(Note, { kind: "warning", key: run.id }, `${run.name}: ${(details as Error).message}`)
    ),
    chosen.length > MOST ? h("p", { class: "about" }, `Of the first ${MOST} chosen runs.`) : null,
    known.length > 0 ? parts[tab] : null,
  );
}
