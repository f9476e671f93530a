/**
 * What fine-tuning does to its clips: mixup and structured patch-out (model/README.md,
 * Fine-tuning).
 *
 * @module
 */
import { LOG_OFFSET } from "../../../model/frontend/tables.ts";
import { structuredMask } from "../../../model/objectives/masking.ts";
import type { PatchGrid } from "../../../model/vit/geometry.ts";
import type { Prng } from "../../../engine/prng.ts";

/**
 * A draw from Beta(alpha, alpha), by Jöhnk's method (1964).
 *
 * @param alpha positive; many tries above some 5
 * @throws {RangeError} if it is not.
 */
export function betaDraw(random: Prng, alpha: number): number {
  if (!(alpha > 0 && alpha <= 100)) {
    throw new RangeError(`alpha ${alpha} of a Beta distribution is not in (0, 100]`);
  }
  for (;;) {
    // Logarithms, because powers of a small alpha underflow.
    const [a, b] = [0, 1].map(() => Math.log(1 - random.uniform()) / alpha);
    if (Math.exp(a) + Math.exp(b) <= 1) return 1 / (1 + Math.exp(b - a));
  }
}

/** Who is mixed with whom. */
export interface Mix {
  /** Share of the clip's own sound. */
  readonly shares: Float64Array;
  /** Place in the batch of the clip that it is mixed with. */
  readonly partners: Uint32Array;
}

/**
 * Draws a share from Beta(alpha, alpha) for each clip of a batch, and partners: the batch in
 * another order.
 */
export function drawMix(random: Prng, batch: number, alpha: number): Mix {
  const shares = Float64Array.from({ length: batch }, () => betaDraw(random, alpha));
  return { shares, partners: random.permutation(batch) };
}

/**
 * Rows mixed with their partners' in proportion, as targets are.
 *
 * @param rows [batch, size]
 */
export function mixedRows(
  rows: Float32Array,
  { shares, partners }: Mix,
): Float32Array<ArrayBuffer> {
  const size = rows.length / shares.length;
  return Float32Array.from(rows, (x, i) => {
    const item = Math.floor(i / size);
    const other = rows[partners[item] * size + i % size];
    return shares[item] * x + (1 - shares[item]) * other;
  });
}

/**
 * Log-mel spectrograms of mixed sounds. EVAR mixes waveforms, `share a + (1 - share) b`; here the
 * powers that those have on average are added, `share^2 A + (1 - share)^2 B`, because spectrograms
 * are computed once and kept.
 *
 * @param logmel [batch, size], standardised
 * @param statistics that it was standardised with
 */
export function mixedSpectrograms(
  logmel: Float32Array,
  { shares, partners }: Mix,
  { mean, std }: { readonly mean: number; readonly std: number },
): Float32Array<ArrayBuffer> {
  const size = logmel.length / shares.length;
  const power = Float32Array.from(logmel, (x) => Math.exp(x * std + mean));
  const mixed = new Float32Array(logmel.length);
  shares.forEach((share, item) => {
    const [own, other] = [item * size, partners[item] * size];
    const [a, b] = [share ** 2, (1 - share) ** 2];
    for (let i = 0; i < size; i++) {
      // What silence has, no sound is below.
      const sum = Math.max(a * power[own + i] + b * power[other + i], LOG_OFFSET);
      mixed[own + i] = (Math.log(sum) - mean) / std;
    }
  });
  return mixed;
}

/** The patches that clips of a batch keep, and how they are averaged. */
export interface KeptPatches {
  /** Patches of each clip. */
  readonly visible: number;
  /** u32 [batch, visible]: their numbers, row by row. */
  readonly ids: Uint32Array<ArrayBuffer>;
  /** [batch, results, visible]: each result is a weighted sum of the clip's patches. */
  readonly pool: Float32Array<ArrayBuffer>;
}

/**
 * Structured patch-out, EVAR's "training_mask": whole rows and columns are left out, as many in
 * every clip of a batch.
 *
 * This is the variant that leaves out what was marked. The released code sorts the wrong way round
 * and keeps the marked patches, filled up with others to the same number (model/README.md,
 * Where paper and released code differ).
 *
 * @param grid patches of a clip
 * @param ratio about the share that is left out; 0 keeps all
 * @param bands `concat`: a result for each row, the mean of its kept patches, or 0 where none is
 * kept; `mean`: one result, the mean of all kept patches
 */
export function drawPatches(
  random: Prng,
  batch: number,
  grid: PatchGrid,
  ratio: number,
  bands: "concat" | "mean",
): KeptPatches {
  const { rows, columns } = grid;
  const patches = rows * columns;
  const mask = ratio === 0
    ? undefined
    : structuredMask(() => random.uniform(), batch, grid, ratio, "fixed");
  const visible = mask?.visible ?? patches;
  const ids = new Uint32Array(batch * visible);
  const results = bands === "mean" ? 1 : rows;
  const pool = new Float32Array(batch * results * visible);
  for (let b = 0; b < batch; b++) {
    const own = ids.subarray(b * visible, (b + 1) * visible);
    if (mask) own.set(mask.shuffle.subarray(b * patches, b * patches + visible));
    else own.forEach((_, i) => own[i] = i);
    own.sort();
    const resultOf = (id: number) => bands === "mean" ? 0 : Math.floor(id / columns);
    const counts = new Uint32Array(results);
    own.forEach((id) => counts[resultOf(id)]++);
    own.forEach((id, i) => {
      const result = resultOf(id);
      pool[(b * results + result) * visible + i] = 1 / counts[result];
    });
  }
  return { visible, ids, pool };
}
