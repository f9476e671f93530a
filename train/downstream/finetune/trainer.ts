/**
 * Updates of fine-tuning: captured once for each number of kept patches, and replayed.
 *
 * @module
 */
import {
  AdamW,
  backward,
  capture,
  type Optimizer,
  type Plan,
  SGD,
  type Tensor,
} from "../../../engine/mod.ts";
import { refuseInterrupted } from "../../io/interruption.ts";
import { Embedder } from "../../../model/encoder/embed_queue.ts";
import { Snapshot } from "../snapshot.ts";
import { Probe, type ProbeFile } from "../probe/probe_layer.ts";
import type { SpectrogramClip } from "./spectrogram_clips.ts";
import type { DeviceBatch, FineTuneModel } from "./model.ts";
import type { KeptPatches } from "./augment.ts";

/** How parameters are updated. */
export interface UpdateSettings {
  /** `adamw` with betas 0.9 and 0.95, or `sgd` with momentum 0.9. */
  readonly optimizer: "adamw" | "sgd";
  /** AdamW's decoupled decay of all parameters, SGD's L2 penalty. */
  readonly weightDecay: number;
  /**
   * Each layer's rate is so many times that of the one after it; the head, with the last norm, has
   * the whole rate.
   */
  readonly layerDecay: number;
}

/** A batch on the host. */
export interface HostBatch extends KeptPatches {
  /** [batch, bands, frames]. */
  readonly input: Float32Array<ArrayBuffer>;
  /** [batch, classes]. */
  readonly targets: Float32Array<ArrayBuffer>;
}

/** Bytes of captured updates above which the oldest one is given up. */
const MOST_PLAN_BYTES = 2 ** 32;

/** Trains a model, and keeps its best parameters. */
export class FineTuner implements Disposable {
  readonly #model: FineTuneModel;
  readonly #optimizers: readonly { readonly optimizer: Optimizer; readonly scale: number }[];
  /** By number of kept patches, the newest last. */
  readonly #plans = new Map<number, Plan<Tensor>>();
  readonly #embedder: Embedder;
  /** Parameters and running statistics at the best epoch. */
  readonly #best: Snapshot;

  /** @param model which its owner keeps */
  constructor(model: FineTuneModel, settings: UpdateSettings) {
    this.#model = model;
    const { network: { geometry }, arena, norm } = model;
    const trained = arena.specs.filter(({ frozen }) => !frozen);
    const layers = Map.groupBy(
      trained,
      ({ name }) => settings.layerDecay === 1 ? 0 : geometry.depth + 1 - layerOf(name, geometry),
    );
    const { weightDecay } = settings;
    this.#optimizers = [...layers].map(([below, specs]) => {
      const parameters = specs.map(({ name }) => [name, arena.get(name)] as const);
      return {
        scale: settings.layerDecay ** below,
        optimizer: settings.optimizer === "adamw"
          ? new AdamW(parameters, { rate: 0, weightDecay, betas: [0.9, 0.95] })
          : new SGD(parameters, { rate: 0, weightDecay, momentum: 0.9 }),
      };
    });
    this.#embedder = new Embedder(model.network);
    this.#best = new Snapshot([arena.values, norm.mean, norm.variance]);
  }

  /**
   * One update. Work is submitted, not awaited.
   *
   * @param rate of the head
   * @returns the loss before the update, overwritten by the next one
   */
  step(batch: HostBatch, rate: number): Tensor {
    const { input, ids, pool, targets } = batch;
    const plan = this.#planOf(batch);
    for (const { optimizer, scale } of this.#optimizers) optimizer.advance(rate * scale);
    return plan.replay([input, ids, pool, targets]);
  }

  #planOf({ input, ids, pool, targets, visible }: HostBatch): Plan<Tensor> {
    const known = this.#plans.get(visible);
    if (known) return known;
    const { network: { device, geometry: { melBands } } } = this.#model;
    const batch = ids.length / visible;
    const shaped = [
      device.empty([batch, melBands, input.length / batch / melBands]),
      device.empty([batch, visible], "u32"),
      device.empty([batch, pool.length / batch / visible, visible]),
      device.empty([batch, targets.length / batch]),
    ];
    const plan = capture(
      device,
      shaped,
      (input, ids, pool, targets) => this.update({ input, ids, pool, targets }),
    );
    for (const tensor of shaped) tensor.dispose();
    for (const [visible, old] of this.#plans) {
      const bytes = [plan, ...this.#plans.values()].reduce((n, { memory }) => n + memory.arena, 0);
      if (bytes <= MOST_PLAN_BYTES) break;
      old[Symbol.dispose]();
      this.#plans.delete(visible);
    }
    this.#plans.set(visible, plan);
    return plan;
  }

  /**
   * Forward and backward pass and the optimizers' dispatches, which are the same in every update.
   */
  update(batch: DeviceBatch): Tensor {
    const loss = this.#model.loss(batch);
    this.#model.arena.zeroGrad();
    backward(loss);
    for (const { optimizer } of this.#optimizers) {
      optimizer.update();
      optimizer.zeroGrad();
    }
    return loss;
  }

  /**
   * Logits of clips, with running statistics and all patches.
   *
   * @param frames how many are seen of a clip, in chunks; silence follows it
   * @returns [clips, classes]
   */
  async logits(
    clips: readonly SpectrogramClip[],
    frames: (clip: SpectrogramClip) => number,
    file: Pick<ProbeFile, "classes" | "multiLabel" | "features">,
  ): Promise<Float32Array> {
    const head = new Probe({ ...file, ...await this.#model.head(), checkpoint: "", about: {} });
    const classes = file.classes.length;
    const logits = new Float32Array(clips.length * classes);
    const { bands, mode } = file.features;
    // Made when their turn comes.
    function* sounds() {
      for (const [key, clip] of clips.entries()) {
        yield { key, audio: clip.firstFrames(frames(clip)) };
      }
    }
    for await (const [key, { values }] of this.#embedder.embed(sounds(), { bands, mode })) {
      logits.set(head.logits(values), key * classes);
      refuseInterrupted();
    }
    return logits;
  }

  /** Keeps parameters and running statistics as they are. */
  keep(): void {
    this.#best.keep();
  }

  /** Brings back what was kept. */
  restore(): void {
    this.#best.restore();
  }

  /** Frees captured updates, the optimizers' state and what was kept. */
  [Symbol.dispose](): void {
    for (const plan of this.#plans.values()) plan[Symbol.dispose]();
    for (const { optimizer } of this.#optimizers) optimizer[Symbol.dispose]();
    this.#best[Symbol.dispose]();
    this.#embedder[Symbol.dispose]();
  }
}

/** Patch embedding and class token are layer 0, blocks 1 to depth; what follows is depth + 1. */
function layerOf(name: string, { depth }: { readonly depth: number }): number {
  const block = /\.blocks\.(\d+)\./.exec(name);
  if (block) return 1 + Number(block[1]);
  return name.startsWith("patch_embed.") || name === "cls_token" ? 0 : depth + 1;
}
