/**
 * Curves of chosen runs: a chart for each metric.
 *
 * @module
 */
import { h, type JSX, useEffect, useMemo, useRef, useState } from "../../deps/preact.ts";
import type { RunItem } from "../api.ts";
import { Chart } from "./chart.ts";
import type { Source } from "./client.ts";
import { Note, Swatch, usePlace } from "./elements.ts";
import { meaningOf } from "./metrics.ts";
import type { Series } from "./series.ts";
import { duration, short, whole } from "./words.ts";

/** What all charts share. */
export interface CurveView {
  readonly x: "step" | "seconds";
  readonly logX: boolean;
  readonly logY: boolean;
  /** Rows that are averaged. */
  readonly smooth: number;
  readonly from?: number;
  readonly to?: number;
}

/** A chosen run. */
export interface Chosen {
  readonly run: RunItem;
  /** Number of its look. */
  readonly look: number;
}

const HEIGHT = 190;
/** Values that are written beside a chart. */
const MOST_VALUES = 6;
/** Runs up to which raw values are shown behind smoothed ones. */
const MOST_RAW = 8;
/** Milliseconds between two drawings of runs that are being written; more where they take long. */
const REST = 1_000;

interface Shown {
  readonly series: Series;
  readonly raw: boolean;
  readonly chosen: readonly Chosen[];
  readonly view: CurveView;
}

/** The value at a place, or the last one before it. */
function valueAt(values: ArrayLike<number>, index: number): number | undefined {
  for (let i = index; i >= 0 && i > index - 400; i--) {
    if (Number.isFinite(values[i])) return values[i];
  }
  return undefined;
}

/** The values beside a chart: newest ones, or those at the cursor, the nearest to it first. */
function valuesOf(
  { series: { x, y }, raw, chosen }: Shown,
  at: { readonly index: number; readonly y: number | undefined } | undefined,
) {
  const index = at?.index ?? x.length - 1;
  const first = raw ? y.length / 2 : 0;
  const all = chosen.map((it, i) => ({ ...it, value: valueAt(y[first + i] ?? [], index) }))
    .filter((it) => it.value !== undefined);
  const { y: wanted } = at ?? {};
  if (wanted !== undefined && all.length > MOST_VALUES) {
    all.sort((a, b) => Math.abs(a.value! - wanted) - Math.abs(b.value! - wanted));
  }
  return { place: at ? x[index] : undefined, values: all.slice(0, MOST_VALUES), of: all.length };
}

