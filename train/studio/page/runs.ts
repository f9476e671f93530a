/**
 * The view of runs: a list to choose from, curves, details.
 *
 * @module
 */
import { h, type JSX, useMemo, useRef, useState } from "../../deps/preact.ts";
import type { Overview, RunItem } from "../api.ts";
import { address, type Source } from "./client.ts";
import { type Chosen, CurveCard, type CurveView } from "./curves.ts";
import { Details } from "./details.ts";
import { Choice, Note, Swatch, Toggle } from "./elements.ts";
import { collapse, grouped, OPEN } from "./metrics.ts";
import { duration, short, whole } from "./words.ts";

/** Runs that are chosen at first. */
const FIRST = 5;
/** Rows that are averaged, by place of the slider. */
const SMOOTHING = [1, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] as const;

const TITLES: Readonly<Record<string, string>> = {
  loss: "Losses",
  evaluation: "Evaluation",
  collapse: "Collapse",
  optimizer: "Optimizer",
  teacher: "Teacher",
  speed: "Speed",
  memory: "Memory",
  progress: "Progress",
  other: "Other",
};
const WORDS: Readonly<Record<string, string>> = {
  collapse: "Whether representations still tell sounds apart. A spread that goes to 0, or few " +
    "targets that are all alike, means that the run has found a way to win without listening.",
};

function steps({ steps, total_steps: total, epochs }: RunItem): string {
  const length = total !== null ? whole(total) : epochs === null ? "" : `${epochs} epochs`;
  return length === "" ? whole(steps ?? 0) : `${whole(steps ?? 0)} / ${length}`;
}

function Run({ run, look, on, onToggle, source }: {
  readonly run: RunItem;
  readonly look: number;
  readonly on: boolean;
  readonly onToggle: () => void;
  readonly source: Source;
}): JSX.Element {
  const share = run.total_steps ? Math.min(1, (run.steps ?? 0) / run.total_steps) : undefined;
  const facts = [
    [run.objective, run.preset].filter((it) => it !== null).join(" "),
    run.samples_per_s === null ? "" : `${short(run.samples_per_s)} /s`,
    run.left !== null ? `${duration(run.left)} left` : duration(run.seconds),
  ].filter((it) => it !== "" && it !== "–");
  return h(
    "li",
    { class: `run ${on ? "on" : ""}` },
    h(
      "label",
      { title: run.name },
      h("input", { type: "checkbox", checked: on, onChange: onToggle }),
      h(Swatch, { index: look }),
      h("span", { class: "name" }, run.name),
      h("span", { class: `state ${run.state}` }, run.state),
    ),
    h(
      "div",
      { class: "facts" },
      h("span", { class: "number" }, steps(run)),
      facts.map((it) => h("span", { key: it }, it)),
      run.evaluation
        ? h("span", {}, `${run.evaluation.metric} ${(100 * run.evaluation.score).toFixed(1)} %`)
        : null,
      source.live
        ? h("a", {
          href: address("api/saved", { run: run.id }),
          download: "",
          "aria-label": `Save ${run.name} as a page`,
        }, "save")
        : null,
    ),
    share === undefined ? null : h(
      "div",
      { class: "bar", role: "presentation" },
      h("div", { style: `width:${(100 * share).toFixed(1)}%` }),
    ),
    run.read < 1 && on
      ? h("p", { class: "about" }, `reading: ${(100 * run.read).toFixed(0)} %`)
      : null,
    run.damaged > 0
      ? h(Note, { kind: "warning" }, `${run.damaged} damaged lines of metrics.jsonl passed over`)
      : null,
    run.message === undefined ? null : h(Note, { kind: "warning" }, run.message),
  );
}

/** Which runs are chosen, as long as the reader has not chosen: those that run, then the last. */
function firstChoice(runs: readonly RunItem[]): Set<string> {
  const begun = runs.filter(({ steps }) => steps !== null);
  const usable = begun.length > 0 ? begun : runs;
  const running = usable.filter(({ state }) => state === "running");
  const rest = usable.filter((it) => !running.includes(it)).reverse();
  return new Set([...running, ...rest].slice(0, FIRST).map(({ id }) => id));
}

function Verdicts({ chosen }: { readonly chosen: readonly Chosen[] }): JSX.Element | null {
  const found = chosen.flatMap(({ run }) => {
    const reasons = collapse(run.newest);
    return reasons.length === 0 ? [] : [`${run.name} looks collapsed: ${reasons.join(", ")}`];
  });
  if (found.length === 0) return null;
  return h(Note, { kind: "warning" }, found.join("; "));
}

