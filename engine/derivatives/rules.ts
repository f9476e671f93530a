/**
 * What tables of derivatives hold.
 *
 * @module
 */
import type { Derivative } from "../op.ts";

/** A rule, or what chooses one by an op's attributes, if there is one. */
export type Entry = Derivative<never> | { choose(attrs: never): Derivative<never> | undefined };

/** Rules by name of op. */
export type Rules = Readonly<Record<string, Entry>>;
