// Reduction of a dense tensor [outer, reduce, inner] along its middle axis: out[o, p, g] = partial p of row o.
//
// One invocation makes one partial of one vec4 of neighbours along `inner` (W = 4) or of one column (W = 1), so
// neighbouring invocations read neighbouring words. With inner = 1 (ROW) the vec4 lies along the reduced axis and
// its four lanes are added at the end; LANES invocations then walk a block of the row side by side.
// A block is a fixed number of units, partials of blocks are reduced by the same kernel in a further pass: fixed
// order, no atomics, short f32 chains (four accumulators per invocation).
//
// Constants: WG, W, LANES, ROW, MAX (else sum), SQUARE (of the squares), TI, TO (element types in and out).

struct Params {
  count: u32, // invocations that do work
  parts: u32, // partials per outer index
  groups: u32, // inner / W
  reduce: u32, // length of the reduced axis in units (vec4 with ROW)
  block: u32, // units per block, a multiple of LANES
  offset_in: u32, // units before the input within its window
  offset_out: u32, // elements of TO before the output within its window
  scale: f32, // factor of the result
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<$TI>;
@group(0) @binding(2) var<storage, read_write> output: array<$TO>;

alias T = $TI;

fn combine(a: T, b: T) -> T {
//:if MAX
  return max(a, b);
//:else
  return a + b;
//:end
}

fn load(at: u32) -> T {
  let x = input[at];
//:if SQUARE
  return x * x;
//:else
  return x;
//:end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * grid.x) * WG + lane;
  if (i >= params.count) {
    return;
  }
  let g = i % params.groups;
  let q = i / params.groups;
  let p = q % params.parts;
  let o = q / params.parts;
  let start = p / LANES * params.block;
  let end = min(params.reduce, start + params.block);
  let step = LANES * params.groups;
  let row = params.offset_in + o * params.reduce * params.groups + g;
  var k = start + p % LANES;
//:if MAX
  // Any element of the row will do to start from.
  var a0 = load(row + min(k, params.reduce - 1u) * params.groups);
  var a1 = a0;
  var a2 = a0;
  var a3 = a0;
//:else
  var a0 = T(0.0);
  var a1 = T(0.0);
  var a2 = T(0.0);
  var a3 = T(0.0);
//:end
  for (; k + 7u * LANES < end; k += 8u * LANES) {
    let at = row + k * params.groups;
//:for u in 0..2
    a0 = combine(a0, load(at + ${4*u}u * step));
    a1 = combine(a1, load(at + ${4*u+1}u * step));
    a2 = combine(a2, load(at + ${4*u+2}u * step));
    a3 = combine(a3, load(at + ${4*u+3}u * step));
//:end
  }
  for (; k < end; k += LANES) {
    a0 = combine(a0, load(row + k * params.groups));
  }
  let a = combine(combine(a0, a1), combine(a2, a3));
//:if ROW && W == 4
//:if MAX
  output[params.offset_out + i] = params.scale * max(max(a.x, a.y), max(a.z, a.w));
//:else
  output[params.offset_out + i] = params.scale * ((a.x + a.y) + (a.z + a.w));
//:end
//:else
  output[params.offset_out + i] = params.scale * a;
//:end
}
