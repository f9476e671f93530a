/** The host's random generator, which the engine has; see `engine/prng.ts`. */
export { Prng, type PrngState } from "../../engine/prng.ts";
