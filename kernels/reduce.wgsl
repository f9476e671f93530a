// Reduction of a dense tensor [outer, reduce, inner] along its middle axis: out[o, p, g] = partial p of row o.
// A block is a fixed number of units, partials of blocks are reduced by the same kernel in a further pass: fixed
// order, no atomics, short f32 chains (eight accumulators per invocation where one row is read at a time).
//
// ROW (inner = 1): LANES invocations walk one block side by side, vec4 by vec4 along the reduced axis, and meet as in
// rows.wgsl; a unit is a vec4 (W = 4) or an element (W = 1). With LANES = 1 each invocation takes a short row alone.
// Else an invocation owns COLS vec4 (or elements) of `inner` and walks down the rows of its block, UNROLL at a time.
// Eight neighbours take eight neighbouring vec4, and their next ones after those: 128 COLS bytes of a row in sequence.
//
// Measured on lavapipe as in rows.wgsl, before (32 lanes by two passes, and one vec4 per invocation down the columns) /
// now, fractions of the copy kernel: all of 1 M 0.35 / 0.85, of 4 M 0.35 / 0.9, rows of [4096, 1024] 0.4 / 1.0, columns of
// [1072, 768] 0.5 / 0.95, of [4096, 1024] 0.3 / 0.6, of [16384, 64] 0.6 / 1.0.
//
// Continues rows.wgsl. Constants: those of its head; ROW, COLS, UNROLL, EO and HALF_OUT (what the result is stored as), MAX (else
// sum), SQUARE (of the squares), NEGATE (of the negatives: maxima of these are minima).

struct Params {
  count: u32, // partials with ROW, else invocations that do work
  parts: u32, // partials per outer index
  groups: u32, // invocations side by side along `inner`
  reduce: u32, // length of the reduced axis in units
  block: u32, // units per block
  offset_in: u32, // loads before the input within its window
  offset_out: u32, // stores before the output within its window
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

fn combine(a: T, b: T) -> T {
//:if MAX
  return larger(a, b);
//:else
  return a + b;
//:end
}

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
  let wanted = invocation / LANES;
  let live = wanted < params.count;
  let part = min(wanted, params.count - 1u);
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
  let lane_result = lane_max(a);
//:else
  let lane_result = lane_sum(a);
//:end
//:if LANES == 1
  let result = lane_result;
//:else
//:if MAX
  let result = row_max1(vec4f(lane_result), local).x;
//:else
  let result = row_sum1(vec4f(lane_result), local).x;
//:end
//:end
  if (live && local % LANES == 0u) {
    output[params.offset_out + part] = stored(params.scale * result);
  }
//:else
  if (invocation >= params.count) {
    return;
  }
  let g = invocation % params.groups;
  let q = invocation / params.groups;
  let p = q % params.parts;
  let o = q / params.parts;
  let width = params.groups * COLS;
//:if COLS == 1
  let column = g;
//:else
  let column = g / 8u * ${8*COLS}u + g % 8u;
//:end
  var k = p * params.block;
  let end = min(params.reduce, k + params.block);
  var at = params.offset_in + (o * params.reduce + k) * width + column;
//:for c in 0..COLS
//:for u in 0..UNROLL
//:if MAX
//:if u == 0
  var a${c}_$u = load(at + ${8*c}u);
//:else
  var a${c}_$u = a${c}_0;
//:end
//:else
  var a${c}_$u = T(0.0);
//:end
//:end
//:end
  for (; k + ${UNROLL-1}u < end; k += ${UNROLL}u) {
//:for u in 0..UNROLL
//:for c in 0..COLS
    a${c}_$u = combine(a${c}_$u, load(at + ${u}u * width + ${8*c}u));
//:end
//:end
    at += ${UNROLL}u * width;
  }
//:if UNROLL > 1
  for (; k < end; k++) {
//:for c in 0..COLS
    a${c}_0 = combine(a${c}_0, load(at + ${8*c}u));
//:end
    at += width;
  }
//:end
  let to = params.offset_out + q * width + column;
//:for c in 0..COLS
//:for u in 1..UNROLL
  a${c}_0 = combine(a${c}_0, a${c}_$u);
//:end
  output[to + ${8*c}u] = stored(params.scale * a${c}_0);
//:end
//:end
}