/** The view. */
export function Runs({ source, overview, runs, grown, gone, theme }: {
  readonly source: Source;
  readonly overview: Overview;
  readonly runs: readonly RunItem[];
  /** How often each run has grown. */
  readonly grown: ReadonlyMap<string, number>;
  /** Runs that were there and are not any more. */
  readonly gone: readonly string[];
  readonly theme: string;
}): JSX.Element {
  const [picked, setPicked] = useState<ReadonlySet<string> | undefined>();
  const [filter, setFilter] = useState("");
  const [view, setView] = useState<CurveView>({
    ...{ x: "step", logX: false, logY: false, smooth: 1 },
  });
  const [open, setOpen] = useState<ReadonlySet<string>>(OPEN);
  // A run keeps its look while others come and go.
  const looks = useRef(new Map<string, number>());
  for (const { id } of runs) {
    if (!looks.current.has(id)) looks.current.set(id, looks.current.size);
  }
  const first = useRef<Set<string> | undefined>(undefined);
  if (!first.current?.size) first.current = firstChoice(runs);
  const ids = picked ?? first.current;
  const chosen: Chosen[] = useMemo(
    () =>
      runs.filter(({ id }) => ids.has(id)).map((run) => ({
        run,
        look: looks.current.get(run.id)!,
      })),
    [runs, ids],
  );
  const shown = runs.filter(({ name, objective, preset, state }) =>
    [name, objective, preset, state].join(" ").toLowerCase().includes(filter.toLowerCase())
  );
  const toggle = (id: string): void => {
    const next = new Set(ids);
    if (!next.delete(id)) next.add(id);
    setPicked(next);
  };
  const version = chosen.reduce((sum, { run }) => sum + (grown.get(run.id) ?? 0), 0);
  const metrics = new Set(chosen.flatMap(({ run }) => run.metrics));
  const zoom = (range: readonly [number, number] | undefined): void =>
    setView(({ from: _, to: __, ...it }) => range ? { ...it, from: range[0], to: range[1] } : it);

  const list = h(
    "aside",
    { class: "card list", "aria-label": "Runs" },
    source.live
      ? h(
        "div",
        { class: "tools" },
        h("input", {
          type: "search",
          placeholder: `Filter ${runs.length} runs`,
          "aria-label": "Filter runs",
          value: filter,
          onInput: (event: Event) => setFilter((event.target as HTMLInputElement).value),
        }),
        h("button", {
          type: "button",
          onClick: () => setPicked(new Set([...ids, ...shown.map(({ id }) => id)])),
        }, "All"),
        h("button", {
          type: "button",
          onClick: () => {
            const hidden = new Set(shown.map(({ id }) => id));
            setPicked(new Set([...ids].filter((id) => !hidden.has(id))));
          },
        }, "None"),
      )
      : null,
    h(
      "ul",
      {},
      shown.map((run) =>
        h(Run, {
          ...{ key: run.id, run, source, on: ids.has(run.id), onToggle: () => toggle(run.id) },
          look: looks.current.get(run.id)!,
        })
      ),
    ),
    runs.length === 0
      ? h(
        "p",
        { class: "empty" },
        `No runs in ${overview.folder}. One appears here as soon as deno task pretrain makes it.`,
      )
      : null,
  );

  const controls = h(
    "div",
    { class: "card controls", role: "toolbar", "aria-label": "How curves are drawn" },
    h(Choice<"step" | "seconds">, {
      label: "Along",
      options: [["step", "Steps"], ["seconds", "Time"]],
      value: view.x,
      // A part of one axis is none of the other.
      onChange: (x) => setView(({ from: _, to: __, ...it }) => ({ ...it, x })),
    }),
    h(Toggle, {
      label: "log x",
      value: view.logX,
      onChange: (logX) => setView((it) => ({ ...it, logX })),
    }),
    h(Toggle, {
      label: "log y",
      value: view.logY,
      onChange: (logY) => setView((it) => ({ ...it, logY })),
    }),
    h(
      "label",
      { class: "slider" },
      h("span", {}, "Smoothing"),
      h("input", {
        ...{ type: "range", min: 0, max: SMOOTHING.length - 1, step: 1 },
        value: SMOOTHING.indexOf(view.smooth as 1),
        "aria-valuetext": view.smooth === 1 ? "off" : `${view.smooth} rows`,
        onInput: (event: Event) => {
          const smooth = SMOOTHING[Number((event.target as HTMLInputElement).value)];
          setView((it) => ({ ...it, smooth }));
        },
      }),
      h("span", { class: "number amount" }, view.smooth === 1 ? "off" : `${view.smooth} rows`),
    ),
    view.from === undefined
      ? h("span", { class: "about hint" }, "Drag over a chart to zoom")
      : h("button", { type: "button", onClick: () => zoom(undefined) }, "Show all"),
  );

  const charts = grouped(metrics).map(([group, names]) =>
    h(
      "details",
      {
        key: group,
        class: "group",
        open: open.has(group),
        onToggle: (event: Event) => {
          const next = new Set(open);
          if ((event.currentTarget as HTMLDetailsElement).open) next.add(group);
          else next.delete(group);
          setOpen(next);
        },
      },
      h("summary", {}, h("h2", {}, TITLES[group] ?? group)),
      WORDS[group] ? h("p", { class: "about" }, WORDS[group]) : null,
      group === "collapse" ? h(Verdicts, { chosen }) : null,
      open.has(group)
        ? h(
          "div",
          { class: "grid" },
          names.map((metric) =>
            h(CurveCard, {
              ...{ key: metric, source, metric, chosen, view, version, theme, onZoom: zoom },
            })
          ),
        )
        : null,
    )
  );

  return h(
    "main",
    { class: "runs" },
    list,
    h(
      "div",
      { class: "column" },
      gone.map((id) =>
        h(Note, { kind: "warning", key: id }, `${id} was removed while it was watched.`)
      ),
      controls,
      chosen.length === 0 && runs.length > 0
        ? h("p", { class: "empty" }, "Choose runs on the list to see their curves.")
        : charts,
      chosen.length > 0
        ? h(Details, { source, chosen, version: chosen.map(({ run }) => run.state).join() })
        : null,
    ),
  );
}
