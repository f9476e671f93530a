/**
 * Small parts of the page.
 *
 * @module
 */
import {
  type ComponentChildren,
  h,
  type JSX,
  useEffect,
  useRef,
  useState,
} from "../../deps/preact.ts";

/** How curves of runs look: colours first, then dashes, so that no two of forty are alike. */
export const LOOKS = { colours: 8, dashes: [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4]] } as const;

/** Look number `i`. */
export function lookOf(i: number): { readonly colour: string; readonly dash: readonly number[] } {
  return {
    colour: `--c${i % LOOKS.colours}`,
    dash: LOOKS.dashes[Math.floor(i / LOOKS.colours) % LOOKS.dashes.length],
  };
}

/** A short line as a curve is drawn. */
export function Swatch({ index }: { readonly index: number }): JSX.Element {
  const { colour, dash } = lookOf(index);
  return h(
    "svg",
    { class: "swatch", viewBox: "0 0 26 10", "aria-hidden": "true" },
    h("line", {
      ...{ x1: 1, y1: 5, x2: 25, y2: 5, "stroke-width": 3 },
      stroke: `var(${colour})`,
      "stroke-dasharray": dash.join(" "),
    }),
  );
}

/** A button that copies a text. */
export function Copy({ text }: { readonly text: string }): JSX.Element {
  const [done, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      // Not every browser lets pages do it; the text can be selected.
    }
  };
  return h("button", { type: "button", onClick: copy }, done ? "Copied" : "Copy");
}

/** A choice of a few. */
export function Choice<Name extends string>({ label, options, value, onChange }: {
  readonly label: string;
  readonly options: readonly (readonly [name: Name, words: string])[];
  readonly value: Name;
  readonly onChange: (name: Name) => void;
}): JSX.Element {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": label },
    options.map(([name, words]) =>
      h("button", {
        type: "button",
        key: name,
        "aria-pressed": name === value,
        onClick: () => onChange(name),
      }, words)
    ),
  );
}

/** Whether or not. */
export function Toggle({ label, value, onChange }: {
  readonly label: string;
  readonly value: boolean;
  readonly onChange: (value: boolean) => void;
}): JSX.Element {
  return h(
    "label",
    { class: "toggle" },
    h("input", { type: "checkbox", checked: value, onChange: () => onChange(!value) }),
    h("span", {}, label),
  );
}

/** Something to know. */
export function Note({ kind = "info", children }: {
  readonly kind?: "info" | "warning" | "error";
  readonly children?: ComponentChildren;
}): JSX.Element {
  return h("p", { class: `note ${kind}`, role: kind === "error" ? "alert" : "note" }, children);
}

/** A table: the first column names its rows. */
export function Table({ head, rows, caption }: {
  readonly head: readonly ComponentChildren[];
  readonly rows: readonly (readonly ComponentChildren[])[];
  readonly caption: string;
}): JSX.Element {
  return h(
    "div",
    { class: "scroll", tabIndex: 0, role: "group", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, head.map((it, i) => h("th", { scope: "col", key: i }, it)))),
      h(
        "tbody",
        {},
        rows.map((row, i) =>
          h(
            "tr",
            { key: i },
            row.map((it, j) =>
              j === 0 ? h("th", { scope: "row", key: j }, it) : h("td", { key: j }, it)
            ),
          )
        ),
      ),
    ),
  );
}

/** Width of an element as it is now, and whether it is on the screen. */
export function usePlace(): {
  readonly ref: { current: HTMLElement | null };
  readonly width: number;
  readonly visible: boolean;
} {
  const ref = useRef<HTMLElement | null>(null);
  const [width, setWidth] = useState(0);
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    const element = ref.current!;
    const sizes = new ResizeObserver(() => setWidth(element.clientWidth));
    const places = new IntersectionObserver(
      // The newest of what has happened since the last call.
      (entries) => setVisible(entries[entries.length - 1].isIntersecting),
      { rootMargin: "200px" },
    );
    sizes.observe(element);
    places.observe(element);
    return () => {
      sizes.disconnect();
      places.disconnect();
    };
  }, []);
  return { ref, width, visible };
}

/** What a promise came to, asked for again whenever `keys` change. */
export function useAnswer<Value>(
  get: (signal: AbortSignal) => Promise<Value>,
  keys: readonly unknown[],
): { readonly value?: Value; readonly error?: string; readonly busy: boolean } {
  const [state, setState] = useState<{ value?: Value; error?: string; busy: boolean }>({
    busy: true,
  });
  useEffect(() => {
    const ended = new AbortController();
    setState((it) => ({ ...it, busy: true }));
    get(ended.signal).then(
      (value) => !ended.signal.aborted && setState({ value, busy: false }),
      (error) =>
        !ended.signal.aborted &&
        setState((it) => ({ ...it, error: (error as Error).message, busy: false })),
    );
    return () => ended.abort();
  }, [...keys]);
  return state;
}
