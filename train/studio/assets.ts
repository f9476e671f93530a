/**
 * The page: its modules, style and frame. Modules are the sources in page/ without their types;
 * nothing is built before, and nothing is loaded from elsewhere.
 *
 * @module
 */
import { stripTypeScriptTypes } from "node:module";
import { hooks, preact } from "../deps/preact_text.ts";
import { script as uplot, style as uplotStyle } from "../deps/uplot_text.ts";
import colours from "../visualize/colours.ts" with { type: "text" };
import groups from "../metrics/groups.ts" with { type: "text" };
import style from "./page/style.css" with { type: "text" };
import attention from "./page/attention.ts" with { type: "text" };
import batch from "./page/batch.ts" with { type: "text" };
import listen from "./page/listen.ts" with { type: "text" };
import map from "./page/map.ts" with { type: "text" };
import raster from "./page/raster.ts" with { type: "text" };
import record from "./page/record.ts" with { type: "text" };
import chart from "./page/chart.ts" with { type: "text" };
import client from "./page/client.ts" with { type: "text" };
import compute from "./page/compute.ts" with { type: "text" };
import curves from "./page/curves.ts" with { type: "text" };
import details from "./page/details.ts" with { type: "text" };
import elements from "./page/elements.ts" with { type: "text" };
import main from "./page/main.ts" with { type: "text" };
import metrics from "./page/metrics.ts" with { type: "text" };
import runs from "./page/runs.ts" with { type: "text" };
import saved from "./page/saved.ts" with { type: "text" };
import series from "./page/series.ts" with { type: "text" };
import words from "./page/words.ts" with { type: "text" };

/** Modules by where they are in train/, as pages import them. */
const SOURCES: Readonly<Record<string, string>> = {
  "metrics/groups.ts": groups,
  "visualize/colours.ts": colours,
  "studio/page/attention.ts": attention,
  "studio/page/batch.ts": batch,
  "studio/page/listen.ts": listen,
  "studio/page/map.ts": map,
  "studio/page/raster.ts": raster,
  "studio/page/record.ts": record,
  "studio/page/chart.ts": chart,
  "studio/page/client.ts": client,
  "studio/page/compute.ts": compute,
  "studio/page/curves.ts": curves,
  "studio/page/details.ts": details,
  "studio/page/elements.ts": elements,
  "studio/page/main.ts": main,
  "studio/page/metrics.ts": metrics,
  "studio/page/runs.ts": runs,
  "studio/page/saved.ts": saved,
  "studio/page/series.ts": series,
  "studio/page/words.ts": words,
};

/** What packages are in the page. */
const PACKAGES: Readonly<Record<string, string>> = {
  "deps/uplot.ts": `${uplot}\nexport default uPlot;\n`,
  "deps/preact.ts": 'export * from "./preact_core.js";\nexport * from "./preact_hooks.js";\n',
  "deps/preact_core.js": withoutMap(preact),
  "deps/preact_hooks.js": withoutMap(hooks).replace('"preact"', '"./preact_core.js"'),
};

function withoutMap(script: string): string {
  return script.replace(/\/\/# sourceMappingURL=.*\s*$/, "");
}

let made: ReadonlyMap<string, string> | undefined;

/** The page's modules as browsers run them, by path. */
export function modules(): ReadonlyMap<string, string> {
  return made ??= new Map([
    ...Object.entries(SOURCES).map(([path, text]) => [path, stripTypeScriptTypes(text)] as const),
    ...Object.entries(PACKAGES),
  ]);
}

/** The page's style, that of charts first. */
export const STYLE: string = `${uplotStyle}\n${style}`;

const HEAD = '<meta charset="utf-8">\n' +
  '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
  '<meta name="color-scheme" content="light dark">\n';

/** The frame of the page that the server gives out. */
export const INDEX: string = `<!doctype html>
<html lang="en">
<head>
${HEAD}<title>Tessera studio</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<script type="module" src="modules/studio/page/main.ts"></script>
</head>
<body><noscript>This page needs scripts.</noscript></body>
</html>
`;

/**
 * A page that needs nothing else: the modules with data behind them.
 *
 * @param title of the page
 * @param data what main.ts finds and shows
 */
export function savedPage(title: string, data: unknown): string {
  const found = modules();
  // Modules of one file find each other by names of a map, as they have no addresses.
  const named = [...found].map(([path, text]) => {
    const dir = path.split("/").slice(0, -1);
    const code = text.replace(
      /(\bfrom\s*|\bimport\s*)"(\.{1,2}\/[^"]+)"/g,
      (_, word, target) => `${word}"tessera/${resolved(dir, target)}"`,
    );
    return [`tessera/${path}`, `data:text/javascript;base64,${base64(code)}`];
  });
  const map = { imports: Object.fromEntries(named) };
  return `<!doctype html>
<html lang="en">
<head>
${HEAD}<title>${escapedText(title)}</title>
<style>${STYLE.replaceAll("</", "<\\/")}</style>
<script type="importmap">${scriptText(map)}</script>
<script type="application/json" id="saved">${scriptText(data)}</script>
<script type="module">import "tessera/studio/page/main.ts";</script>
</head>
<body></body>
</html>
`;
}

function resolved(dir: readonly string[], target: string): string {
  const parts = [...dir];
  for (const part of target.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

const base64 = (text: string): string => new TextEncoder().encode(text).toBase64();

/** JSON that may stand between script tags. */
const scriptText = (value: unknown): string => JSON.stringify(value).replaceAll("<", "\\u003c");

function escapedText(text: string): string {
  return text.replace(/[&<>]/g, (it) => `&#${it.charCodeAt(0)};`);
}
