/**
 * Optimizers over lists of trainable tensors; schedules.ts has schedules for their rates.
 *
 * A step reads what changes from step to step (rate, bias corrections) from a small GPU buffer, so
 * it can be captured: call {@link Optimizer.advance} before each replay and capture {@link
 * Optimizer.update} alone.
 *
 * @module
 */
import {
  kindOf,
  needFunction,
  needIterable,
  needNumber,
  needOptions,
  needTensors,
  needTogether,
} from "../arguments.ts";
import type { Device } from "../device.ts";
import type { HostArray } from "../dtype.ts";
import { KernelError, ShapeError } from "../errors.ts";
import type { NamedTensor } from "./layers.ts";
import { elementwise } from "../launch/elementwise.ts";
import { converted, denseCopy, isBindable } from "../launch/copy.ts";
import { assign, checkTarget, gradientNorm } from "../launch/in_place.ts";
import { adamHyperValues, adamStep } from "../launch/adamw.ts";
import { keep, scope } from "../scope.ts";
import { show } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** Settings that all optimizers share. */
export interface OptimizerOptions {
  /** Learning rate of steps that name none. */
  readonly rate: number;
  /** Weight decay; default 0. */
  readonly weightDecay?: number;
  /** Which tensors decay; default: all, for `LARS` those with more than one axis. */
  readonly decays?: (name: string, tensor: Tensor) => boolean;
  /**
   * Gradients are scaled down to this global L2 norm, all of them NaN where one is; default 0:
   * never.
   */
  readonly clipNorm?: number;
}

/** One tensor of an optimizer. */
export interface ParameterState {
  /** Name in {@link Optimizer.state}. */
  readonly name: string;
  /** What is trained. */
  readonly tensor: Tensor;
  /** Whether weight decay applies to it. */
  readonly decays: boolean;
  /** What is remembered between steps, of the tensor's shape. */
  readonly memory: Readonly<Record<string, Tensor>>;
}

/**
 * What all optimizers share: parameters, what is remembered for each, clipping, and the count of
 * steps.
 */
export abstract class Optimizer implements Disposable {
  /** Where the parameters live. */
  readonly device: Device;
  /** Learning rate of steps that name none. */
  rate: number;
  /** Steps done. */
  steps = 0;
  /** Parameters and what is remembered for them. */
  protected readonly slots: readonly ParameterState[];
  /** Weight decay of slots that decay. */
  protected readonly weightDecay: number;
  /** f32 [2]: global norm of the gradients and what they are multiplied by. */
  protected readonly clip: Tensor;
  readonly #clipNorm: number;
  readonly #stepCount: Tensor;

  /**
   * For optimizers to call.
   *
   * @param parameters trainable tensors, alone or with names as `Module.parameters` gives them
   * @param remembered names of what is kept per parameter
   * @throws {ShapeError} if there are none, one is not trainable or appears twice, a name repeats,
   * or elements of one share memory.
   */
  constructor(
    parameters: Iterable<Tensor | NamedTensor>,
    options: OptimizerOptions,
    remembered: readonly string[],
  ) {
    const own = this.constructor.name;
    const named = namedTensors(own, parameters);
    if (named.length === 0) throw new ShapeError(`${own} needs at least one parameter`);
    needTogether(own, Object.fromEntries(named.map(([name, it]) => [`the parameter ${name}`, it])));
    for (const [name, tensor] of named) {
      if (!tensor.requiresGrad) {
        throw new ShapeError(
          `${own}: the parameter ${name} ${show(tensor.shape)} is not trainable`,
        );
      }
      checkTarget(`${own}: the parameter ${name}`, tensor);
    }
    needSettings(own, options);
    for (const [what, list] of [["name", 0], ["tensor", 1]] as const) {
      if (new Set(named.map((it) => it[list])).size !== named.length) {
        throw new ShapeError(`${own}: a ${what} appears twice among the parameters`);
      }
    }
    this.device = named[0][1].device;
    this.rate = options.rate;
    this.weightDecay = options.weightDecay ?? 0;
    this.#clipNorm = options.clipNorm ?? 0;
    const decays = options.decays ?? (() => true);
    this.slots = named.map(([name, tensor]) => ({
      name,
      tensor,
      decays: decays(name, tensor),
      memory: Object.fromEntries(
        remembered.map((key) => [key, keep(this.device.zeros(tensor.shape))]),
      ),
    }));
    this.clip = keep(this.device.tensor([0, 1]));
    this.#stepCount = keep(this.device.zeros([1]));
  }

