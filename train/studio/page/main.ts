/**
 * The page: where it has its data from, its views, light and dark.
 *
 * @module
 */
import { h, type JSX, render, useEffect, useState } from "../../deps/preact.ts";
import type { Overview, RunItem } from "../api.ts";
import { SERVER, type Source } from "./client.ts";
import { Choice, Note, useAnswer } from "./elements.ts";
import { Listen } from "./listen.ts";
import { MapView } from "./map.ts";
import { Runs } from "./runs.ts";
import { savedRun, savedSource } from "./saved.ts";

const THEMES = [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]] as const;
type Theme = (typeof THEMES)[number][0];

/** Storage that is not there for every page. */
function remembered(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It is as it was chosen until the page is closed.
  }
}

function useTheme(): readonly [Theme, (theme: Theme) => void, string] {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const [theme, setTheme] = useState<Theme>(
    () => THEMES.find(([name]) => name === remembered("theme"))?.[0] ?? "auto",
  );
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const hear = (): void => setDark(dark.matches);
    dark.addEventListener("change", hear);
    return () => dark.removeEventListener("change", hear);
  }, []);
  const shown = theme === "auto" ? isDark ? "dark" : "light" : theme;
  document.documentElement.dataset.theme = shown;
  const choose = (it: Theme): void => {
    remember("theme", it);
    setTheme(it);
  };
  return [theme, choose, shown];
}

type View = "runs" | "listen" | "map";
const VIEWS: readonly (readonly [View, string])[] = [
  ["runs", "Runs"],
  ["listen", "Listen"],
  ["map", "Map"],
];

function useHash(): View {
  const read = (): View =>
    VIEWS.find(([name]) => location.hash.slice(1).split("?")[0] === name)?.[0] ?? "runs";
  const [view, setView] = useState<View>(read);
  useEffect(() => {
    const hear = (): void => setView(read());
    addEventListener("hashchange", hear);
    return () => removeEventListener("hashchange", hear);
  }, []);
  return view;
}

function App({ source, overview, about }: {
  readonly source: Source;
  readonly overview: Overview;
  readonly about: string;
}): JSX.Element {
  const [theme, chooseTheme, shownTheme] = useTheme();
  const view = useHash();
  const [runs, setRuns] = useState<readonly RunItem[]>(overview.runs);
  const [grown, setGrown] = useState<ReadonlyMap<string, number>>(new Map());
  const [gone, setGone] = useState<readonly string[]>([]);
  const [up, setUp] = useState(true);
  useEffect(() =>
    source.listen((event) => {
      if (event.kind === "runs") {
        setRuns((before) => {
          const now = new Set(event.runs.map(({ id }) => id));
          const lost = before.filter(({ id }) => !now.has(id)).map(({ id }) => id);
          setGone((it) => [...it.filter((id) => !now.has(id)), ...lost]);
          return event.runs;
        });
      } else {
        setGrown((it) => {
          const next = new Map(it);
          for (const id of event.runs) next.set(id, (next.get(id) ?? 0) + 1);
          return next;
        });
      }
    }, setUp), [source]);
  return h(
    "div",
    { class: "page" },
    h(
      "header",
      {},
      h("h1", {}, "Tessera"),
      source.live
        ? h(
          "nav",
          { "aria-label": "Views" },
          VIEWS.map(([name, words]) =>
            h("a", {
              ...{ key: name, href: `#${name}` },
              "aria-current": name === view ? "page" : undefined,
            }, words)
          ),
        )
        : null,
      h("span", { class: "about where", title: about }, about),
      h(Choice<Theme>, {
        ...{ label: "Colours", options: THEMES, value: theme, onChange: chooseTheme },
      }),
    ),
    h(
      "div",
      { "aria-live": "polite" },
      up ? null : h(Note, { kind: "error" }, "The server does not answer; was it ended?"),
      overview.notes.map((it) => h(Note, { kind: "warning", key: it }, it)),
    ),
    view === "listen" && source.live
      ? h(Listen, { overview })
      : view === "map" && source.live
      ? h(MapView, { collection: overview.collection, theme: shownTheme })
      : h(Runs, { source, overview, runs, grown, gone, theme: shownTheme }),
  );
}

function Start(
  { source, about }: { readonly source: Source; readonly about?: string },
): JSX.Element {
  const { value, error } = useAnswer(() => source.overview(), []);
  if (error !== undefined) return h(Note, { kind: "error" }, error);
  if (!value) return h("p", { class: "empty" }, "Looking for runs …");
  return h(App, { source, overview: value, about: about ?? value.folder });
}

const saved = savedRun();
const about = saved && `${saved.item.name}, saved ${saved.date.slice(0, 16).replace("T", " ")} UTC`;
const source = saved ? savedSource(saved) : SERVER;
render(h(Start, { source, about }), document.body);
