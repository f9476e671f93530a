/**
 * The spectrogram of a sound with its patches, and whom a chosen one attends to.
 *
 * @module
 */
import {
  type ComponentChildren,
  h,
  type JSX,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "../../deps/preact.ts";
import type { AttentionAnswer, Chunk, SoundAnswer } from "../api.ts";
import { address, askJson } from "./client.ts";
import { Choice, Note, useAnswer } from "./elements.ts";
import { ColourBar, drawBytes, floatsOf, MAPS, Raster } from "./raster.ts";

/** Seconds of marks below a sound, about eight of them. */
function marksOf(length: number): number[] {
  const step = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20].find((it) => length / it <= 8) ?? 30;
  return Array.from({ length: Math.floor(length / step) + 1 }, (_, i) => i * step)
    .filter((it) => it < 0.97 * length);
}

/** Weights of a layer and a head, or their mean over heads, times tokens; patches alone. */
function weightsOf(
  { layers, heads, tokens, classTokens }: AttentionAnswer,
  all: Float32Array,
  layer: number,
  head: number | "mean",
): Float32Array {
  const chosen = head === "mean" ? Array.from({ length: heads }, (_, i) => i) : [head];
  const at = (it: number) => (Math.min(layer, layers - 1) * heads + it) * tokens;
  return Float32Array.from(
    { length: tokens - classTokens },
    (_, i) =>
      chosen.reduce((sum, it) => sum + all[at(it) + classTokens + i], 0) / chosen.length * tokens,
  );
}

/** Multiples of an even spread as bytes: an eighth of it to eight times it, by powers of two. */
const toByte = (value: number): number => 255 * (Math.log2(Math.max(value, 1e-6)) + 3) / 6;

function Small({ values, rows, columns, label, on, onChoose }: {
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
  readonly label: string;
  readonly on: boolean;
  readonly onChoose: () => void;
}): JSX.Element {
  const ref = useRef<HTMLCanvasElement | null>(null);
  useEffect(() => {
    drawBytes(ref.current!, Array.from(values, toByte), rows, columns, MAPS.magma);
  }, [values]);
  return h(
    "button",
    { type: "button", class: "small", "aria-pressed": on, "aria-label": label, onClick: onChoose },
    h("canvas", { ref, class: "raster" }),
  );
}

/** A spectrogram between its axes, and what lies over it. */
function Axes({ sound, wide, time, children, ...rest }: {
  readonly sound: SoundAnswer;
  /** Seconds that it is wide. */
  readonly wide: number;
  readonly time: number | undefined;
  readonly children?: ComponentChildren;
  readonly "aria-label": string;
  readonly role: "application" | "group";
  readonly onClick: (event: MouseEvent) => void;
  readonly onKeyDown?: (event: KeyboardEvent) => void;
}): JSX.Element {
  return h(
    "div",
    { class: "with-axis" },
    h(
      "div",
      { class: "hertz", "aria-hidden": "true" },
      sound.hertz.map(([hz, share]) =>
        h(
          "span",
          { key: hz, style: `bottom:${percent(share)}` },
          hz < 1000 ? hz : `${hz / 1000}k`,
        )
      ),
    ),
    h(
      "div",
      { class: "spectrogram", ...rest.onKeyDown && { tabIndex: 0 }, ...rest },
      h(Raster, { picture: sound.spectrogram, label: "Log-mel spectrogram" }),
      children,
      time === undefined
        ? null
        : h("div", { class: "head", style: `left:${percent(time / wide)}` }),
    ),
    h(
      "div",
      { class: "seconds", "aria-hidden": "true" },
      marksOf(wide).map((it) =>
        h("span", { key: it, style: `left:${percent(it / wide)}` }, `${Number(it.toFixed(2))} s`)
      ),
    ),
  );
}

const percent = (it: number): string => `${(100 * it).toFixed(3)}%`;

/** Where a pointer is in an element: from 0 at the left and at the bottom to 1. */
function placeOf(event: MouseEvent): readonly [x: number, y: number] {
  const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
}

interface SpectrogramProps {
  readonly sound: SoundAnswer;
  /** Weights of a token, where the page computes; else the server's. */
  readonly attention?: (patch: number | "class") => Promise<AttentionAnswer>;
  /** Where it is played. */
  readonly time: number | undefined;
  readonly onSeek: (seconds: number) => void;
}

/** The sound, and its attention where there is one to show. */
export function Spectrogram(props: SpectrogramProps): JSX.Element {
  const { sound, time, onSeek } = props;
  const { chunk, length } = sound;
  if (chunk) return h(Attention, { ...props, chunk });
  return h(
    "section",
    { class: "card", "aria-label": "Spectrogram" },
    h("div", { class: "tools" }, h("h2", {}, "Log-mel spectrogram")),
    h(Axes, {
      ...{ sound, wide: length, time, role: "group" },
      "aria-label": `Spectrogram, ${length.toFixed(2)} seconds.`,
      onClick: (event) => onSeek(placeOf(event)[0] * length),
    }),
    h("p", { class: "about" }, `As the model gets it: ${sound.frontend}.`),
  );
}

