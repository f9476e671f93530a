/**
 * A chart of curves: uPlot in the page's colours.
 *
 * @module
 */
import uPlot from "../../deps/uplot.ts";
import { lookOf } from "./elements.ts";
import { duration, short } from "./words.ts";
import type { Series } from "./series.ts";

/** How a chart is drawn. */
export interface ChartLook {
  readonly width: number;
  readonly height: number;
  /** Numbers of looks of the curves, in their order. */
  readonly looks: readonly number[];
  /** Whether x counts seconds. */
  readonly seconds: boolean;
  /** Whether there are faint curves of raw values before the others. */
  readonly raw: boolean;
  readonly logX: boolean;
  readonly logY: boolean;
  /** What is seen; all where absent. */
  readonly from?: number;
  readonly to?: number;
  /** Changes with the page's colours. */
  readonly theme: string;
}

/** What happens in a chart. */
export interface ChartEvents {
  /** A part was chosen. */
  onZoom(from: number, to: number): void;
  /** The cursor is over a place, or gone. */
  onCursor(index: number | undefined, y: number | undefined): void;
}

/** Curves as uPlot takes them; what a logarithmic axis lacks is left out. */
function dataOf({ x, y }: Series, { logX, logY }: ChartLook): uPlot.AlignedData {
  const kept = logX ? Array.from(x, (_, i) => i).filter((i) => x[i] > 0) : undefined;
  const all = kept ? kept.map((i) => x[i]) : Array.from(x);
  return [
    all,
    ...y.map((values) => {
      const one = (value: number) => Number.isFinite(value) && (!logY || value > 0) ? value : null;
      return kept ? kept.map((i) => one(values[i])) : Array.from(values, one);
    }),
  ];
}

/** Seconds between marks of time. */
const TIMES = [
  ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200],
  ...[1, 2, 5, 10, 20, 50, 100].map((days) => 86_400 * days),
] as const;

/** Marks of a logarithmic axis: 1, 2 and 5 of each power of ten, even ones where those are few. */
export function logMarks(low: number, high: number): number[] {
  const powers = Math.log10(high / low);
  const first = Math.floor(Math.log10(low));
  const digits = powers > 4 ? [1] : powers > 2.5 ? [1, 3] : [1, 2, 5];
  const marks = Array.from({ length: Math.ceil(powers) + 2 }, (_, i) => first + i)
    .flatMap((power) => digits.map((it) => Number(`${it}e${power}`)))
    .filter((it) => it >= low && it <= high);
  if (marks.length >= 3) return marks;
  const rough = (high - low) / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * ([1, 2, 5].find((it) => it * size >= rough) ?? 10);
  const count = Math.floor(high / step) - Math.ceil(low / step) + 1;
  return Array.from(
    { length: count },
    (_, i) => Number(((Math.ceil(low / step) + i) * step).toPrecision(9)),
  );
}

/** Values up to which each has a point. */
const FEW = 24;

const filledOf = (values: Float32Array): number =>
  values.reduce((count, it) => count + Number(!Number.isNaN(it)), 0);

/** A chart in an element. */
export class Chart {
  readonly #element: HTMLElement;
  readonly #events: ChartEvents;
  #plot: uPlot | undefined;
  #key = "";

  constructor(element: HTMLElement, events: ChartEvents) {
    this.#element = element;
    this.#events = events;
  }

  /** Shows curves. */
  show(series: Series, look: ChartLook): void {
    const { width, height, ...rest } = look;
    const few = series.y.map((it) => filledOf(it) <= FEW);
    const key = JSON.stringify({ ...rest, few });
    const data = dataOf(series, look);
    if (this.#plot && key === this.#key) {
      if (this.#plot.width !== width || this.#plot.height !== height) {
        this.#plot.setSize({ width, height });
      }
      this.#plot.setData(data);
      return;
    }
    this.#plot?.destroy();
    this.#key = key;
    this.#plot = new uPlot(this.#options(look, series), data, this.#element);
  }

  /** Takes it away. */
  end(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  #options(look: ChartLook, series: Series): uPlot.Options {
    const count = series.y.length;
    const colour = (name: string) => getComputedStyle(this.#element).getPropertyValue(name).trim();
    const [faint, line, font] = [colour("--faint"), colour("--line"), "11px system-ui, sans-serif"];
    const { logX, logY, raw, looks, from, to, width, height, seconds } = look;
    const axis = {
      stroke: faint,
      font,
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1, size: 4 },
    };
    const values = (_: uPlot, splits: number[]) => splits.map((it) => it === null ? "" : short(it));
    const times = (_: uPlot, splits: number[]) =>
      splits.map((it) => it === null ? "" : it === 0 ? "0" : duration(it));
    const range = from !== undefined && to !== undefined
      ? { range: () => [from, to] as [number, number] }
      : {};
    const firstFull = raw ? count / 2 : 0;
    return {
      width,
      height,
      padding: [8, 20, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "studio", setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
      },
      scales: {
        x: { time: false, distr: logX ? 3 : 1, ...range },
        y: {
          distr: logY ? 3 : 1,
          // Not whole decades, which would leave most of the chart empty.
          ...(logY && {
            range: (_: uPlot, low: number | null, high: number | null): [number, number] =>
              low === null || high === null ? [0.1, 10] : [low / 1.08, high * 1.08],
          }),
        },
      },
      axes: [
        {
          ...{ ...axis, size: 26, gap: 3, space: 72 },
          ...(seconds ? { values: times, ...(!logX && { incrs: [...TIMES] }) } : { values }),
        },
        {
          ...{ ...axis, size: 50, gap: 3, space: 30, values },
          ...(logY && {
            splits: (_: uPlot, __: number, low: number, high: number) => logMarks(low, high),
            filter: (_: uPlot, splits: number[]) => splits,
          }),
        },
      ],
      series: [
        {},
        ...Array.from({ length: count }, (_, i): uPlot.Series => {
          const { colour: name, dash } = lookOf(looks[i % looks.length]);
          const isFaint = i < firstFull;
          return {
            stroke: colour(name),
            width: isFaint ? 1 : count > 12 ? 1.25 : 1.75,
            alpha: isFaint ? 0.28 : 1,
            dash: [...dash],
            spanGaps: true,
            // Rows that stand alone have no line.
            points: { show: filledOf(series.y[i]) <= FEW, size: 5 },
          };
        }),
      ],
      hooks: {
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width < 6) return;
          const [a, b] = [left, left + width].map((it) => plot.posToVal(it, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.#events.onZoom(a, b);
        }],
        setCursor: [(plot) => {
          const { idx, top } = plot.cursor;
          const y = top === undefined || top < 0 ? undefined : plot.posToVal(top, "y");
          this.#events.onCursor(idx ?? undefined, y);
        }],
      },
    };
  }
}
