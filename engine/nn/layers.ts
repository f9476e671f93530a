/**
 * Layers: small classes that hold parameters and apply a function of them to a tensor. Everything
 * else (losses, loops, saving) works on tensors.
 *
 * The source of a layer's parameters is a seed or a generator, from which it draws values of its
 * own that it frees when it is disposed; or a function that looks tensors up by name, such as in a
 * flat arena of all parameters of a model, which stay their owner's. A layer over tensors that
 * exist costs no work on the device, so it may be made anew for every use:
 *
 * ```ts
 * const own = new Linear(device, 8, 4, 1);
 * const other = new Linear(device, 8, 4, (name) => arena.get(`head.${name}`));
 * ```
 *
 * Names and layouts of parameters are those of torch and timm.
 *
 * @module
 */
import type { Device } from "../device.ts";
import type { HostArray } from "../dtype.ts";
import {
  kindOf,
  needDevice,
  needFunction,
  needIterable,
  needNumber,
  needOptions,
  needTensors,
} from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { layerNorm } from "../ops/layernorm.ts";
import { linear, type LinearOptions } from "../ops/matmul.ts";
import { Prng, type RandomSource } from "../prng.ts";
import { keep } from "../scope.ts";
import { needShape, sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { constantValues, type InitialValues, xavierUniform } from "./init.ts";
import { loadFile, storedValues } from "./state_file.ts";

/** A tensor with its name within a layer, such as `mlp.fc1.weight`. */
export type NamedTensor = readonly [name: string, tensor: Tensor];

/** Draws initial values: a seed, or a generator that several layers share. */
export type Seed = number | RandomSource;

/**
 * Finds a parameter that lives elsewhere by its name within the layer, such as `mlp.fc1.weight`.
 *
 * @param shape what the layer needs; another one is refused by the layer
 */
export type ParameterSource = (name: string, shape: Shape) => Tensor;

/** Where a layer's parameters come from. */
export type LayerSource = Seed | ParameterSource;

/**
 * The source of an inner layer's parameters: names get a prefix, such as `mlp.` (with its dot);
 * seeds and generators have no names and stay what they are.
 */
export function within<Source extends LayerSource>(source: Source, prefix: string): Source {
  if (typeof source !== "function") return source;
  return ((name, shape) => source(prefix + name, shape)) as ParameterSource as Source;
}

/**
 * One generator for all parameters of a layer and its inner layers. Internal to layers.
 *
 * @throws {ShapeError} if `source` is none, or `device` is no device.
 */
export function shared(
  layer: Module,
  device: Device,
  source: LayerSource,
): RandomSource | ParameterSource {
  needDevice(layer.constructor.name, device);
  if (typeof source === "function") return source;
  if (typeof source === "number" && Number.isSafeInteger(source)) return new Prng(source);
  if (typeof (source as Partial<RandomSource> | null)?.uniform === "function") {
    return source as RandomSource;
  }
  throw new ShapeError(
    `${layer.constructor.name}: ${kindOf(source)} is no source of parameters: a seed (a whole ` +
      "number), a generator or a function that looks them up is needed",
  );
}

/** Ones at first. Internal to layers. */
export const ones = (shape: Shape): InitialValues => constantValues(shape, 1);
/** Zeros at first. Internal to layers. */
export const zeros = (shape: Shape): InitialValues => constantValues(shape, 0);

/** What all layers share: named parameters, found through the layers a layer is made of. */
export abstract class Module implements Disposable {
  /**
   * Whether the layer is being trained; those that act alike in training and evaluation ignore it.
   */
  training = true;
  /** Parameters and inner layers by name, in order. */
  protected abstract readonly parts: Readonly<Record<string, Tensor | Module | undefined>>;
  /** What is saved with the parameters but not trained, by name, such as running averages. */
  protected readonly buffers: Readonly<Record<string, Tensor>> = {};
  readonly #borrowed = new Set<Tensor>();

  /**
   * The layer's function.
   *
   * @throws {ShapeError} if `x` does not fit the layer.
   */
  abstract apply(x: Tensor): Tensor;

  /**
   * A parameter for {@link parts}: looked up by name, or made of initial values.
   *
   * @throws {ShapeError} if what was looked up has another shape.
   */
  protected parameter(
    device: Device,
    source: LayerSource,
    name: string,
    shape: Shape,
    initial: (shape: Shape, random: RandomSource) => InitialValues,
  ): Tensor {
    const layer = this.constructor.name;
    needShape(`${layer}: the parameter ${name}`, shape);
    if (typeof source !== "function") {
      const values = initial(shape, shared(this, device, source) as RandomSource);
      // A parameter lives as long as its layer, whatever scope the layer was built in.
      return keep(device.tensor(values, shape)).trainable();
    }
    const tensor = source(name, shape);
    needTensors(layer, { [`the parameter ${name}`]: tensor });
    if (!sameShape(tensor.shape, shape)) {
      throw new ShapeError(
        `${layer}: the parameter ${name} is ${show(tensor.shape)}, not ${show(shape)}`,
      );
    }
    this.#borrowed.add(tensor);
    return tensor;
  }

  /** All parameters, those of inner layers named `inner.name`. */
  *parameters(): Generator<NamedTensor, void, void> {
    for (const [name, part] of Object.entries(this.parts)) {
      if (part instanceof Module) yield* prefixed(name, part.parameters());
      else if (part) yield [name, part];
    }
  }

  /** Everything to save, as torch's `state_dict`: parameters, and what is not trained. */
  *state(): Generator<NamedTensor, void, void> {
    for (const [name, part] of Object.entries(this.parts)) {
      if (part instanceof Module) yield* prefixed(name, part.state());
      else if (part) yield [name, part];
    }
    yield* Object.entries(this.buffers);
  }

  /** Switches this layer and its inner layers between training and evaluation. */
  train(on = true): this {
    this.training = on;
    for (const part of Object.values(this.parts)) if (part instanceof Module) part.train(on);
    return this;
  }

  /**
   * Takes parameters out of training: they collect no gradient, and what they have is forgotten.
   * Optimizers that have them already leave them alone; new ones refuse them.
   */
  freeze(): this {
    for (const [, tensor] of this.parameters()) tensor.constant();
    return this;
  }

  /** Undoes {@link freeze}. */
  unfreeze(): this {
    for (const [, tensor] of this.parameters()) tensor.trainable();
    return this;
  }

  /**
   * All of {@link state} as the bytes of a safetensors file
   * (https://huggingface.co/docs/safetensors), in its element types; names are torch's.
   *
   * @param metadata free text by key
   */
  async save(
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const state = [...this.state()];
    const values = state.length > 0
      ? await state[0][1].device.read(state.map(([, tensor]) => tensor))
      : [];
    return writeSafetensors(
      state.map(([name, { shape, dtype }], i) => [name, storedValues(shape, dtype, values[i])]),
      metadata,
    );
  }

  /**
   * Overwrites tensors of {@link state} by name: with values, those not named keeping theirs; or
   * with those of a safetensors file, which must have all. Floats of other types are rounded.
   *
   * @param values names and values, or the bytes of a safetensors file
   * @param options `strict: false` lets a file lack names, and have others
   * @throws {ShapeError} if there is none of a name, its shape or kind of element differs, or one
   * is missing.
   * @throws {SafetensorsError} if bytes are no safetensors file.
   */
  load(
    values: Uint8Array | Iterable<readonly [name: string, data: HostArray]>,
    options: { readonly strict?: boolean } = {},
  ): void {
    needOptions("load", options, ["strict"]);
    const own = new Map(this.state());
    if (values instanceof Uint8Array) {
      loadFile(own, values, options.strict ?? true);
      return;
    }
    needIterable("load", values);
    for (const [name, data] of values) {
      const tensor = own.get(name);
      if (!tensor || data.length !== tensor.size) {
        throw new ShapeError(
          tensor
            ? `load: ${data.length} values do not fit the parameter ${name} ${show(tensor.shape)}`
            : `load: there is no parameter ${name}, only ${[...own.keys()].join(", ")}`,
        );
      }
      tensor.device.write(tensor, data);
    }
  }

  /** Frees what the layer owns; parameters that were looked up stay. */
  [Symbol.dispose](): void {
    for (const part of [...Object.values(this.parts), ...Object.values(this.buffers)]) {
      if (part instanceof Module) part[Symbol.dispose]();
      else if (part && !this.#borrowed.has(part)) part.dispose();
    }
  }
}

function* prefixed(prefix: string, tensors: Iterable<NamedTensor>): Generator<NamedTensor> {
  for (const [name, tensor] of tensors) yield [`${prefix}.${name}`, tensor];
}

/** `x W^T + b` over the last axis. */
export class Linear extends Module {
  /** [outputs, inputs], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** [outputs], zeros at first; undefined without a bias. */
  readonly bias: Tensor | undefined;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;

  /**
   * Draws the weights, or looks `weight` and `bias` up.
   *
   * @param inputs size of the last axis of `x`
   * @param outputs size of the last axis of the result
   * @param options `bias: false` leaves the bias out
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    source: LayerSource,
    options: { readonly bias?: boolean } = {},
  ) {
    super();
    needOptions("Linear", options, ["bias"]);
    this.weight = this.parameter(device, source, "weight", [outputs, inputs], xavierUniform);
    this.bias = options.bias === false
      ? undefined
      : this.parameter(device, source, "bias", [outputs], zeros);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [..., inputs] to [..., outputs]; GELU or a residual addition run in the same kernel. */
  apply(x: Tensor, options: LinearOptions = {}): Tensor {
    return linear(x, this.weight, this.bias, options);
  }
}

/** Layer normalisation over the last axis with a scale and a shift per channel. */
export class LayerNorm extends Module {
  /** Scale [width], ones at first. */
  readonly weight: Tensor;
  /** Shift [width], zeros at first. */
  readonly bias: Tensor;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor>>;

  /**
   * Starts as plain normalisation.
   *
   * @param width size of the last axis
   * @param eps added to the variance
   * @param source looks `weight` and `bias` up; default: the layer's own
   */
  constructor(device: Device, width: number, readonly eps = 1e-6, source: LayerSource = 0) {
    super();
    needNumber("LayerNorm", "eps", eps, 0);
    this.weight = this.parameter(device, source, "weight", [width], ones);
    this.bias = this.parameter(device, source, "bias", [width], zeros);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [..., width] to the same shape. */
  apply(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Layers and plain functions one after the other; parameters are named by position, `0.weight`. */
export class Sequential extends Module {
  readonly #steps: readonly (Module | ((x: Tensor) => Tensor))[];
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Takes the steps over.
   *
   * @param steps in order; disposed with this layer
   */
  constructor(...steps: readonly (Module | ((x: Tensor) => Tensor))[]) {
    super();
    steps.forEach((step, i) => {
      if (!(step instanceof Module)) needFunction("Sequential", `step ${i}`, step);
    });
    this.#steps = steps;
    this.parts = Object.fromEntries(
      steps.flatMap((step, i) => step instanceof Module ? [[`${i}`, step]] : []),
    );
  }

  /** The last step's result. */
  apply(x: Tensor): Tensor {
    return this.#steps.reduce((y, step) => step instanceof Module ? step.apply(y) : step(y), x);
  }
}
