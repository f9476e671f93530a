/**
 * The confusion matrix of a probe as a picture (SVG).
 *
 * @module
 */
import { escaped } from "../../visualize/markup.ts";

/** Largest number of classes whose cells have room for a number. */
const MOST_NUMBERED = 30;
const FONT = "font-family='Helvetica, Arial, sans-serif'";
/** Sizes of the title's first line, of those below it, and of what is said at the end. */
const [TITLE_SIZE, LINE_SIZE, NOTE_SIZE] = [17, 14, 12];
/** Blue for what is right, orange for what is not. */
const HUES = { right: [31, 90, 166], wrong: [201, 91, 18] } as const;

/** Between white and the hue; small shares are lifted so that they can be seen. */
function colour(share: number, [r, g, b]: readonly [number, number, number]): string {
  const weight = Math.sqrt(share);
  const mixed = [r, g, b].map((it) => Math.round(255 + (it - 255) * weight));
  return `rgb(${mixed.join(",")})`;
}

/**
 * At most how wide words are, of Helvetica and fonts like it: letters are up to 0.61 of the size,
 * capitals and wide letters 0.83 (bold, 0.89), those of other scripts as wide as high.
 */
function widthOf(words: string, size: number, bold = false): number {
  const wide = bold ? 0.89 : 0.83;
  return size * [...words].reduce((sum, it) => {
    if (/[il.,:;' |!]/.test(it)) return sum + 0.34;
    if (/[\u0020-\u017f]/.test(it)) return sum + (/[A-Zmw%@]/.test(it) ? wide : 0.61);
    return sum + 1;
  }, 0);
}

/**
 * The confusion matrix as a picture (SVG): rows are true classes, columns what they were taken for,
 * numbers percent of a row.
 *
 * @param title over it; lines are separated by newlines
 */
export function confusionSvg(
  classes: readonly string[],
  confusion: readonly (readonly number[])[],
  title: string,
): string {
  const count = classes.length;
  const numbered = count <= MOST_NUMBERED;
  const cell = numbered ? 44 : Math.max(10, Math.round(1300 / count));
  const size = numbered ? 14 : Math.max(7, Math.min(14, cell - 2));
  const labels = Math.ceil(Math.max(...classes.map((it) => widthOf(it, size)))) + 12;
  const lines = title.split("\n");
  const note = numbered
    ? "Numbers are percent of a row: of the clips of a class, over all folds and repeats."
    : "Shades are shares of a row; point at a cell for its numbers.";
  const top = 34 + 20 * lines.length;
  const left = 40 + labels;
  const above = top + 28 + labels;
  const [width, height] = [
    Math.ceil(Math.max(
      left + count * cell + 24,
      ...lines.map((it, i) => 48 + widthOf(it, i === 0 ? TITLE_SIZE : LINE_SIZE, i === 0)),
      48 + widthOf(note, NOTE_SIZE),
    )),
    above + count * cell + 40,
  ];
  const text = (x: number, y: number, content: string, rest = "") =>
    `<text x='${x}' y='${y}' ${rest}>${escaped(content)}</text>`;
  const parts = [
    `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${width} ${height}' width='${width}' ` +
    `height='${height}' ${FONT} font-size='${size}' fill='#222'>`,
    `<rect width='${width}' height='${height}' fill='white'/>`,
    ...lines.map((line, i) =>
      text(
        24,
        34 + 20 * i,
        line,
        i === 0 ? `font-size='${TITLE_SIZE}' font-weight='bold'` : `font-size='${LINE_SIZE}'`,
      )
    ),
    text(left + count * cell / 2, top + 12, "taken for", "text-anchor='middle' fill='#555'"),
    text(
      0,
      0,
      "is",
      `text-anchor='middle' fill='#555' transform='translate(24 ${
        above + count * cell / 2
      }) rotate(-90)'`,
    ),
  ];
  classes.forEach((name, i) => {
    const middle = (i + 0.5) * cell;
    parts.push(
      text(left - 8, above + middle + size * 0.35, name, "text-anchor='end'"),
      text(
        0,
        0,
        name,
        `transform='translate(${left + middle + size * 0.35} ${above - 8}) rotate(-90)'`,
      ),
    );
  });
  confusion.forEach((row, i) => {
    const all = row.reduce((a, b) => a + b, 0);
    row.forEach((n, j) => {
      const share = all === 0 ? 0 : n / all;
      const [x, y] = [left + j * cell, above + i * cell];
      parts.push(
        `<rect x='${x}' y='${y}' width='${cell}' height='${cell}' fill='${
          colour(share, i === j ? HUES.right : HUES.wrong)
        }' stroke='#ddd' stroke-width='0.5'><title>${escaped(classes[i])} taken for ${
          escaped(classes[j])
        }: ${n} of ${all}</title></rect>`,
      );
      if (!numbered || n === 0) return;
      const shown = 100 * share < 1 ? "<1" : (100 * share).toFixed(0);
      parts.push(
        text(
          x + cell / 2,
          y + cell / 2 + size * 0.35,
          shown,
          `text-anchor='middle' fill='${share > 0.3 ? "white" : "#222"}'`,
        ),
      );
    });
  });
  parts.push(
    text(24, height - 14, note, `font-size='${NOTE_SIZE}' fill='#555'`),
    "</svg>",
  );
  return `${parts.join("\n")}\n`;
}
