/**
 * Layers: small classes that hold trainable tensors. A layer is built on a device from a seed,
 * applied to a tensor, and frees its parameters when it is disposed. Everything else (losses,
 * loops, saving) works on tensors.
 *
 * @module
 */
import type { Device } from "../device.ts";
import type { HostArray } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { type AttentionOptions, selfAttention } from "../ops/attention.ts";
import { conv2d, type Conv2dOptions } from "../ops/conv.ts";
import { embedding, type Indices } from "../ops/indexing.ts";
import { layerNorm } from "../ops/layernorm.ts";
import { linear, type LinearOptions } from "../ops/matmul.ts";
import { type Shape, show, sizeOf } from "../shape.ts";
import { keep } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** A trainable tensor with its name within a layer, such as `mlp.fc1.weight`. */
export type NamedTensor = readonly [name: string, tensor: Tensor];

/** Draws from [0, 1). */
export type Uniform = () => number;

/** Where initial values come from: a seed, or a generator that several layers share. */
export type Seed = number | Uniform;

/**
 * A reproducible generator (mulberry32: 2^32 states, which is enough to initialise a model).
 *
 * @param seed an integer
 * @returns draws from [0, 1)
 */
export function uniformFrom(seed: number): Uniform {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const drawsOf = (seed: Seed): Uniform => typeof seed === "number" ? uniformFrom(seed) : seed;

function parameter(device: Device, shape: Shape, value: () => number): Tensor {
  const data = Float32Array.from({ length: sizeOf(shape) }, value);
  // A parameter lives as long as its layer, whatever scope the layer was built in.
  return keep(device.tensor(data, shape)).trainable();
}

/**
 * Xavier-uniform: within sqrt(6 / (in + out)), so that activations and gradients keep their size.
 * The first axis is `out`, all others together are `in`.
 */
function xavier(device: Device, shape: Shape, seed: Seed): Tensor {
  const draw = drawsOf(seed);
  const bound = Math.sqrt(6 / (shape[0] + sizeOf(shape.slice(1))));
  return parameter(device, shape, () => bound * (2 * draw() - 1));
}

const constant = (device: Device, size: number, value: number): Tensor =>
  parameter(device, [size], () => value);

/** What all layers share: named parameters, found through the layers a layer is made of. */
export abstract class Module implements Disposable {
  /** Parameters and inner layers by name, in order. */
  protected abstract readonly parts: Readonly<Record<string, Tensor | Module | undefined>>;

  /**
   * The layer's function.
   *
   * @throws {ShapeError} if `x` does not fit the layer.
   */
  abstract apply(x: Tensor): Tensor;

  /** All parameters, those of inner layers named `inner.name`. */
  *parameters(): Generator<NamedTensor, void, void> {
    for (const [name, part] of Object.entries(this.parts)) {
      if (part instanceof Module) {
        for (const [inner, tensor] of part.parameters()) yield [`${name}.${inner}`, tensor];
      } else if (part) yield [name, part];
    }
  }

  /**
   * Overwrites parameters by name; those not named keep their values.
   *
   * @throws {ShapeError} if there is no parameter of a name, or its size differs.
   */
  load(values: Iterable<readonly [name: string, data: HostArray]>): void {
    const own = new Map(this.parameters());
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

  /** Frees all parameters and their gradients. */
  [Symbol.dispose](): void {
    for (const [, tensor] of this.parameters()) tensor.dispose();
  }
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
   * Draws the weights.
   *
   * @param inputs size of the last axis of `x`
   * @param outputs size of the last axis of the result
   * @param options `bias: false` leaves the bias out
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    seed: Seed,
    options: { readonly bias?: boolean } = {},
  ) {
    super();
    this.weight = xavier(device, [outputs, inputs], seed);
    this.bias = options.bias === false ? undefined : constant(device, outputs, 0);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [..., inputs] to [..., outputs]; GELU or a residual addition run in the same kernel. */
  apply(x: Tensor, options: LinearOptions = {}): Tensor {
    return linear(x, this.weight, this.bias, options);
  }
}

/** Cross-correlation of images with square kernels, plus a bias. */
export class Conv2d extends Module {
  /** [outputs, inputs / groups, kernel, kernel], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** [outputs], zeros at first. */
  readonly bias: Tensor;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor>>;

  /**
   * Draws the kernels.
   *
   * @param inputs channels of `x`
   * @param outputs channels of the result
   * @param kernel rows and columns of a kernel
   * @param options stride, padding, dilation and groups
   * @throws {ShapeError} if the groups do not divide `inputs` and `outputs`.
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    kernel: number,
    seed: Seed,
    readonly options: Conv2dOptions = {},
  ) {
    super();
    const { groups = 1 } = options;
    if (inputs % groups !== 0 || outputs % groups !== 0) {
      throw new ShapeError(
        `Conv2d: ${inputs} channels to ${outputs} do not divide into ${groups} groups`,
      );
    }
    this.weight = xavier(device, [outputs, inputs / groups, kernel, kernel], seed);
    this.bias = constant(device, outputs, 0);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [batch, inputs, height, width] to [batch, outputs, rows, columns]. */
  apply(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options);
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
   */
  constructor(device: Device, width: number, readonly eps = 1e-6) {
    super();
    this.weight = constant(device, width, 1);
    this.bias = constant(device, width, 0);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [..., width] to the same shape. */
  apply(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** A table of vectors, looked up by index. */
export class Embedding extends Module {
  /** [count, width], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor>>;

  /**
   * Draws the table.
   *
   * @param count number of vectors
   * @param width size of a vector
   */
  constructor(device: Device, count: number, width: number, seed: Seed) {
    super();
    this.weight = xavier(device, [count, width], seed);
    this.parts = { weight: this.weight };
  }

  /**
   * Looks vectors up; see `embedding` for what an index out of range does.
   *
   * @param ids u32 of any shape [...], each below `count`, or a list of the host
   * @returns [..., width]
   * @throws {ShapeError} if `ids` are not u32, or one of the host is not below `count`.
   */
  apply(ids: Indices): Tensor {
    return embedding(this.weight, ids);
  }
}

/**
 * Attention of a sequence to itself: fused q, k, v projection, heads, output projection (timm's
 * layout).
 */
export class MultiHeadAttention extends Module {
  /** [width] to q, k and v, side by side. */
  readonly qkv: Linear;
  /** What mixes the heads. */
  readonly proj: Linear;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Draws the weights.
   *
   * @param width size of a token
   * @param heads number of heads; width / heads is at most 128
   * @throws {ShapeError} if `heads` does not divide `width`.
   */
  constructor(device: Device, width: number, readonly heads: number, seed: Seed) {
    super();
    if (width % heads !== 0) {
      throw new ShapeError(`MultiHeadAttention: ${heads} heads do not divide the width ${width}`);
    }
    const draw = drawsOf(seed);
    this.qkv = new Linear(device, width, 3 * width, draw);
    this.proj = new Linear(device, width, width, draw);
    this.parts = { qkv: this.qkv, proj: this.proj };
  }

  /**
   * [batch, tokens, width] to the same shape; `residual` is added in the last kernel, `keyMask`
   * [batch, tokens] is 0 for tokens that none may attend to.
   */
  apply(
    x: Tensor,
    { residual, keyMask }: Pick<LinearOptions, "residual"> & Pick<AttentionOptions, "keyMask"> = {},
  ): Tensor {
    const mixed = selfAttention(this.qkv.apply(x), this.heads, { keyMask });
    return this.proj.apply(mixed, { residual });
  }
}

/** Two linear layers with a GELU between them. */
export class Mlp extends Module {
  /** To the hidden layer. */
  readonly fc1: Linear;
  /** Back. */
  readonly fc2: Linear;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Draws the weights.
   *
   * @param width size of a token
   * @param hidden size between the layers
   */
  constructor(device: Device, width: number, hidden: number, seed: Seed) {
    super();
    const draw = drawsOf(seed);
    this.fc1 = new Linear(device, width, hidden, draw);
    this.fc2 = new Linear(device, hidden, width, draw);
    this.parts = { fc1: this.fc1, fc2: this.fc2 };
  }

  /** [..., width] to the same shape; `residual` is added in the last kernel. */
  apply(x: Tensor, options: Pick<LinearOptions, "residual"> = {}): Tensor {
    return this.fc2.apply(this.fc1.apply(x, { gelu: true }), options);
  }
}

/** A pre-norm block: `x += Attention(LayerNorm(x)); x += Mlp(LayerNorm(x))`, exact GELU. */
export class TransformerBlock extends Module {
  /** In front of the attention. */
  readonly norm1: LayerNorm;
  /** Attention. */
  readonly attn: MultiHeadAttention;
  /** In front of the MLP. */
  readonly norm2: LayerNorm;
  /** MLP with 4 times the width inside. */
  readonly mlp: Mlp;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Draws the weights.
   *
   * @param width size of a token
   * @param heads number of heads; width / heads is at most 128
   * @throws {ShapeError} if `heads` does not divide `width`.
   */
  constructor(device: Device, width: number, heads: number, seed: Seed) {
    super();
    const draw = drawsOf(seed);
    this.attn = new MultiHeadAttention(device, width, heads, draw);
    this.mlp = new Mlp(device, width, 4 * width, draw);
    this.norm1 = new LayerNorm(device, width);
    this.norm2 = new LayerNorm(device, width);
    this.parts = { norm1: this.norm1, attn: this.attn, norm2: this.norm2, mlp: this.mlp };
  }

  /**
   * [batch, tokens, width] to the same shape; `keyMask` [batch, tokens] is 0 for tokens that none
   * may attend to.
   */
  apply(x: Tensor, { keyMask }: Pick<AttentionOptions, "keyMask"> = {}): Tensor {
    const attended = this.attn.apply(this.norm1.apply(x), { residual: x, keyMask });
    return this.mlp.apply(this.norm2.apply(attended), { residual: attended });
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
