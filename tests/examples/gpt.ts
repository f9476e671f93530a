/**
 * A character-level GPT that learns a nursery rhyme by heart and recites it: a training step that
 * is captured, and sampling with a cache of keys and values, so that each character costs the work
 * for one token.
 *
 * ```sh
 * deno run tests/examples/gpt.ts            # 150 steps of a small model: a minute on two cores
 * deno run tests/examples/gpt.ts 500 128 4  # steps, width and layers: 0.8 million parameters
 * ```
 *
 * @module
 */
import * as t from "@tessera/tessera";

/** "The House That Jack Built" (traditional; as in Mother Goose, 1755). */
const LINES = [
  "the malt that lay in",
  "the rat that ate",
  "the cat that killed",
  "the dog that worried",
  "the cow with the crumpled horn that tossed",
  "the maiden all forlorn that milked",
  "the man all tattered and torn that kissed",
  "the priest all shaven and shorn that married",
  "the cock that crowed in the morn that waked",
  "the farmer sowing his corn that kept",
];
/** All verses, each longer than the one before it. */
export const RHYME = Array.from({ length: LINES.length + 1 }, (_, verse) => {
  const lines = [...LINES.slice(0, verse).reverse(), "the house that Jack built."];
  return `This is ${lines.join("\n")}\n\n`;
}).join("");
const LETTERS = [...new Set(RHYME)].sort().join("");
/** The index of each character of a text. */
export const encode = (text: string): number[] =>
  [...text].map((letter) => LETTERS.indexOf(letter));

/** Characters that the model looks back at, and is trained on at a time. */
const CONTEXT = 64;
const BATCH = 16;

/** A decoder-only transformer. */
export class GPT extends t.Module {
  readonly blocks: readonly t.TransformerBlock[];
  /** What optimizers train and files hold, by name. */
  protected readonly parts;

  constructor(device: t.Device, width: number, layers: number, seed: t.Seed) {
    super();
    const block = () => new t.TransformerBlock(device, width, 4, seed);
    this.blocks = Array.from({ length: layers }, block);
    this.parts = {
      letters: new t.Embedding(device, LETTERS.length, width, seed),
      places: new t.Embedding(device, CONTEXT, width, seed),
      ...Object.fromEntries(this.blocks.map((block, i) => [`block${i}`, block])),
      norm: new t.LayerNorm(device, width),
      head: new t.Linear(device, width, LETTERS.length, seed, { bias: false }),
    };
  }

  /**
   * Logits [batch, tokens, letters] of the letter behind each of `ids` [batch, tokens]. With
   * caches, one for each block, `ids` go on from the letters that were there before.
   */
  apply(ids: t.Tensor, caches?: readonly t.KeyValueCache[]): t.Tensor {
    const { letters, places, norm, head } = this.parts;
    const past = caches?.[0].tokens ?? 0;
    let x = letters.apply(ids).add(places.weight.slice(0, past, ids.shape[1]));
    this.blocks.forEach((block, i) => x = block.apply(x, { causal: true, cache: caches?.[i] }));
    return head.apply(norm.apply(x));
  }
}

/** Goes on from a prompt, with as many characters as the context has room for. */
async function recite(model: GPT, device: t.Device, prompt: string): Promise<string> {
  const caches = model.blocks.map(() => new t.KeyValueCache());
  let text = prompt;
  // The prompt goes in as a whole, then each letter alone: the caches know those before it.
  for (let next = encode(prompt); text.length < CONTEXT; next = encode(text.slice(-1))) {
    const id = t.scope(() => {
      const ids = device.tensor(Uint32Array.from(next), [1, next.length]);
      const logits = t.noGrad(() => model.apply(ids, caches)).at(0, -1);
      // At a low temperature likely letters become likelier still.
      return t.categorical(logits.div(0.5), 1, { step: text.length });
    });
    text += LETTERS[await id.item()];
    id.dispose();
  }
  caches.forEach((it) => it[Symbol.dispose]());
  return text;
}

/** What a run is like. */
export interface Options {
  /** Updates, of 16 passages of 64 characters each. */
  readonly steps?: number;
  /** Size of a token, a multiple of 4. */
  readonly width?: number;
  /** Transformer blocks. */
  readonly layers?: number;
  /** Where messages go. */
  readonly log?: (line: string) => void;
}

/** Trains a model and lets it recite; gives its last loss in nats per character. */
export async function learnRhyme(
  { steps = 150, width = 64, layers = 2, log = console.log }: Options = {},
): Promise<number> {
  using device = await t.openDevice();
  const random = new t.Prng(1);
  using model = new GPT(device, width, layers, random);
  using optimizer = new t.AdamW(model.parameters(), { rate: 0, weightDecay: 0.01, clipNorm: 1 });
  const rate = t.warmupCosine(5e-3, 10, steps);
  const size = [...model.parameters()].reduce((sum, [, { size }]) => sum + size, 0);
  log(`${size} parameters, ${RHYME.length} characters of ${LETTERS.length} kinds`);

  // Recorded at its first call, replayed by all later ones.
  using step = t.jit(device, (ids: t.Tensor) => {
    optimizer.zeroGrad();
    const logits = model.apply(ids.at(":", ":-1"));
    const loss = t.crossEntropy(logits, ids.at(":", "1:"), { reduction: "mean" });
    loss.backward();
    optimizer.update();
    return loss;
  });
  const passage = () => {
    const start = random.integer(RHYME.length - CONTEXT);
    return encode(RHYME.slice(start, start + CONTEXT + 1));
  };
  let last = NaN;
  for (let i = 0; i < steps; i++) {
    const ids = Uint32Array.from(Array.from({ length: BATCH }, passage).flat());
    optimizer.advance(rate(i));
    using loss = t.scope(() => step(device.tensor(ids, [BATCH, CONTEXT + 1])));
    if (i % 25 === 24 || i === steps - 1) {
      last = await loss.item();
      log(`step ${i + 1}: loss ${last.toFixed(3)}`);
    }
  }
  log(`\n${await recite(model, device, "This is ")} …`);
  return last;
}

if (import.meta.main) {
  const [steps, width, layers] = Deno.args.map(Number);
  await learnRhyme({ steps, width, layers });
}
