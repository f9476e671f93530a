/**
 * Recurrent layers with torch's names and layouts of weights: a matrix product for all inputs at
 * once, then for each step one of the state and one kernel (`ops/recurrent.ts`).
 *
 * @module
 */
import { needOptions, needTensors, needWhole } from "../arguments.ts";
import type { Device } from "../device.ts";
import { ShapeError } from "../errors.ts";
import { concat, permute, reshape } from "../ops/view.ts";
import { split, stack } from "../ops/assemble.ts";
import { linear } from "../ops/matmul.ts";
import { gruCell, lstmCell } from "../ops/recurrent.ts";
import type { RandomSource } from "../prng.ts";
import { composite } from "../scope.ts";
import { sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { Dropout } from "./dropout.ts";
import { uniformValues } from "./init.ts";
import { type LayerSource, Module, shared } from "./layers.ts";

/** Settings of {@link LSTM} and {@link GRU}. */
export interface RecurrentOptions {
  /** Layers, each over the results of the one before it; default 1. */
  readonly layers?: number;
  /** Whether a second direction runs from the end, side by side in the results; default false. */
  readonly bidirectional?: boolean;
  /** Whether there are biases; default true. */
  readonly bias?: boolean;
  /** Whether sequences are [batch, tokens, inputs] instead of [tokens, batch, inputs]. */
  readonly batchFirst?: boolean;
  /**
   * Chance of an element between two layers to be dropped in training, from 0 to below 1; default
   * 0. The layer then has a part `dropout`, see `Dropout`.
   */
  readonly dropout?: number;
  /** Seed of what is dropped where parameters are looked up; default 0. */
  readonly dropoutSeed?: number;
}

/** A state [layers * directions, batch, width], the last one of a sequence or its first. */
export interface RecurrentState {
  /** What a step gives on. */
  readonly h: Tensor;
  /** Cells; of {@link LSTM} alone. */
  readonly c?: Tensor;
}

/** The weights of one direction of one layer. */
interface Weights {
  readonly ih: Tensor;
  readonly hh: Tensor;
  readonly biases: readonly [ih: Tensor, hh: Tensor] | undefined;
}

const OPTIONS = [
  ...["layers", "bidirectional", "bias", "batchFirst", "dropout", "dropoutSeed"],
];

/** What {@link LSTM} and {@link GRU} share. */
export abstract class Recurrent extends Module {
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | Dropout>>;
  readonly #runs: readonly Weights[];
  readonly #options: Readonly<Record<"bidirectional" | "batchFirst", boolean>>;
  readonly #layers: number;
  readonly #dropout: Dropout | undefined;

  /**
   * Draws the weights evenly from within `width^-0.5` as torch does, or looks `weight_ih_l0`,
   * `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` and so on up.
   *
   * @param device where the weights live
   * @param inputs size of a token
   * @param width size of the state
   * @throws {ShapeError} if sizes or options do not fit.
   */
  constructor(
    device: Device,
    readonly inputs: number,
    readonly width: number,
    source: LayerSource,
    options: RecurrentOptions = {},
  ) {
    super();
    const name = this.constructor.name;
    needWhole(name, "the count of inputs", inputs);
    needWhole(name, "the width", width, 1);
    needOptions(name, options, OPTIONS);
    const { layers = 1, bidirectional = false, bias = true, batchFirst = false } = options;
    const { dropout = 0, dropoutSeed = 0 } = options;
    this.#options = { bidirectional, batchFirst };
    this.#layers = layers;
    needWhole(name, "the count of layers", layers, 1);
    const from = shared(this, device, source);
    const gates = this.gates();
    const draw = (shape: Shape, random: RandomSource) =>
      uniformValues(shape, random, width ** -0.5);
    const parts: Record<string, Tensor | Dropout> = {};
    const part = (name: string, shape: Shape): Tensor => {
      const tensor = this.parameter(device, from, name, shape, draw);
      parts[name] = tensor;
      return tensor;
    };
    const directions = bidirectional ? ["", "_reverse"] : [""];
    this.#runs = Array.from({ length: layers }, (_, i) =>
      directions.map((end): Weights => {
        const names = `l${i}${end}`;
        const read = i === 0 ? inputs : directions.length * width;
        const ih = part(`weight_ih_${names}`, [gates * width, read]);
        const hh = part(`weight_hh_${names}`, [gates * width, width]);
        const biases = bias
          ? [
            part(`bias_ih_${names}`, [gates * width]),
            part(`bias_hh_${names}`, [gates * width]),
          ] as const
          : undefined;
        return { ih, hh, biases };
      })).flat();
    if (dropout !== 0) {
      this.#dropout = new Dropout(device, dropout, typeof from === "function" ? dropoutSeed : from);
      parts.dropout = this.#dropout;
    }
    this.parts = parts;
  }

  /** How many gates a unit has. */
  protected abstract gates(): number;

  /** The next [h, c] of a step, of the gates of its input [batch, gates * width]. */
  protected abstract step(
    gates: Tensor,
    state: readonly Tensor[],
    hh: Tensor,
    bias: Tensor | undefined,
  ): readonly Tensor[];

  /** Results of {@link run} without the last state. */
  apply(x: Tensor): Tensor {
    return this.run(x).output;
  }

  /**
   * All steps of sequences. Can be captured.
   *
   * @param x [tokens, batch, inputs], or [batch, tokens, inputs] with `batchFirst`
   * @param state the first one; default zeros
   * @returns the states of every step of the last layer, [tokens, batch, directions * width] or
   * batch first, and the last state of every layer and direction
   * @throws {ShapeError} if sizes do not fit.
   */
  run(x: Tensor, state?: RecurrentState): { output: Tensor; state: RecurrentState } {
    const name = this.constructor.name;
    needTensors(name, { x }, { h: state?.h, c: state?.c });
    const { batchFirst, bidirectional } = this.#options;
    const layers = this.#layers;
    const directions = bidirectional ? 2 : 1;
    if (x.shape.length !== 3 || x.shape[2] !== this.inputs || x.shape[batchFirst ? 1 : 0] < 1) {
      throw new ShapeError(
        `${name}: x ${show(x.shape)}: ${
          batchFirst ? "[batch, tokens, " : "[tokens, batch, "
        }${this.inputs}] of at least one token is needed`,
      );
    }
    const batch = x.shape[batchFirst ? 0 : 1];
    const shape = [layers * directions, batch, this.width];
    const kinds = this.gates() === 4 ? ["h", "c"] as const : ["h"] as const;
    const given = kinds.map((kind) => state?.[kind]);
    for (const it of given) {
      if (!state || it && sameShape(it.shape, shape)) continue;
      throw new ShapeError(
        `${name}: the state ${it ? show(it.shape) : "lacks c, it"} must be ${show(shape)}`,
      );
    }
    const { output, last } = composite(() => {
      const firsts = given.map((it) =>
        it
          ? split(it, 0, shape[0]).map((part) => reshape(part, shape.slice(1)))
          : new Array<Tensor>(shape[0]).fill(x.device.zeros(shape.slice(1), x.dtype))
      );
      let tokens = batchFirst ? permute(x, [1, 0, 2]) : x;
      const last: (readonly Tensor[])[] = [];
      for (let layer = 0; layer < layers; layer++) {
        const outputs: Tensor[] = [];
        for (let direction = 0; direction < directions; direction++) {
          const at = layer * directions + direction;
          const start = firsts.map((it) => it[at]);
          const { states, end } = this.#pass(tokens, this.#runs[at], start, direction === 1);
          outputs.push(states);
          last.push(end);
        }
        tokens = outputs.length === 1 ? outputs[0] : concat(outputs, 2);
        if (this.#dropout && layer < layers - 1) tokens = this.#dropout.apply(tokens);
      }
      return {
        output: batchFirst ? permute(tokens, [1, 0, 2]) : tokens,
        last: kinds.map((_, i) => stack(last.map((it) => it[i]))),
      };
    });
    return { output, state: { h: last[0], ...last[1] && { c: last[1] } } };
  }

  /** One direction of one layer: all states in the order of the tokens, and the last one. */
  #pass(
    tokens: Tensor,
    { ih, hh, biases }: Weights,
    start: readonly Tensor[],
    backwards: boolean,
  ): { states: Tensor; end: readonly Tensor[] } {
    const gates = split(linear(tokens, ih, biases?.[0]), 0, tokens.shape[0])
      .map((it) => reshape(it, it.shape.slice(1)));
    let state = start;
    const states = (backwards ? gates.reverse() : gates).map((it) => {
      state = this.step(it, state, hh, biases?.[1]);
      return state[0];
    });
    return { states: stack(backwards ? states.reverse() : states), end: state };
  }
}

/** Long short-term memory, as torch's `LSTM`. */
export class LSTM extends Recurrent {
  /** Input, forget, cell and output gate. */
  protected gates(): number {
    return 4;
  }

  /** The next [h, c]. */
  protected step(
    gates: Tensor,
    [h, c]: readonly Tensor[],
    hh: Tensor,
    bias: Tensor | undefined,
  ): readonly Tensor[] {
    const next = lstmCell(linear(h, hh, bias, { residual: gates }), c);
    return [next.h, next.c];
  }
}

/** Gated recurrent units, as torch's `GRU`. */
export class GRU extends Recurrent {
  /** Reset, update and new gate. */
  protected gates(): number {
    return 3;
  }

  /** The next [h]. */
  protected step(
    gates: Tensor,
    [h]: readonly Tensor[],
    hh: Tensor,
    bias: Tensor | undefined,
  ): readonly Tensor[] {
    return [gruCell(gates, linear(h, hh, bias), h)];
  }
}