  /**
   * Updates all parameters that have a gradient; the gradients stay until {@link zeroGrad}.
   *
   * @param rate learning rate of this step, as from a schedule
   */
  step(rate: number = this.rate): void {
    this.advance(rate);
    this.update();
  }

  /** The first half of {@link step}: counts it and writes what changes from step to step. */
  advance(rate: number = this.rate): void {
    needNumber(this.constructor.name, "the rate", rate);
    if (this.device.capturing) {
      throw new KernelError(
        "an optimizer's step in a captured function would count once: capture `update`, and call " +
          "`advance` before each replay",
      );
    }
    this.steps++;
    this.writeHyper(rate);
  }

  /** The second half of {@link step}: the dispatches, which are the same in every step. */
  update(): void {
    noGrad(() =>
      scope(() => {
        const ready = this.slots.filter(({ tensor }) => tensor.grad);
        if (ready.length === 0) return;
        if (this.#clipNorm > 0) {
          const norm = gradientNorm(ready.map(({ tensor }) => tensor.grad!), this.#clipNorm);
          elementwise(this.clip, [norm], { expression: "a" });
        }
        for (const slot of ready) scope(() => this.updateOne(slot, apart(slot)));
      })
    );
  }

  /** Forgets all gradients, so that the next backward pass starts anew. */
  zeroGrad(): void {
    for (const { tensor } of this.slots) tensor.zeroGrad();
  }

  /**
   * Global L2 norm of the last step's gradients before clipping: f32 [2], the norm and the factor;
   * needs `clipNorm`.
   */
  get gradientNorm(): Tensor {
    return this.clip;
  }

  /**
   * Everything a later run needs to go on, by name: `step` and, per parameter, what is remembered
   * for it.
   */
  state(): NamedTensor[] {
    this.device.write(this.#stepCount, Float32Array.of(this.steps));
    return [
      ["step", this.#stepCount],
      ...this.slots.flatMap(({ name, memory }) =>
        Object.entries(memory).map(([key, tensor]): NamedTensor => [`${name}.${key}`, tensor])
      ),
    ];
  }

  /**
   * Takes over what {@link state} gave.
   *
   * @throws {ShapeError} if a tensor is missing, or has another size.
   */
  restore(state: Iterable<readonly [name: string, data: HostArray]>): void {
    const given = new Map(needIterable("restore", state));
    const own = this.state();
    for (const [name, tensor] of own) {
      const data = given.get(name);
      if (data?.length !== tensor.size) {
        throw new ShapeError(
          `restore: ${name} ${show(tensor.shape)} is ` +
            (data ? `given with ${data.length} values` : "missing"),
        );
      }
    }
    for (const [name, tensor] of own) this.device.write(tensor, given.get(name)!);
    this.steps = given.get("step")![0];
  }

  /** Frees what is remembered; the parameters stay. */
  [Symbol.dispose](): void {
    for (const { memory } of this.slots) {
      for (const tensor of Object.values(memory)) tensor.dispose();
    }
    this.clip.dispose();
    this.#stepCount.dispose();
  }

  /** Writes the values of the step that begins. */
  protected abstract writeHyper(rate: number): void;

  /** Updates one parameter in place; temporaries are freed. */
  protected abstract updateOne(slot: ParameterState, grad: Tensor): void;
}

/** Tensors by name, or by position where they come alone. */
function namedTensors(op: string, parameters: Iterable<Tensor | NamedTensor>): NamedTensor[] {
  return Array.from(needIterable(op, parameters), (it, i): NamedTensor => {
    const [name, tensor] = Array.isArray(it) ? it : [`${i}`, it];
    needTensors(op, { [`the parameter ${name}`]: tensor });
    return [name, tensor];
  });
}

/** Every setting of an optimizer: numbers from 0, or what else it may be. */
const SETTINGS: Readonly<Record<string, (op: string, name: string, value: unknown) => void>> = {
  ...Object.fromEntries(
    ["rate", "weightDecay", "clipNorm", "momentum", "trust", "eps"].map((
      name,
    ) => [name, (op: string, name: string, value: unknown) => needNumber(op, name, value, 0)]),
  ),
  decays: needFunction,
  betas(op, name, value) {
    if (Array.isArray(value) && value.length === 2 && value.every((it) => it >= 0 && it < 1)) {
      return;
    }
    throw new ShapeError(
      `${op}: ${name} is ${kindOf(value)}, two numbers from 0 below 1 are needed`,
    );
  },
  epsPlacement(op, name, value) {
    if (value === "torch" || value === "fairseq") return;
    throw new ShapeError(`${op}: ${name} is ${kindOf(value)}, torch or fairseq is needed`);
  },
};

function needSettings(op: string, options: OptimizerOptions): void {
  needOptions(op, options, Object.keys(SETTINGS));
  for (const [name, value] of Object.entries({ ...options, rate: options.rate })) {
    if (value !== undefined || name === "rate") SETTINGS[name](op, name, value);
  }
}

/** The gradient of a parameter in memory that no update of the parameter touches. */
function apart({ tensor }: ParameterState): Tensor {
  const grad = tensor.grad!;
  return grad.storage === tensor.storage ? denseCopy(grad) : grad;
}

/** The tensor itself where the Adam kernel takes it, else such a copy. */
function plain(tensor: Tensor): Tensor {
  return tensor.dtype === "f32" && isBindable(tensor) ? tensor : converted(tensor, "f32");
}

/** Settings of {@link SGD}. */
export interface SGDOptions extends OptimizerOptions {
  /** How much of the last direction stays; default 0. */
  readonly momentum?: number;
}

/**
 * Gradient descent as torch's: `g += weightDecay p; direction = momentum direction + g; p -= rate
 * direction`.
 */
export class SGD extends Optimizer {
  readonly #momentum: number;
  readonly #rate: Tensor;

  /**
   * Remembers nothing yet.
   *
   * @param parameters trainable tensors, alone or with names
   */
  constructor(parameters: Iterable<Tensor | NamedTensor>, options: SGDOptions) {
    super(parameters, options, options?.momentum ? ["momentum"] : []);
    this.#momentum = options.momentum ?? 0;
    this.#rate = keep(this.device.zeros([1]));
  }

  /** See {@link Optimizer.advance}. */
  protected override writeHyper(rate: number): void {
    this.device.write(this.#rate, Float32Array.of(rate));
  }

  /** See {@link Optimizer.update}. */
  protected override updateOne({ tensor, decays, memory }: ParameterState, grad: Tensor): void {
    const beta = decays ? this.weightDecay : 0;
    const factor = this.clip.view([], [], this.clip.offset + 1);
    const rate = this.#rate.view([]);
    if (!memory.momentum) {
      elementwise(tensor, [grad, factor, rate], {
        expression: "o - c * (a * b + params.beta * o)",
        readOut: true,
        beta,
      });
      return;
    }
    elementwise(memory.momentum, [grad, factor, tensor], {
      expression: "params.alpha * o + (a * b + params.beta * c)",
      readOut: true,
      alpha: this.#momentum,
      beta,
    });
    elementwise(tensor, [memory.momentum, rate], { expression: "o - b * a", readOut: true });
  }

  /** Frees what is remembered; the parameters stay. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#rate.dispose();
  }
}

/** Settings of {@link Adam} and {@link AdamW}. */
export interface AdamOptions extends OptimizerOptions {
  /** Decay rates of the moments; default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment; default 1e-8. */
  readonly eps?: number;
  /**
   * `torch` corrects the second moment's bias before adding eps, `fairseq` after; default torch.
   */
  readonly epsPlacement?: "torch" | "fairseq";
}

/**
 * Adam (Kingma and Ba, 2015). Weight decay is added to the gradient, as in torch's Adam.
 */
export class Adam extends Optimizer {
  /** Whether weight decay shrinks the parameter instead of adding to the gradient. */
  protected readonly decoupled: boolean = false;
  readonly #options: Required<Pick<AdamOptions, "betas" | "eps" | "epsPlacement">>;
  /** Values for the kernel, f32 [8] each: without and with decay. */
  readonly #hyper: readonly [Tensor, Tensor];
  readonly #unclipped: Tensor;

  /**
   * Remembers nothing yet.
   *
   * @param parameters trainable tensors, alone or with names
   */
  constructor(parameters: Iterable<Tensor | NamedTensor>, options: AdamOptions) {
    super(parameters, options, ["m", "v"]);
    this.#options = {
      betas: options.betas ?? [0.9, 0.999],
      eps: options.eps ?? 1e-8,
      epsPlacement: options.epsPlacement ?? "torch",
    };
    this.#hyper = [keep(this.device.zeros([8])), keep(this.device.zeros([8]))];
    this.#unclipped = keep(this.device.tensor([0, 1]));
  }

  /** See {@link Optimizer.advance}. */
  protected override writeHyper(lr: number): void {
    [0, this.decoupled ? this.weightDecay : 0].forEach((weightDecay, i) =>
      this.device.write(
        this.#hyper[i],
        adamHyperValues({ ...this.#options, lr, weightDecay, step: this.steps }),
      )
    );
  }

  /** See {@link Optimizer.update}. */
  protected override updateOne(
    { tensor, decays, memory: { m, v } }: ParameterState,
    grad: Tensor,
  ): void {
    const values = plain(tensor);
    if (!decays || this.decoupled || this.weightDecay === 0) {
      adamStep({ values, grads: plain(grad), m, v }, this.#hyper[+decays], this.clip);
    } else {
      const grads = this.device.empty(tensor.shape);
      elementwise(grads, [grad, this.clip.view([], [], this.clip.offset + 1), tensor], {
        expression: "a * b + params.alpha * c",
        alpha: this.weightDecay,
      });
      adamStep({ values, grads, m, v }, this.#hyper[0], this.#unclipped);
    }
    if (values !== tensor) assign(tensor, values);
  }

  /** Frees what is remembered; the parameters stay. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    for (const tensor of [...this.#hyper, this.#unclipped]) tensor.dispose();
  }
}

/** Adam with decoupled weight decay (Loshchilov and Hutter, 2019): `p *= 1 - rate weightDecay`. */
export class AdamW extends Adam {
  /** Weight decay shrinks the parameter. */
  protected override readonly decoupled: boolean = true;
}

/**
 * Scales gradients in place so that their global L2 norm is at most `limit` (torch's
 * `clip_grad_norm_`). Optimizers do the same without a pass of their own through `clipNorm`. A NaN
 * among the gradients makes all of them NaN, an infinity the others 0.
 *
 * @param parameters trainable tensors after a backward pass, alone or with names; those without a
 * gradient are left out
 * @returns f32 [2]: the norm before clipping and the factor
 * @throws {ShapeError} if none has a gradient.
 */
export function clipGradients(
  parameters: Iterable<Tensor | NamedTensor>,
  limit: number,
): Tensor {
  const grads = namedTensors("clipGradients", parameters).map(([, { grad }]) => grad)
    .filter((grad) => grad !== undefined);
  needNumber("clipGradients", "the limit", limit, 0);
  if (grads.length === 0) throw new ShapeError("clipGradients: no parameter has a gradient");
  return scope(() => {
    const result = gradientNorm(grads, limit);
    const factor = result.view([], [], result.offset + 1);
    for (const grad of grads) {
      checkTarget("clipGradients", grad);
      elementwise(grad, [factor], { expression: "o * a", readOut: true });
    }
    return result;
  });
}
