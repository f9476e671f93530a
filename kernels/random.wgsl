// Counter-based random numbers: uniform, normal, dropout, and integers.
//
// Elements 4q .. 4q + 3 of a tensor come from the four words of counter (q, 0, step, 0) under the
// key (seed, stream) (include/philox.wgsl): no state, any element by itself, the same on every
// adapter, and a dropout mask is recomputed instead of stored. A word becomes the uniform number
// (word >> 8) / 2^24 in [0, 1). One invocation makes four elements.
//
// MODE 0  uniform in [alpha, beta)
// MODE 1  normal, mean alpha, deviation beta: Box-Muller on words (0, 1) and (2, 3)
// MODE 2  dropout: x / (1 - alpha) where the uniform number is at least alpha, else 0; beta = 1 /
//         (1 - alpha)
// MODE 3  integer: low + the high word of word * span, span 0 meaning 2^32; each of the values has
//         the same probability up to 2^-32
//
// Constants: WG, MODE, TENSOR (step is read from a tensor), E (element type of the result).

//:include philox
//:if MODE == 1
//:include math
//:include sine
//:end

struct Params {
  count: u32, // elements bound
  first: u32, // counter of the first four elements bound
  seed: u32,
  stream: u32,
  step: u32,
  alpha: f32,
  beta: f32,
  low: u32,
  span: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<$E>;
//:if MODE == 2
@group(0) @binding(2) var<storage, read> source: array<f32>;
//:end
//:if TENSOR
@group(0) @binding(${2+(MODE==2)}) var<storage, read> step_of: array<u32>;
//:end

//:if MODE == 1
// Two normal numbers from two uniform ones.
fn box_muller(u: f32, turn: f32) -> vec2f {
  let radius = sqrt(-2.0 * log_f32(1.0 - u));
  let quarter = round(turn * 4.0);
  let a = (turn * 4.0 - quarter) * 1.57079633;
  return radius * cosine_sine(a, u32(quarter));
}
//:end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * groups.x) * WG + lane;
  if (i * 4u >= params.count) {
    return;
  }
//:if TENSOR
  let step = step_of[0];
//:else
  let step = params.step;
//:end
  let words = philox(vec4u(params.first + i, 0u, step, 0u), vec2u(params.seed, params.stream));
//:if MODE == 3
  let span = params.span;
  let values = vec4<$E>(params.low + select(
    vec4u(
      high_product(words.x, span),
      high_product(words.y, span),
      high_product(words.z, span),
      high_product(words.w, span),
    ),
    words,
    span == 0u,
  ));
//:else
  let u = vec4f(words >> vec4u(8u)) * 5.9604644775390625e-8;
//:end
//:if MODE == 0
  let values = params.alpha + (params.beta - params.alpha) * u;
//:end
//:if MODE == 1
  let values = params.alpha + params.beta * vec4f(box_muller(u.x, u.y), box_muller(u.z, u.w));
//:end
//:if MODE == 2
  let values = select(vec4f(0.0), vec4f(params.beta), u >= vec4f(params.alpha));
//:end
//:for k in 0..4
  if (i * 4u + ${k}u < params.count) {
//:if MODE == 2
    result[i * 4u + ${k}u] = source[i * 4u + ${k}u] * values[$k];
//:else
    result[i * 4u + ${k}u] = values[$k];
//:end
  }
//:end
}
