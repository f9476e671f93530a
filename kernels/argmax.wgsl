// Index of the largest (or, with MIN, smallest) element along the middle axis of [outer, width,
// inner]; the lowest index among equals.
//
// A workgroup takes a row (one place of outer and inner): its invocations walk it side by side and
// keep their best, the first one then looks through the WG candidates in shared memory (one
// barrier). With inner above 1 neighbouring invocations read elements `inner` apart. Elements are
// compared by their keys of include/order.wgsl; NaN comes before all, with MIN as well.
//
// Long rows take several passes: PARTIAL ones write the index and the key of each block's best,
// [outer, parts, inner]; with JOIN such keys are the source, and `candidates` holds their indices.
//
// Constants: WG, E (element type; FLOAT and SIGNED tell which), MIN, JOIN, PARTIAL.

struct Params {
  rows: u32, // outer * inner
  parts: u32, // blocks per row
  block: u32, // elements per block
  width: u32, // elements per row
  inner: u32, // elements from one to the next of a row
  start: u32, // place of the first element within its row
  offset_source: u32, // elements before the first one; of the candidates as well
  offset_result: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;
//:if PARTIAL
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
//:end
//:if JOIN
@group(0) @binding(${PARTIAL+3}) var<storage, read> candidates: array<u32>;
//:end

var<workgroup> best_value: array<u32, WG>;
var<workgroup> best_index: array<u32, WG>;

//:if !JOIN
//:include order
//:end

// The larger, the better.
fn key(x: $E) -> u32 {
//:if JOIN
  return x;
//:else
  let k = order_key(x);
//:if MIN
//:if FLOAT
  return select(~k, k, k == 0xffffffffu);
//:else
  return ~k;
//:end
//:else
  return k;
//:end
//:end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let unclamped = group.x + group.y * groups.x;
  let row = min(unclamped, params.rows * params.parts - 1u) / params.parts;
  let outer = row / params.inner;
  let column = row % params.inner;
  let base = params.offset_source + outer * params.width * params.inner + column;
  let part = unclamped % params.parts;
  let first = part * params.block;
  let end = min(first + params.block, params.width);
  // Invocations beyond a short block repeat its last element.
  var at = min(first + lane, end - 1u);
  var value = key(source[base + at * params.inner]);
  for (var k = first + lane + WG; k < end; k += WG) {
    let x = key(source[base + k * params.inner]);
    if (x > value) {
      value = x;
      at = k;
    }
  }
  best_value[lane] = value;
  best_index[lane] = at;
  workgroupBarrier();
  if (lane > 0u || unclamped >= params.rows * params.parts) {
    return;
  }
  for (var k = 1u; k < WG; k++) {
    let x = best_value[k];
    let i = best_index[k];
    if (x > value || (x == value && i < at)) {
      value = x;
      at = i;
    }
  }
  let to = params.offset_result + (outer * params.parts + part) * params.inner + column;
//:if JOIN
  indices[to] = candidates[base + at * params.inner];
//:else
  indices[to] = params.start + at;
//:end
//:if PARTIAL
  keys[to] = value;
//:end
}
