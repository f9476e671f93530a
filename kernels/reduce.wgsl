// Reduction of a dense tensor [outer, reduce, inner] along its middle axis: out[o, p, g] = partial
// p of row o. A block is a fixed number of units, partials of blocks are reduced by the same kernel
// in a further pass: fixed order, no atomics, short f32 chains (eight accumulators per invocation
// where one row is read at a time).
//
// ROW (inner = 1): LANES invocations walk one block side by side, vec4 by vec4 along the reduced
// axis, and meet as in include/rows.wgsl; a unit is a vec4 (W = 4) or an element (W = 1). With
// LANES = 1 each invocation takes a block alone. Else an invocation owns COLS vec4 (or elements) of
// `inner` and walks down the rows of its block, UNROLL at a time, with a sum for each of these
// where COLS <= 8. With STREAMS these lie side by side and neighbours take different blocks;
// without, neighbours take neighbouring vec4.
//
// STREAMS and LANES = 1 are for software adapters, where a lane that reads 4 KiB in sequence is
// fetched ahead, and lanes side by side wait for memory (kernels/README.md, Laboratory notebook,
// reduce).
//
// A maximum of values of which one is NaN is NaN.
//
// Constants: those of include/rows.wgsl; ROW, COLS, STREAMS, UNROLL, EO and HALF_OUT (what the
// result is stored as), MAX (else sum), SQUARE (of the squares), NEGATE (of the negatives: maxima
// of these are minima).

//:include rows

struct Params {
  count: u32, // partials with ROW, else invocations that do work
  parts: u32, // partials per outer index
  groups: u32, // invocations side by side along `inner`
  reduce: u32, // length of the reduced axis in units
  block: u32, // units per block
  repeat: u32, // with ROW and LANES = 1: blocks that one invocation does one after the other
  offset_in: u32, // loads before the input within its window
  offset_out_0: u32, // stores before the output within its window
  scale: f32, // factor of the result
}

//:if W == 4 && !ROW
//:if HALF_OUT
alias Out = vec2u;

fn stored(v: T) -> Out {
  return half_bits(v);
}
//:else
alias Out = vec4f;

fn stored(v: T) -> Out {
  return v;
}
//:end
//:else
alias Out = $EO;

fn stored(v: f32) -> Out {
  return $EO(v);
}
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<S>;
@group(0) @binding(2) var<storage, read_write> output: array<Out>;

//:if MAX
// The larger, or NaN where either is.
fn top(a: f32, b: f32) -> f32 {
  return select(select(select(b, a, a > b), b, is_nan_f32(b)), a, is_nan_f32(a));
}

//:if W == 4
fn combine(a: T, b: T) -> T {
  return select(select(larger(a, b), b, is_nan_vec4(b)), a, is_nan_vec4(a));
}

fn lane_top(v: T) -> f32 {
  return top(top(v.x, v.y), top(v.z, v.w));
}
//:else
fn combine(a: T, b: T) -> T {
  return top(a, b);
}

fn lane_top(v: T) -> f32 {
  return v;
}
//:end
//:else
fn combine(a: T, b: T) -> T {
  return a + b;
}
//:end

fn load(at: u32) -> T {
  let x = wide(input[at]);
//:if SQUARE
  return x * x;
//:else
//:if NEGATE
  return -x;
//:else
  return x;
//:end
//:end
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
//:for u in 0..8
//:if MAX
    // Any element of the row will do to start from.
    var a$u = load(row + min(k, params.reduce - 1u));
//:else
    var a$u = T(0.0);
//:end
//:end
    for (; k + 7u * LANES < end; k += 8u * LANES) {
//:for u in 0..8
      a$u = combine(a$u, load(row + k + ${u}u * LANES));
//:end
    }
    for (; k < end; k += LANES) {
      a0 = combine(a0, load(row + k));
    }
    let a = combine(
      combine(combine(a0, a1), combine(a2, a3)),
      combine(combine(a4, a5), combine(a6, a7)),
    );
//:if MAX
    let lane_result = lane_top(a);
//:else
    let lane_result = lane_sum(a);
//:end
//:if LANES == 1
    let result = lane_result;
//:else
//:if MAX
    // Maxima over lanes may drop NaN: whether there is one goes beside.
    let found = select(0.0, 1.0, is_nan_f32(lane_result));
    let meeting = row_max2(vec4f(lane_result, found, 0.0, 0.0), local);
    let result = bitcast<f32>(select(bitcast<u32>(meeting.x), 0x7fc00000u, meeting.y > 0.0));
//:else
    let result = row_sum1(vec4f(lane_result), local).x;
//:end
//:end
//:if LANES > 1
    if (live)
//:end
    {
      output[params.offset_out_0 + part] = stored(params.scale * result);
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
  var at = params.offset_in + (o * params.reduce + k) * width + column;
//:for c in 0..COLS
//:for u in 0..1+(COLS<=8)*(UNROLL-1)
//:if MAX
//:if u == 0
  var a${c}_$u = load(at + ${c}u);
//:else
  var a${c}_$u = a${c}_0;
//:end
//:else
  var a${c}_$u = T(0.0);
//:end
//:end
//:end
  for (; k + ${UNROLL-1}u < end; k += ${UNROLL}u) {
//:for c in 0..COLS
//:for u in 0..UNROLL
    let x${c}_$u = load(at + ${u}u * width + ${c}u);
//:end
//:for u in 0..UNROLL
    a${c}_${u*(COLS<=8)} = combine(a${c}_${u*(COLS<=8)}, x${c}_$u);
//:end
//:end
    at += ${UNROLL}u * width;
  }
  for (; k < end; k++) {
//:for c in 0..COLS
    a${c}_0 = combine(a${c}_0, load(at + ${c}u));
//:end
    at += width;
  }
  let to = params.offset_out_0 + q * width + column;
//:for c in 0..COLS
//:for u in 1..1+(COLS<=8)*(UNROLL-1)
  a${c}_0 = combine(a${c}_0, a${c}_$u);
//:end
  output[to + ${c}u] = stored(params.scale * a${c}_0);
//:end
//:end
}
