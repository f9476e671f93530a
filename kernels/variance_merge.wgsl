// Joins means and sums of squared deviations of neighbouring parts along the middle axis of [outer,
// parts, inner]:
//   mean = sum n_p mean_p / n,   M2 = sum M2_p + sum n_p (mean_p - mean)^2,
// the second sum from deviations of the first part's mean, as in variance.wgsl. All parts of a row
// stand for `size` elements but the last, which stands for `last`. One invocation per vector of W
// results: blocks are joined 128 at a time, so this reads a hundredth of what variance.wgsl does.
//
// Constants: WG, W (4 when `inner` is a multiple of 4).

struct Params {
  count: u32, // invocations that do work
  parts: u32, // per outer index
  blocks: u32, // per outer index
  block: u32, // parts per block
  inner: u32, // vectors
  size: f32, // elements per part
  last: f32, // elements of the last part
  scale: f32, // factor of the sums of squares
  offset_means: u32,
  offset_squares: u32,
  offset_mean: u32,
  offset_square: u32,
}

//:if W == 4
alias V = vec4f;
//:else
alias V = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> means: array<V>;
@group(0) @binding(2) var<storage, read> squares: array<V>;
@group(0) @binding(3) var<storage, read_write> mean: array<V>;
@group(0) @binding(4) var<storage, read_write> square: array<V>;

//:include entry_point

fn invocation(i: u32) {
  let g = i % params.inner;
  let q = i / params.inner;
  let first = q % params.blocks * params.block;
  let end = min(params.parts, first + params.block);
  let row = q / params.blocks * params.parts;
  let x0 = means[params.offset_means + (row + first) * params.inner + g];
  var n = 0.0;
  var s1 = V(0.0);
  var s2 = V(0.0);
  var m2 = V(0.0);
  for (var p = first; p < end; p++) {
    let at = (row + p) * params.inner + g;
    let weight = select(params.size, params.last, p == params.parts - 1u);
    let d = means[params.offset_means + at] - x0;
    n += weight;
    s1 += weight * d;
    s2 += weight * d * d;
    m2 += squares[params.offset_squares + at];
  }
  let between = s2 - s1 * (s1 / n);
  mean[params.offset_mean + i] = x0 + s1 / n;
  square[params.offset_square + i] =
    params.scale * (m2 + select(between, V(0.0), between < V(0.0)));
}
