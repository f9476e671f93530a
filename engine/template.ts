/**
 * The template language of the kernels: //:for, //:if and //:include lines, $name and ${expression}
 * (kernels/README.md, The template language). Loops of WGSL are dear, so kernels unroll in the
 * text.
 *
 * @module
 */
import { KernelError } from "./errors.ts";

/**
 * Values of a kernel's constants: numbers and flags take part in expressions, strings are pasted.
 */
export type Constants = Readonly<Record<string, number | boolean | string>>;

const TOKEN = /\s*(?:(\d+)|([A-Za-z_]\w*)|(==|!=|<=|>=|&&|\|\||[-+*/%()<>!]))/y;

const BINARY: readonly Record<string, (a: number, b: number) => number>[] = [
  { "||": (a, b) => (a || b) ? 1 : 0 },
  { "&&": (a, b) => (a && b) ? 1 : 0 },
  { "==": (a, b) => +(a === b), "!=": (a, b) => +(a !== b) },
  {
    "<": (a, b) => +(a < b),
    ">": (a, b) => +(a > b),
    "<=": (a, b) => +(a <= b),
    ">=": (a, b) => +(a >= b),
  },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => Math.trunc(a / b), "%": (a, b) => a % b },
];

/**
 * Evaluates an integer expression over constants.
 *
 * @throws {KernelError} on a syntax error or an unknown name.
 */
export function evaluate(text: string, names: Constants): number {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const match = TOKEN.exec(text);
    if (!match) throw new KernelError(`cannot read the expression "${text}"`);
    tokens.push(match[1] ?? match[2] ?? match[3]);
  }
  let at = 0;
  const primary = (): number => {
    const token = tokens[at++];
    if (token === "(") {
      const value = binary(0);
      if (tokens[at++] !== ")") throw new KernelError(`missing ) in "${text}"`);
      return value;
    }
    if (token === "-") return -primary();
    if (token === "!") return primary() ? 0 : 1;
    if (token !== undefined && /^\d/.test(token)) return Number(token);
    const value = token === undefined ? undefined : names[token];
    if (value === undefined || typeof value === "string") {
      throw new KernelError(`"${token ?? ""}" is no number or flag in the expression "${text}"`);
    }
    return Number(value);
  };
  const binary = (level: number): number => {
    if (level === BINARY.length) return primary();
    let value = binary(level + 1);
    for (let apply; (apply = BINARY[level][tokens[at]]) !== undefined;) {
      at++;
      value = apply(value, binary(level + 1));
    }
    return value;
  };
  const value = binary(0);
  if (at !== tokens.length) throw new KernelError(`cannot read the expression "${text}"`);
  return value;
}

const NAME = /\$([A-Za-z_]\w*)/g;

/** Plain `$name` first, so that `${T$i}` can build a name; then expressions. */
function substitute(line: string, names: Constants): string {
  if (!line.includes("$")) return line;
  return line
    .replace(NAME, (whole, name: string) => String(names[name] ?? whole))
    .replace(/\$\{([^}]*)\}/g, (_, expression: string) => {
      const value = names[expression.trim()];
      return typeof value === "string" ? value : String(evaluate(expression, names));
    });
}

/**
 * Expands the directives of a kernel.
 *
 * @param source kernel text
 * @param constants values for expressions and `$NAME`
 * @param include returns the text of a fragment
 * @throws {KernelError} on an unknown directive, an unclosed block or a bad expression.
 */
export function expand(
  source: string,
  constants: Constants,
  include: (name: string) => string = () => "",
): string {
  const lines = source.split("\n");
  const out: string[] = [];

  /** Emits lines from `at` up to the closing directive; returns the index behind it. */
  const block = (at: number, names: Constants, emit: boolean): { next: number; closer: string } => {
    for (; at < lines.length; at++) {
      const match = /^\s*\/\/:(\w+)\s*(.*?)\s*$/.exec(lines[at]);
      if (!match) {
        if (emit) out.push(substitute(lines[at], names));
        continue;
      }
      const [, word, rest] = match;
      if (word === "end" || word === "else") return { next: at + 1, closer: word };
      if (word === "include") {
        if (emit) out.push(expand(include(rest), names, include));
      } else if (word === "if") {
        const holds = emit && evaluate(rest, names) !== 0;
        let inner = block(at + 1, names, holds);
        if (inner.closer === "else") inner = block(inner.next, names, emit && !holds);
        if (inner.closer !== "end") throw new KernelError(`//:if ${rest} has no //:end`);
        at = inner.next - 1;
      } else if (word === "for") {
        const range = /^(\w+) in (.+)\.\.(.+)$/.exec(rest);
        if (!range) throw new KernelError(`expected "for NAME in A..B", found "${rest}"`);
        const [, name, from, to] = range;
        const first = emit ? evaluate(from, names) : 0;
        const last = emit ? evaluate(to, names) : 0;
        const body = block(at + 1, { ...names, [name]: first }, emit && first < last);
        if (body.closer !== "end") throw new KernelError(`//:for ${rest} has no //:end`);
        for (let i = first + 1; i < last; i++) block(at + 1, { ...names, [name]: i }, emit);
        at = body.next - 1;
      } else {
        throw new KernelError(`unknown directive //:${word}`);
      }
    }
    return { next: at, closer: "" };
  };

  const { closer } = block(0, constants, true);
  if (closer !== "") throw new KernelError(`//:${closer} without an opening directive`);
  return out.join("\n");
}
