// Mean and sum of squared deviations of the blocks of a dense tensor [outer, reduce, inner] along
// its middle axis, each element read once. Cut and walked as in reduce.wgsl;
// variance_merge.wgsl joins the blocks of a row.
//
// Sums are of deviations d = x - x0 from the first element x0 that an invocation meets in its
// column (with W = 4 along a row: component by component), so that a large mean costs nothing:
//   mean = x0 + S1 / n,   M2 = S2 - S1^2 / n,   S1 = sum d, S2 = sum d^2.
// S2 = M2 + n (mean - x0)^2, and as x0 is one of the n elements, M2 >= n / (n - 1) (mean - x0)^2:
// so S2 <= n M2, and rounding of relative size e in the sums makes an error of at most n e in M2,
// with n up to 1024 elements per block (256 per component), whatever the data; of 2 e where x0 is
// as far from the mean as elements are on average. Lanes, components and blocks are joined over
// their means, M2 = sum M2_i + sum n_i (mean_i - mean)^2. Means of blocks are rounded to e |mean|,
// which adds 2 e |mean| / (sigma sqrt n) to the relative error: as much as rounding the input does.
//
// One pass instead of three, and as fast as a copy; COLS and UNROLL as measured (kernels/README.md,
// Laboratory notebook, variance).
//
// Constants: those of include/rows.wgsl; ROW, COLS, STREAMS, UNROLL as in reduce.wgsl.

//:include rows

struct Params {
  count: u32, // blocks with ROW, else invocations that do work
  parts: u32, // blocks per outer index
  groups: u32, // invocations side by side along `inner`
  reduce: u32, // length of the reduced axis in units
  block: u32, // units per block
  repeat: u32, // with ROW and LANES = 1: blocks that one invocation does one after the other
  offset_in: u32, // loads before the input within its window
  offset_out_0: u32, // stores before the means within their window
  offset_out_1: u32, // likewise, of the sums of squares
  scale: f32, // factor of the sums of squares
}

//:if ROW
alias Out = f32;
//:else
alias Out = T;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<S>;
@group(0) @binding(2) var<storage, read_write> means: array<Out>;
@group(0) @binding(3) var<storage, read_write> squares: array<Out>;

fn load(at: u32) -> T {
  return wide(input[at]);
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.x + group.y * grid.x) * WG + local;
//:if ROW
//:if LANES == 1
  let stop = min(params.count, (invocation + 1u) * params.repeat);
  for (var part = invocation * params.repeat; part < stop; part++) {
//:else
  let unclamped = invocation / LANES;
  let live = unclamped < params.count && local % LANES == 0u;
  let part = min(unclamped, params.count - 1u);
  {
//:end
    let row = params.offset_in + part / params.parts * params.reduce;
    let start = part % params.parts * params.block;
    let end = min(params.reduce, start + params.block);
    var k = start + invocation % LANES;
    // Past the end there is nothing to do: the weight n below is 0.
    let n = f32((max(end, k) - k + LANES - 1u) / LANES);
    let shift = load(row + min(k, end - 1u));
//:for u in 0..4
    var s$u = T(0.0);
    var q$u = T(0.0);
//:end
    for (; k + 3u * LANES < end; k += 4u * LANES) {
//:for u in 0..4
      let d$u = load(row + k + ${u}u * LANES) - shift;
      s$u += d$u;
      q$u = fma(d$u, d$u, q$u);
//:end
    }
    for (; k < end; k += LANES) {
      let d = load(row + k) - shift;
      s0 += d;
      q0 = fma(d, d, q0);
    }
    let s = (s0 + s1) + (s2 + s3);
    // What rounding takes below 0 is 0; NaN stays.
    let rest = ((q0 + q1) + (q2 + q3)) - s * (s / max(n, 1.0));
    let m2 = select(rest, T(0.0), rest < T(0.0));
    // From the block's first element, so that a large mean costs nothing here either.
    let anchor = lane_first(load(row + start));
    let away = (shift - anchor) + s / max(n, 1.0);
    let weight = 1.0 / f32((end - start) * W);
//:if LANES == 1
    let mean = n * lane_sum(away) * weight;
    let off = away - mean;
    let result = lane_sum(m2 + n * off * off);
//:else
    let mean = row_sum1(vec4f(n * lane_sum(away)), local).x * weight;
    let off = away - mean;
    let result = row_sum1(vec4f(lane_sum(m2 + n * off * off)), local).x;
//:end
//:if LANES > 1
    if (live)
//:end
    {
      means[params.offset_out_0 + part] = anchor + mean;
      squares[params.offset_out_1 + part] = params.scale * result;
    }
  }
//:else
  if (invocation >= params.count) {
    return;
  }
//:if STREAMS
  let q = invocation % (params.count / params.groups);
  let g = invocation / (params.count / params.groups);
  let column = g * COLS;
//:else
  let q = invocation / params.groups;
  let g = invocation % params.groups;
  let column = g;
//:end
  let p = q % params.parts;
  let o = q / params.parts;
  let width = params.groups * COLS;
  var k = p * params.block;
  let end = min(params.reduce, k + params.block);
  let n = f32(end - k);
  var at = params.offset_in + (o * params.reduce + k) * width + column;
//:for c in 0..COLS
  let shift$c = load(at + ${c}u);
  var s$c = T(0.0);
  var q$c = T(0.0);
//:end
  for (; k + ${UNROLL-1}u < end; k += ${UNROLL}u) {
//:for c in 0..COLS
//:for u in 0..UNROLL
    let d${c}_$u = load(at + ${u}u * width + ${c}u) - shift$c;
//:end
//:for u in 0..UNROLL
    s$c += d${c}_$u;
    q$c = fma(d${c}_$u, d${c}_$u, q$c);
//:end
//:end
    at += ${UNROLL}u * width;
  }
  for (; k < end; k++) {
//:for c in 0..COLS
    let d$c = load(at + ${c}u) - shift$c;
    s$c += d$c;
    q$c = fma(d$c, d$c, q$c);
//:end
    at += width;
  }
  let to = q * width + column;
//:for c in 0..COLS
  let rest$c = q$c - s$c * (s$c / n);
  means[params.offset_out_0 + to + ${c}u] = shift$c + s$c / n;
  squares[params.offset_out_1 + to + ${c}u] =
    params.scale * select(rest$c, T(0.0), rest$c < T(0.0));
//:end
//:end
}

//:if W == 4
fn lane_first(v: T) -> f32 {
  return v.x;
}
//:else
fn lane_first(v: T) -> f32 {
  return v;
}
//:end
