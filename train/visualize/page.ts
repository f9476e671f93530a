/**
 * The report: pictures and sounds on one page that needs nothing else.
 *
 * @module
 */
import { escaped } from "./markup.ts";

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2330; --faint: #5f6877; --line: #d0d6de;
  --page: #ffffff; --panel: #f2f4f7; --first: #2f6fde; --second: #c2410c; --third: #15803d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #a3adbb; --line: #3a424f;
  --page: #14181f; --panel: #1e242d; --first: #6ea0ff; --second: #fb923c; --third: #4ade80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p { color: var(--faint); max-width: 62rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; min-width: 920px; height: auto;
  font: 12px system-ui, sans-serif; }
.wide { overflow-x: auto; }
figure { margin: 0.4rem 0; } figcaption { color: var(--faint); }
audio { width: 100%; max-width: 32rem; }
`;

/** A sound that can be played. */
export interface Player {
  /** What it is. */
  readonly title: string;
  /** A data URI. */
  readonly source: string;
}

/** Part of the report. */
export interface Section {
  /** Heading. */
  readonly title: string;
  /** What is seen, in plain words. */
  readonly words: readonly string[];
  /** Drawings. */
  readonly drawings?: readonly string[];
  /** Sounds. */
  readonly sounds?: readonly Player[];
}

/** A page; facts stand under its heading. @param style rules beside those of all pages */
export function page(
  title: string,
  facts: readonly (readonly [name: string, value: string])[],
  sections: readonly Section[],
  style = "",
): string {
  const list = facts.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`);
  const body = sections.map(({ title, words, drawings = [], sounds = [] }) =>
    [
      `<h2>${escaped(title)}</h2>`,
      ...words.map((it) => `<p>${escaped(it)}</p>`),
      ...drawings,
      ...sounds.map((it) =>
        `<figure><figcaption>${
          escaped(it.title)
        }</figcaption><audio controls src="${it.source}"></audio></figure>`
      ),
    ].join("\n")
  );
  return [
    "<!doctype html>",
    '<html lang="en">',
    `<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${
      escaped(title)
    }</title><style>${STYLE}${style}</style></head>`,
    "<body>",
    `<h1>${escaped(title)}</h1>`,
    `<dl>${list.join("")}</dl>`,
    ...body,
    "</body></html>",
    "",
  ].join("\n");
}
