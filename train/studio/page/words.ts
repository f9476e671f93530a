/**
 * Numbers and times for people.
 *
 * @module
 */

/** A number in few characters. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e15) return value.toExponential(2).replace("e+", "e");
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]] as const) {
    if (size >= unit) {
      const scaled = value / (letter === "k" ? 1e3 : unit);
      return `${Number(scaled.toPrecision(3))}${letter}`;
    }
  }
  return String(Number(value.toPrecision(4)));
}

/** A whole number with its thousands apart. */
export function whole(value: number | null | undefined): string {
  return value === null || value === undefined || !Number.isFinite(value)
    ? "–"
    : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** The two largest units of a time. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const all = Math.max(0, Math.round(seconds));
  const parts = ([[86_400, "d"], [3_600, "h"], [60, "m"], [1, "s"]] as const)
    .map(([size, unit], i, units) => {
      const rest = i === 0 ? all : all % units[i - 1][0];
      return [Math.floor(rest / size), unit] as const;
    });
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** A value of a configuration. */
export function valueText(value: unknown): string {
  if (value === undefined || value === null) return "–";
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(valueText).join(", ");
  return JSON.stringify(value);
}