function Attention({ sound, attention, time, onSeek, chunk }: SpectrogramProps & {
  readonly chunk: Chunk;
}): JSX.Element {
  const { length } = sound;
  const [patch, setPatch] = useState<number | "class">(chunk.loudest);
  const [layer, setLayer] = useState(chunk.layers - 1);
  const [head, setHead] = useState<number | "mean">("mean");
  const [overlaid, setOverlaid] = useState<"show" | "hide">("show");
  const overlay = useRef<HTMLCanvasElement | null>(null);
  const { value, error, busy } = useAnswer(
    () =>
      attention?.(patch) ??
        askJson<AttentionAnswer>(address("api/attention", { id: sound.id, patch })),
    [sound, patch],
  );
  const weights = useMemo(() => value && floatsOf(value.weights), [value]);
  const { rows, columns } = chunk;
  const shown = useMemo(
    () => value && weights ? weightsOf(value, weights, layer, head) : undefined,
    [value, weights, layer, head],
  );
  useEffect(() => {
    if (!overlay.current || !shown) return;
    drawBytes(overlay.current, Array.from(shown, toByte), rows, columns, MAPS.magma);
  }, [shown, overlaid]);
  const wide = length > 0 ? Math.max(length, chunk.start + chunk.length) : chunk.length;
  const [first, span] = [chunk.start / wide, chunk.length / wide];
  const row = patch === "class" ? 0 : Math.floor(patch / columns);
  const column = patch === "class" ? 0 : patch % columns;
  const choose = (event: MouseEvent): void => {
    const [x, y] = placeOf(event);
    const [c, r] = [Math.floor((x - first) / span * columns), Math.floor(y * rows)];
    if (c >= 0 && c < columns && r >= 0 && r < rows) setPatch(r * columns + c);
    onSeek(x * wide);
  };
  const onKey = (event: KeyboardEvent): void => {
    const [dr, dc] = {
      ...{ ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] },
    }[event.key] ?? [0, 0];
    if (dr === 0 && dc === 0) return;
    event.preventDefault();
    const [r, c] = [row + dr, column + dc];
    if (r >= 0 && r < rows && c >= 0 && c < columns) setPatch(r * columns + c);
  };
  const seconds = chunk.start + column * chunk.length / columns;
  const words = patch === "class"
    ? "the class token"
    : `the patch at ${seconds.toFixed(2)} s, row ${row + 1} of ${rows}`;
  return h(
    "section",
    { class: "card", "aria-label": "Spectrogram and attention" },
    h(
      "div",
      { class: "tools" },
      h("h2", {}, "Log-mel spectrogram"),
      h(
        "label",
        { class: "slider" },
        h("span", {}, `Layer ${layer + 1}`),
        h("input", {
          ...{ type: "range", min: 0, max: chunk.layers - 1, value: layer },
          onInput: (event: Event) => setLayer(Number((event.target as HTMLInputElement).value)),
        }),
      ),
      h(Choice<string>, {
        label: "Head",
        options: [
          ["mean", "All heads"],
          ...Array.from({ length: chunk.heads }, (_, i) => [`${i}`, `${i + 1}`] as const),
        ],
        value: String(head),
        onChange: (it) => setHead(it === "mean" ? it : Number(it)),
      }),
      chunk.classToken
        ? h("button", {
          ...{ type: "button", "aria-pressed": patch === "class", class: "press" },
          onClick: () => setPatch(patch === "class" ? chunk.loudest : "class"),
        }, "Class token")
        : null,
      h("button", {
        ...{ type: "button", "aria-pressed": overlaid === "show", class: "press" },
        onClick: () => setOverlaid(overlaid === "show" ? "hide" : "show"),
      }, "Attention"),
    ),
    error ? h(Note, { kind: "error" }, error) : null,
    h(
      Axes,
      {
        ...{ sound, wide, time, role: "application", onClick: choose, onKeyDown: onKey },
        "aria-label": `Spectrogram, ${length.toFixed(2)} seconds. Chosen: ${words}. ` +
          "Arrows choose another patch.",
      },
      overlaid === "show" && shown
        ? h("canvas", {
          ...{ ref: overlay, class: "overlay", "aria-hidden": "true" },
          style: `left:${percent(first)};width:${percent(span)}`,
        })
        : null,
      h("div", {
        class: "frame",
        style: `left:${percent(first)};width:${percent(span)}`,
      }),
      patch === "class" ? null : h("div", {
        class: "patch",
        style:
          `left:${percent(first + column / columns * span)};width:${percent(span / columns)};` +
          `bottom:${percent(row / rows)};height:${percent(1 / rows)}`,
      }),
    ),
    h(
      "p",
      { class: "about facts-line" },
      h(ColourBar, { map: "magma", low: "⅛", high: "8", words: "times an even spread" }),
      `Whom ${words} attends to, inside the outlined chunk, all patches visible.`,
      busy ? " computing …" : "",
    ),
    h("p", { class: "about" }, `As the model gets it: ${sound.frontend}.`),
    value && weights
      ? h(
        "details",
        { class: "every" },
        h("summary", {}, `All ${value.layers} layers and ${value.heads} heads`),
        h(
          "div",
          {
            class: "smalls",
            style: `grid-template-columns:repeat(${value.layers},minmax(44px,140px))`,
          },
          Array.from({ length: value.heads * value.layers }, (_, i) => {
            const [h1, l] = [Math.floor(i / value.layers), i % value.layers];
            return h(Small, {
              ...{ key: i, rows, columns, on: l === layer && h1 === head },
              values: weightsOf(value, weights, l, h1),
              label: `Layer ${l + 1}, head ${h1 + 1}`,
              onChoose: () => {
                setLayer(l);
                setHead(h1);
              },
            });
          }),
        ),
      )
      : null,
  );
}
