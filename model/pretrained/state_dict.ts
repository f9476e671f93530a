/**
 * Parameters of an encoder from a file in which every one of them must be found.
 *
 * @module
 */
import type { Device, Shape } from "../../engine/functions.ts";
import { listed, quoted } from "../../engine/formats/printable.ts";
import { joined } from "../encoder/chunks.ts";
import { EncoderError, explaining, floatsOf } from "../encoder/file_values.ts";
import type { Setting } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import type { StoredTensor } from "../formats/stored_tensor.ts";
import { ParameterArena } from "../vit/parameter_arena.ts";
import type { PretrainedInfo, PretrainedSizes } from "./info.ts";
import type { PretrainedOptions } from "./options.ts";

/** A tensor that the file must have. */
export interface Stored {
  /** Its name; of several, the first that is there. */
  readonly name: string | readonly string[];
  /** Its shape. */
  readonly shape: Shape;
}

/** A parameter and what it is made of. */
export interface Source {
  /** Its name in the arena. */
  readonly name: string;
  /** Its shape. */
  readonly shape: Shape;
  /** Keeps its value in training. */
  readonly frozen?: boolean;
  /** What is read for it. */
  readonly from: readonly Stored[];
  /** Makes its values of those; default: one behind the other. */
  readonly fold?: (parts: readonly Float32Array[]) => Float32Array;
  /** Of what is trained and was folded: values from which {@link fold} makes these. */
  readonly unfold?: (values: Float32Array) => readonly Float32Array[];
}

/** A parameter that is a tensor of the file as it stands. */
export function asStored(name: string, shape: Shape): Source {
  return { name, shape, from: [{ name, shape }] };
}

/** The same, of what is never trained. */
export function fixed(name: string, shape: Shape): Source {
  return { ...asStored(name, shape), frozen: true };
}

/** Weight and bias of a layer. */
export function layer(name: string, weight: Shape, bias = true): Source[] {
  return [
    asStored(`${name}.weight`, weight),
    ...(bias ? [asStored(`${name}.bias`, [weight[0]])] : []),
  ];
}

/** The same from tensors of other names. @param named those that are one behind the other */
export function renamed(source: Source, named: (name: string) => readonly string[]): Source {
  const from = source.from.flatMap((it) => {
    const names = named(nameOf(it));
    const [first, ...rest] = it.shape;
    return names.map((name): Stored => ({ name, shape: [first / names.length, ...rest] }));
  });
  return { ...source, from };
}

/**
 * The prefix under which tensors have all of these names; undefined if there is none.
 *
 * @param prefixes of several the first one that fits
 */
export function prefixOf(
  tensors: StoredTensors,
  prefixes: readonly string[],
  names: readonly string[],
): string | undefined {
  return prefixes.find((prefix) => names.every((it) => tensors.has(prefix + it)));
}

/** Tensors whose names begin with a prefix, by what follows. */
export function below(tensors: StoredTensors, prefix: string): StoredTensors {
  return new Map(
    [...tensors].flatMap(([name, it]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), it]] : []
    ),
  );
}

/**
 * A batch norm whose statistics stay, as a factor and a summand, `.factor` and `.summand` of its
 * name.
 *
 * @param names what the file may call it, the last one its own
 */
export function frozenBatchNorm(names: readonly string[], size: number, eps: number): Source[] {
  const name = names[names.length - 1];
  const part = (of: string) => ({ name: names.map((it) => `${it}.${of}`), shape: [size] });
  const deviation = (variance: number) => Math.sqrt(variance + eps);
  const fixed = { shape: [size], frozen: true };
  return [
    {
      ...{ ...fixed, name: `${name}.factor`, from: ["weight", "running_var"].map(part) },
      fold: ([weight, variance]) => weight.map((it, i) => it / deviation(variance[i])),
    },
    {
      ...{ ...fixed, name: `${name}.summand` },
      from: ["weight", "running_var", "bias", "running_mean"].map(part),
      fold: ([weight, variance, bias, mean]) =>
        bias.map((it, i) => it - mean[i] * weight[i] / deviation(variance[i])),
    },
  ];
}

/** What a file's tensors are to an encoder. */
export interface Found {
  /** Each tensor that was asked for. */
  readonly stored: ReadonlyMap<Stored, StoredTensor>;
  /** The same by their names in the plan. */
  readonly used: ReadonlyMap<string, StoredTensor>;
  /** Names that are neither taken nor known to be no part of the encoder. */
  readonly unused: readonly string[];
}

/** The name of a tensor that is asked for, of several the first. */
export const nameOf = ({ name }: Stored): string => typeof name === "string" ? name : name[0];

/** Names for a message; of many, the first ones. */
function some(names: readonly string[]): string {
  const most = 12;
  const first = names.slice(0, most).map(quoted).join(", ");
  return names.length > most ? `${first} and ${names.length - most} more` : first;
}