/** The chart of a metric. */
export function CurveCard({ source, metric, chosen, view, version, theme, onZoom }: {
  readonly source: Source;
  readonly metric: string;
  readonly chosen: readonly Chosen[];
  readonly view: CurveView;
  /** Changes when rows were written. */
  readonly version: number;
  readonly theme: string;
  readonly onZoom: (range: readonly [from: number, to: number] | undefined) => void;
}): JSX.Element {
  const { ref, width, visible } = usePlace();
  const [shown, setShown] = useState<Shown | undefined>();
  const [error, setError] = useState<string | undefined>();
  const [cursor, setCursor] = useState<{ index: number; y: number | undefined } | undefined>();
  const chart = useRef<Chart | undefined>(undefined);
  const latest = useRef({ onZoom, asked: 0, at: 0, took: 0, key: "" });
  latest.current.onZoom = onZoom;
  const having = useMemo(
    () => chosen.filter(({ run }) => run.metrics.includes(metric) || run.read < 1),
    [chosen, metric],
  );
  const ids = having.map(({ run, look }) => `${run.id}:${look}`).join("\n");

  useEffect(() => {
    if (!visible || width === 0) return;
    const number = ++latest.current.asked;
    const query = { runs: having.map(({ run }) => run.id), metric, log: view.logX, x: view.x };
    const range = { from: view.from, to: view.to, columns: Math.max(50, Math.floor(width)) };
    const get = async (): Promise<void> => {
      const raw = view.smooth > 1 && having.length <= MOST_RAW;
      latest.current.at = performance.now();
      try {
        const [series, behind] = await Promise.all([
          source.series({ ...query, ...range, smooth: view.smooth }),
          ...raw ? [source.series({ ...query, ...range, smooth: 1 })] : [],
        ]);
        if (number !== latest.current.asked) return;
        // What was written in between may be in the second alone.
        const both = raw && behind.x.length === series.x.length;
        const y = both ? [...behind.y, ...series.y] : series.y;
        setShown({ series: { x: series.x, y }, raw: both, chosen: having, view });
        setError(undefined);
        latest.current.took = performance.now() - latest.current.at;
      } catch (error) {
        if (number === latest.current.asked) setError((error as Error).message);
      }
    };
    // What the reader asks for comes at once, what was written after a rest.
    const asked = JSON.stringify({ ids, view });
    const pause = Math.max(REST, 10 * latest.current.took);
    const rest = asked === latest.current.key ? pause - (performance.now() - latest.current.at) : 0;
    latest.current.key = asked;
    const timer = setTimeout(get, Math.max(20, rest));
    return () => clearTimeout(timer);
  }, [visible, width, ids, metric, version, JSON.stringify(view)]);

  useEffect(() => {
    if (!shown || width === 0 || !ref.current) return;
    const element = ref.current.querySelector<HTMLElement>(".plot")!;
    chart.current ??= new Chart(element, {
      onZoom: (from, to) => latest.current.onZoom([from, to]),
      onCursor: (index, y) => setCursor(index === undefined ? undefined : { index, y }),
    });
    const { logX, logY, from, to } = shown.view;
    chart.current.show(shown.series, {
      ...{ width, height: HEIGHT, raw: shown.raw, logX, logY, from, to, theme },
      looks: shown.chosen.map(({ look }) => look),
      seconds: shown.view.x === "seconds",
    });
  }, [shown, width, theme]);

  useEffect(() => () => chart.current?.end(), []);

  const { title, about } = meaningOf(metric);
  const { place, values, of } = shown
    ? valuesOf(shown, cursor)
    : { place: undefined, values: [], of: 0 };
  const where = place === undefined
    ? ""
    : view.x === "step"
    ? `step ${whole(place)}`
    : duration(place);
  const words = values.map(({ run, value }) => `${run.name} ${short(value)}`).join(", ");
  const onKey = (event: KeyboardEvent): void => {
    const x = shown?.series.x;
    if (!x || x.length < 2) return;
    const [from, to] = [view.from ?? x[0], view.to ?? x[x.length - 1]];
    const quarter = (to - from) / 4;
    const moves: Record<string, readonly [number, number] | undefined> = {
      "+": [from + quarter, to - quarter],
      "=": [from + quarter, to - quarter],
      "-": [from - quarter, to + quarter],
      ArrowLeft: [from - quarter, to - quarter],
      ArrowRight: [from + quarter, to + quarter],
      "0": undefined,
    };
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    onZoom(moves[event.key]);
  };
  return h(
    "figure",
    {
      class: "card curve",
      ref,
      tabIndex: 0,
      role: "group",
      "aria-label": `${title} over ${view.x === "step" ? "steps" : "time"}; newest: ${words}. ` +
        "Plus and minus zoom, arrows move, 0 shows all.",
      onKeyDown: onKey,
      onDblClick: () => onZoom(undefined),
    },
    h(
      "figcaption",
      {},
      h("strong", { title: metric }, title),
      h("span", { class: "about" }, about),
    ),
    h(
      "div",
      { class: "values" },
      where === "" ? null : h("span", { class: "where" }, where),
      values.map(({ run, look, value }) =>
        h(
          "span",
          { key: run.id, title: run.name },
          h(Swatch, { index: look }),
          h("span", { class: "number" }, short(value)),
        )
      ),
      of > values.length ? h("span", { class: "about" }, `and ${of - values.length} more`) : null,
    ),
    h("div", { class: "plot", style: `height:${HEIGHT}px` }),
    error ? h(Note, { kind: "error" }, error) : null,
    shown && shown.series.x.length === 0 ? h("p", { class: "empty" }, "No values yet.") : null,
  );
}
