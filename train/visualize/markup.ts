/**
 * Elements of HTML and SVG as text.
 *
 * @module
 */

/** Text as it may stand in HTML and XML, which has no control characters, however written. */
export function escaped(text: string): string {
  return text.replace(/(?![\t\n\r])[\p{Cc}\p{Cs}\ufffe\uffff]/gu, "\ufffd").replace(
    /[&<>"']/g,
    (it) => `&#${it.charCodeAt(0)};`,
  );
}

/** Attributes of an element. */
export type Attributes = Readonly<Record<string, string | number>>;

/** An element; numbers are rounded to hundredths. */
export function tag(name: string, attributes: Attributes, content = ""): string {
  const list = Object.entries(attributes).map(([key, value]) =>
    ` ${key}="${typeof value === "number" ? Number(value.toFixed(2)) : escaped(value)}"`
  ).join("");
  return content === "" ? `<${name}${list}/>` : `<${name}${list}>${content}</${name}>`;
}

/** A line of words in the page's ink. */
export function text(x: number, y: number, words: string, attributes: Attributes = {}): string {
  return tag("text", { x, y, fill: "var(--ink)", ...attributes }, escaped(words));
}

/**
 * A drawing that is scrolled where the screen is too narrow for its words, by keys as well. Needs
 * the style `.wide { overflow-x: auto; }`.
 */
export function scrolling(label: string, drawing: string): string {
  return tag("div", { class: "wide", role: "group", "aria-label": label, tabindex: 0 }, drawing);
}