/** What an encoder takes from a file. */
export interface Plan<Sizes> {
  /** What is known of it beside sizes. */
  readonly about: Omit<PretrainedInfo, keyof PretrainedSizes | "unused">;
  /** Its sizes. */
  readonly sizes: Sizes;
  /** Tensors of the file, by the names that {@link sources} have. */
  readonly tensors: StoredTensors;
  /** Parameters. */
  readonly sources: readonly Source[];
  /** Which other names are known: they are of parts that encoders do not need. */
  readonly beside: RegExp;
}

/**
 * Finds all tensors.
 *
 * @throws {EncoderError} if one is missing or has another shape; lists those and what was not used.
 */
export function findTensors(
  { about, tensors, sources, beside }: Omit<Plan<unknown>, "sizes">,
): Found {
  const stored = new Map<Stored, StoredTensor>();
  const used = new Map<string, StoredTensor>();
  const missing: string[] = [];
  const misshapen: string[] = [];
  for (const wanted of sources.flatMap(({ from }) => from)) {
    const names = typeof wanted.name === "string" ? [wanted.name] : wanted.name;
    const name = names.find((it) => tensors.has(it));
    if (name === undefined) {
      missing.push(nameOf(wanted));
      continue;
    }
    const tensor = tensors.get(name)!;
    used.set(name, tensor);
    if (String(tensor.shape) === String(wanted.shape)) stored.set(wanted, tensor);
    else misshapen.push(`${name} ${listed(tensor.shape)} instead of ${listed(wanted.shape)}`);
  }
  const unused = [...tensors.keys()].filter((it) => !used.has(it) && !beside.test(it));
  if (missing.length + misshapen.length > 0) {
    throw new EncoderError(
      [
        `it is not a whole encoder of ${about.title}`,
        ...(missing.length > 0 ? [`missing: ${some(missing)}`] : []),
        ...(misshapen.length > 0 ? [`of another shape: ${some(misshapen)}`] : []),
        `not used: ${unused.length > 0 ? some(unused) : "none"}`,
      ].join("; "),
    );
  }
  return { stored, used, unused };
}

/**
 * Uploads an encoder's parameters.
 *
 * @returns the parameters, and names that are neither of them nor known
 * @throws {EncoderError} if a tensor is missing or has another shape, or holds what is no finite
 * number.
 */
export function loadParameters(
  device: Device,
  plan: Plan<unknown>,
  { trainable = false }: PretrainedOptions,
): { arena: ParameterArena; unused: readonly string[] } {
  const { stored, unused } = findTensors(plan);
  const { sources } = plan;
  const arena = new ParameterArena(device, sources, { trainable });
  try {
    // One after the other, so that a second copy of a large model is never held.
    for (const { name, shape, from, fold = joined } of sources) {
      const parts = from.map((it) => explaining(() => floatsOf(nameOf(it), stored.get(it)!)));
      const values = from.length === 1 && fold === joined ? parts[0] : fold(parts);
      if (values.length !== shape.reduce((a, b) => a * b, 1)) {
        throw new EncoderError(`${name} has ${values.length} values, not ${listed(shape)}`);
      }
      arena.load([[name, values]]);
    }
  } catch (error) {
    arena[Symbol.dispose]();
    throw error;
  }
  return { arena, unused };
}

/** Most blocks that a file may speak of. */
const MOST_BLOCKS = 1000;

/**
 * Blocks that a state dict is to have: as many as the largest index behind `prefix` or the
 * configuration says, so that one that is missing is missed.
 *
 * @throws {EncoderError} if there is none.
 */
export function countBlocks(
  title: string,
  tensors: StoredTensors,
  said: Setting | undefined,
  prefix = "encoder.layers.",
): number {
  let blocks = typeof said === "number" ? said : 0;
  for (const name of tensors.keys()) {
    if (!name.startsWith(prefix)) continue;
    const index = /^\d+(?=\.)/.exec(name.slice(prefix.length))?.[0];
    if (index !== undefined) blocks = Math.max(blocks, Number(index) + 1);
  }
  if (Number.isInteger(blocks) && blocks >= 1 && blocks <= MOST_BLOCKS) return blocks;
  throw new EncoderError(`it is not an encoder of ${title}: it has ${blocks} blocks`);
}

/**
 * The shape of a tensor that sizes are read from.
 *
 * @throws {EncoderError} if it is missing or has another number of axes.
 */
export function shapeOf(
  title: string,
  tensors: StoredTensors,
  name: string,
  axes: number,
): readonly number[] {
  const shape = tensors.get(name)?.shape;
  if (shape?.length === axes) return shape;
  throw new EncoderError(
    `it is not a whole encoder of ${title}; ` +
      (shape ? `${quoted(name)} is ${listed(shape)}` : `missing: ${quoted(name)}`),
  );
}
