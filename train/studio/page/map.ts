/**
 * The view of a folder of sounds in two dimensions.
 *
 * @module
 */
import { h, type JSX, useEffect, useMemo, useRef, useState } from "../../deps/preact.ts";
import type { CollectionClip, MapAnswer, ModelItem } from "../api.ts";
import { address, askJson } from "./client.ts";
import { Choice, Note, useAnswer, usePlace } from "./elements.ts";
import { classStyle, MOST_CLASSES, SHAPES } from "../../visualize/colours.ts";

type Ready = Extract<MapAnswer, { state: "ready" }>;
type Point = readonly [x: number, y: number];
const HUES = MOST_CLASSES / SHAPES.length;
const ROOM = 18;
/** Pixels within which a point is meant. */
const NEAR = 14;

/** Whether a place is inside a line that is closed. */
export function isInside([x, y]: Point, line: readonly Point[]): boolean {
  let inside = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [[ax, ay], [bx, by]] = [line[i], line[j]];
    if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

/** Plays one sound at a time. */
export function usePlayer(): readonly [string | undefined, (source: string) => void] {
  const audio = useRef<HTMLAudioElement | undefined>(undefined);
  const [playing, setPlaying] = useState<string | undefined>();
  useEffect(() => () => audio.current?.pause(), []);
  return [playing, (source) => {
    audio.current?.pause();
    if (source === playing) return setPlaying(undefined);
    const next = audio.current = new Audio(source);
    setPlaying(source);
    const end = (): void => setPlaying((it) => it === source ? undefined : it);
    next.onended = next.onerror = end;
    next.play().catch(end);
  }];
}

/** Where a clip's sound is. */
export const clipAddress = (n: number): string => address("api/clip", { n });

function labelsOf(clips: readonly CollectionClip[]): string[] {
  const counts = new Map<string, number>();
  for (const { labels: [label] } of clips) {
    if (label !== undefined) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, MOST_CLASSES)
    .map(([label]) => label).sort();
}

const CROSS: readonly Point[] = [
  ...[[-0.4, -1.3], [0.4, -1.3], [0.4, -0.4], [1.3, -0.4], [1.3, 0.4], [0.4, 0.4]],
  ...[[0.4, 1.3], [-0.4, 1.3], [-0.4, 0.4], [-1.3, 0.4], [-1.3, -0.4], [-0.4, -0.4]],
].map(([x, y]): Point => [x, y]);

/** The outline of a mark around 0, 0. */
function mark(shape: (typeof SHAPES)[number], size: number): Path2D {
  const path = new Path2D();
  const corners: Record<string, readonly Point[]> = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    triangle: [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
    diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    cross: CROSS,
  };
  if (shape === "circle") path.arc(0, 0, size, 0, 2 * Math.PI);
  else {
    corners[shape].forEach(([x, y], i) =>
      i === 0 ? path.moveTo(size * x, size * y) : path.lineTo(size * x, size * y)
    );
    path.closePath();
  }
  return path;
}

/** The look of class number `i`: shapes change with hues, for eyes that tell few hues apart. */
function lookOf(i: number): ReturnType<typeof classStyle> {
  const turn = Math.floor(i / HUES);
  return { colour: classStyle(i % HUES).colour, shape: SHAPES[(i + turn) % SHAPES.length] };
}

function styleOf(labels: readonly string[], label: string | undefined) {
  const number = label === undefined ? -1 : labels.indexOf(label);
  return number < 0 ? undefined : lookOf(number);
}

function Legend({ labels, off, onToggle }: {
  readonly labels: readonly string[];
  readonly off: ReadonlySet<string>;
  readonly onToggle: (label: string) => void;
}): JSX.Element {
  return h(
    "div",
    { class: "legend", role: "group", "aria-label": "Labels that are shown" },
    labels.map((label, i) => {
      const { colour, shape } = lookOf(i);
      return h(
        "button",
        {
          ...{ type: "button", key: label, "aria-pressed": !off.has(label) },
          onClick: () => onToggle(label),
        },
        h("canvas", {
          ...{ width: 24, height: 24, "aria-hidden": "true" },
          ref: (canvas: HTMLCanvasElement | null) => {
            const context = canvas?.getContext("2d");
            if (!context) return;
            context.setTransform(1, 0, 0, 1, 12, 12);
            context.clearRect(-12, -12, 24, 24);
            context.fillStyle = colour;
            context.fill(mark(shape, 8));
          },
        }),
        label,
      );
    }),
  );
}

function Points({ map, kind, off, chosen, onChoose, theme }: {
  readonly map: Ready;
  readonly kind: "components" | "neighbours";
  readonly off: ReadonlySet<string>;
  readonly chosen: ReadonlySet<number>;
  readonly onChoose: (numbers: ReadonlySet<number>) => void;
  readonly theme: string;
}): JSX.Element {
  const { ref, width } = usePlace();
  const canvas = useRef<HTMLCanvasElement | null>(null);
  const [hover, setHover] = useState<number | undefined>();
  const [line, setLine] = useState<readonly Point[]>([]);
  const [playing, play] = usePlayer();
  const height = Math.max(300, Math.min(width * 0.72, innerHeight - 190));
  const labels = useMemo(() => labelsOf(map.clips), [map]);
  const points = map[kind] ?? map.components;
  const places = useMemo((): readonly Point[] => {
    const range = (i: number): Point => [
      points.reduce((a, it) => Math.min(a, it[i]), Infinity),
      points.reduce((a, it) => Math.max(a, it[i]), -Infinity),
    ];
    const [[left, right], [low, high]] = [range(0), range(1)];
    const [sx, sy] = [
      (width - 2 * ROOM) / (right - left || 1),
      (height - 2 * ROOM) / (high - low || 1),
    ];
    return points.map(([x, y]) => [ROOM + (x - left) * sx, height - ROOM - (y - low) * sy]);
  }, [points, width, height]);
  const size = map.clips.length > 1000 ? 3 : map.clips.length > 200 ? 4.5 : 6;
  const isOff = (i: number) => {
    const [label] = map.clips[i].labels;
    return label !== undefined && off.has(label);
  };

  useEffect(() => {
    const element = canvas.current;
    if (!element || width === 0) return;
    const scale = devicePixelRatio || 1;
    element.width = width * scale;
    element.height = height * scale;
    const context = element.getContext("2d")!;
    const colour = (name: string) => getComputedStyle(element).getPropertyValue(name).trim();
    const [other, ground, ink] = ["--faint", "--card", "--ink"].map(colour);
    places.forEach(([x, y], i) => {
      if (isOff(i)) return;
      const style = styleOf(labels, map.clips[i].labels[0]);
      context.setTransform(scale, 0, 0, scale, x * scale, y * scale);
      const shape = mark(style?.shape ?? "circle", size);
      context.globalAlpha = chosen.size > 0 && !chosen.has(i) ? 0.25 : 1;
      context.fillStyle = style?.colour ?? other;
      context.fill(shape);
      context.lineWidth = 0.7;
      context.strokeStyle = ground;
      context.stroke(shape);
    });
    context.globalAlpha = 1;
    if (hover !== undefined && places[hover]) {
      const [x, y] = places[hover];
      context.setTransform(scale, 0, 0, scale, x * scale, y * scale);
      context.lineWidth = 2;
      context.strokeStyle = ink;
      const ring = new Path2D();
      ring.arc(0, 0, size + 4, 0, 2 * Math.PI);
      context.stroke(ring);
    }
    if (line.length > 1) {
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.beginPath();
      line.forEach(([x, y], i) => i === 0 ? context.moveTo(x, y) : context.lineTo(x, y));
      context.closePath();
      context.setLineDash([5, 4]);
      context.lineWidth = 1.5;
      context.strokeStyle = ink;
      context.stroke();
    }
  }, [places, width, height, off, chosen, hover, line, theme]);

  const at = (event: PointerEvent): Point => {
    const box = canvas.current!.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const nearest = ([x, y]: Point): number | undefined => {
    let [best, least] = [-1, NEAR];
    places.forEach(([px, py], i) => {
      const distance = Math.hypot(px - x, py - y);
      if (distance < least && !isOff(i)) [best, least] = [i, distance];
    });
    return best < 0 ? undefined : best;
  };
  const playClip = (i: number): void => play(clipAddress(map.clips[i].n));
  const move = (event: PointerEvent): void => {
    const place = at(event);
    if (event.buttons === 1 && line.length > 0) setLine([...line, place]);
    else setHover(nearest(place));
  };
  const up = (event: PointerEvent): void => {
    const length = line.reduce(
      (sum, it, i) =>
        i === 0 ? 0 : sum + Math.hypot(it[0] - line[i - 1][0], it[1] - line[i - 1][1]),
      0,
    );
    setLine([]);
    if (length > 30) {
      const inside = places.flatMap((it, i) => !isOff(i) && isInside(it, line) ? [i] : []);
      onChoose(new Set(inside));
      return;
    }
    const found = nearest(at(event));
    if (found !== undefined) playClip(found);
  };
  const onKey = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      const count = map.clips.length;
      let next = hover ?? (step > 0 ? -1 : count);
      for (let i = 0; i < count; i++) {
        next = (next + step + count) % count;
        if (!isOff(next)) break;
      }
      setHover(next);
    } else if ((event.key === "Enter" || event.key === " ") && hover !== undefined) {
      event.preventDefault();
      playClip(hover);
    } else if (event.key === "Escape") onChoose(new Set());
  };
  const clip = hover === undefined ? undefined : map.clips[hover];
  const [x, y] = hover === undefined ? [0, 0] : places[hover];
  const words = clip
    ? [clip.name, clip.labels.join(", ")].filter((it) => it !== "").join(": ")
    : "";
  return h(
    "div",
    { class: "points", ref },
    h("canvas", {
      ref: canvas,
      style: `width:${width}px;height:${height}px`,
      ...{ tabIndex: 0, role: "application" },
      "aria-label": `Map of ${map.clips.length} clips. Arrows go from clip to clip, Enter plays ` +
        "one. With a pointer, draw around clips to choose them.",
      onPointerDown: (event: PointerEvent) => {
        (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
        setLine([at(event)]);
      },
      onPointerMove: move,
      onPointerUp: up,
      onPointerLeave: () => setHover(undefined),
      onKeyDown: onKey,
    }),
    clip
      ? h("div", {
        class: `tip ${x > width / 2 ? "left" : ""}`,
        style: `left:${x}px;top:${y}px`,
      }, words)
      : null,
    h("span", { class: "unseen", "aria-live": "polite" }, words),
    playing ? h("span", { class: "playing about" }, "playing") : null,
  );
}

function Chosen({ clips, chosen, onClear }: {
  readonly clips: readonly CollectionClip[];
  readonly chosen: ReadonlySet<number>;
  readonly onClear: () => void;
}): JSX.Element {
  const [filter, setFilter] = useState("");
  const [playing, play] = usePlayer();
  const rows = clips.filter((clip, i) =>
    (chosen.size === 0 || chosen.has(i)) &&
    [clip.name, ...clip.labels].join(" ").toLowerCase().includes(filter.toLowerCase())
  );
  const save = (): void => {
    const cell = (it: string) => /[",\n]/.test(it) ? `"${it.replaceAll('"', '""')}"` : it;
    const text = [
      "filename,label",
      ...rows.map((it) => `${cell(it.name)},${cell(it.labels.join(";"))}`),
    ];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text.join("\n")}\n`], { type: "text/csv" }));
    link.download = "chosen.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return h(
    "aside",
    { class: "card chosen", "aria-label": "Clips" },
    h(
      "div",
      { class: "tools" },
      h("input", {
        ...{ type: "search", "aria-label": "Filter clips", value: filter },
        placeholder: chosen.size > 0 ? `${chosen.size} chosen` : `Filter ${clips.length} clips`,
        onInput: (event: Event) => setFilter((event.target as HTMLInputElement).value),
      }),
      h("button", { type: "button", class: "main", onClick: save }, `Save ${rows.length} as list`),
      chosen.size > 0 ? h("button", { type: "button", onClick: onClear }, "Clear") : null,
    ),
    h(
      "ul",
      { class: "sounds" },
      rows.slice(0, 300).map((clip) =>
        h(
          "li",
          { key: clip.n },
          h("button", {
            type: "button",
            "aria-label": `Play ${clip.name}`,
            "aria-pressed": playing === clipAddress(clip.n),
            onClick: () => play(clipAddress(clip.n)),
          }, playing === clipAddress(clip.n) ? "◼" : "▶"),
          h("span", { class: "name", title: clip.name }, clip.name),
          h("span", { class: "about" }, clip.labels.join(", ")),
        )
      ),
    ),
    rows.length > 300 ? h("p", { class: "about" }, `and ${rows.length - 300} more`) : null,
  );
}

/** A choice of models; the first one where none is chosen. */
export function useModel(): {
  readonly model: string | undefined;
  readonly choice: JSX.Element;
} {
  const { value: models, error } = useAnswer(() => askJson<ModelItem[]>("api/models"), []);
  const [picked, setPicked] = useState<string | undefined>();
  const model = models?.find(({ id }) => id === picked)?.id ?? models?.[0]?.id;
  const choice = error ? h(Note, { kind: "error" }, error) : models?.length === 0
    ? h(
      Note,
      { kind: "warning" },
      "There is no model: start the studio with --checkpoint, or train a run.",
    )
    : h(
      "label",
      { class: "select" },
      h("span", {}, "Model"),
      h(
        "select",
        {
          value: model,
          onChange: (event: Event) => setPicked((event.target as HTMLSelectElement).value),
        },
        models?.map(({ id, title }) => h("option", { key: id, value: id }, title)),
      ),
    );
  return { model, choice };
}

/** The view. */
export function MapView({ collection, theme }: {
  readonly collection: string | null;
  readonly theme: string;
}): JSX.Element {
  const { model, choice } = useModel();
  const [answer, setAnswer] = useState<MapAnswer | undefined>();
  const [error, setError] = useState<string | undefined>();
  const [kind, setKind] = useState<"components" | "neighbours">("neighbours");
  const [off, setOff] = useState<ReadonlySet<string>>(new Set());
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const [wanted, setWanted] = useState(0);
  useEffect(() => {
    if (model === undefined || collection === null) return;
    let timer = 0;
    let ended = false;
    setAnswer(undefined);
    setError(undefined);
    const look = async (): Promise<void> => {
      try {
        const it = await askJson<MapAnswer>(address("api/map", { model }));
        if (ended) return;
        setAnswer(it);
        setError(it.state === "failed" ? it.error : undefined);
        if (it.state === "busy") timer = setTimeout(look, 700) as unknown as number;
      } catch (error) {
        if (!ended) setError((error as Error).message);
      }
    };
    void look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [model, collection, wanted]);
  if (collection === null) {
    return h(
      "main",
      { class: "map" },
      h(
        Note,
        {},
        "There is no folder of sounds. Start the studio with --collection FOLDER: a labelled " +
          "folder (audio/ and meta.csv), or any folder with audio in it.",
      ),
    );
  }
  const ready = answer?.state === "ready" ? answer : undefined;
  const toggle = (label: string): void => {
    const next = new Set(off);
    if (!next.delete(label)) next.add(label);
    setOff(next);
  };
  return h(
    "main",
    { class: "map" },
    h(
      "div",
      { class: "card controls" },
      choice,
      h(Choice<"components" | "neighbours">, {
        label: "Layout",
        options: [["neighbours", "UMAP"], ["components", "Principal components"]],
        value: ready && !ready.neighbours ? "components" : kind,
        onChange: setKind,
      }),
      h(
        "span",
        { class: "about hint" },
        "Point at a clip for its name, click to hear it, draw around several to list them.",
      ),
    ),
    error
      ? h(
        Note,
        { kind: "error" },
        error,
        " ",
        h("button", { type: "button", onClick: () => setWanted(wanted + 1) }, "Try again"),
      )
      : null,
    answer?.state === "busy"
      ? h(
        "div",
        { class: "card", role: "status" },
        h("p", {}, `${answer.words} …`),
        h("progress", { max: 1, value: answer.share, "aria-label": answer.words }),
      )
      : null,
    ready
      ? h(
        "div",
        { class: "map-grid" },
        h(
          "section",
          { class: "card", "aria-label": "Map" },
          h(Points, { map: ready, kind, off, chosen, onChoose: setChosen, theme }),
          h(Legend, { labels: labelsOf(ready.clips), off, onToggle: toggle }),
          h(
            "p",
            { class: "about" },
            kind === "neighbours" && ready.neighbours
              ? "UMAP keeps who is near to whom; distances between groups say little. "
              : `The two components of largest variance (${
                ready.shares.map((it) => `${(100 * it).toFixed(0)} %`).join(", ")
              }). `,
            `${ready.clips.length} clips${
              ready.skipped.length > 0 ? `, ${ready.skipped.length} skipped` : ""
            }; computed by ${ready.by} in ${ready.seconds.toFixed(0)} s with ${ready.model}.`,
          ),
        ),
        h(Chosen, { clips: ready.clips, chosen, onClear: () => setChosen(new Set()) }),
      )
      : null,
  );
}
