/**
 * The commands of `deno task` and what each does: what its `--help` begins with, its line in the
 * overview of train/main.ts, and its description in deno.json.
 *
 * @module
 */

/** One sentence for each command, in the order in which they are listed. */
export const SUMMARIES = {
  setup: "Finds a WebGPU adapter; installs Mesa's software Vulkan driver where none exists.",
  pretrain: "Pre-trains an encoder on audio and leaves a run directory.",
  "pretrain:mpi": "As pretrain, in each of several processes that mpirun or srun starts.",
  runs: "Lists runs: their state, steps, losses, evaluation and time.",
  studio: "Opens a local page on which runs are watched and sounds are looked at with a model.",
  prepare: "Turns a folder of audio into a store of log-mel spectrograms; can be repeated.",
  import: "Turns a checkpoint of any encoder that embed reads into safetensors.",
  export: "Turns a checkpoint into a .pt that official programs load, or a Hugging Face folder.",
  inspect: "Lists the tensors of a checkpoint with statistics and says which model it is.",
  embed: "Turns audio into embeddings, one for each clip or each time step, or into classes.",
  probe: "Trains a probe, or all of an encoder, on a labelled folder and says how good it is.",
  compare: "Trains several objectives alike and probes them on labelled folders: one table.",
  table: "Judges encoders on labelled folders, beside published scores: a table and a page.",
  dataset: "Turns a downloaded data set into a labelled folder with the paper's split.",
  visualize: "Draws what a model sees in a sound and in a folder of sounds, on one page.",
  verify: "Holds this machine's adapter against reference numbers; exit code 1 if a check fails.",
  doctor: "Adapter, driver, features, limits and measured rates, and what each enables.",
  completion: "Prints what makes bash, zsh or fish complete commands and options.",
  help: "Lists the commands, or the options of one.",
  fuzz: "Reads damaged files and runs random programs of ops until a time is over.",
  bench: "Measures kernels and training steps as fractions of what the adapter can do.",
} as const;

/** Name of a command. */
export type CommandName = keyof typeof SUMMARIES;
