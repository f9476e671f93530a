// Index of the largest (or, with MIN, smallest) element along the middle axis of [outer, width,
// inner]; the lowest index among equals.
//
// A workgroup takes a row (one place of outer and inner): its invocations walk it side by side and
// keep their best, the first one then looks through the WG candidates in shared memory (one
// barrier). With inner above 1 neighbouring invocations read elements `inner` apart. Elements are
// compared by their keys of include/order.wgsl; NaN comes before all, with MIN as well.
//
// Constants: WG, E (element type; FLOAT and SIGNED tell which), MIN.

struct Params {
  rows: u32, // outer * inner
  width: u32, // elements per row
  inner: u32, // elements from one to the next of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;

var<workgroup> best_value: array<u32, WG>;
var<workgroup> best_index: array<u32, WG>;

//:include order

// The larger, the better.
fn key(x: $E) -> u32 {
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
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let unclamped = group.x + group.y * groups.x;
  let row = min(unclamped, params.rows - 1u);
  let base = row / params.inner * params.width * params.inner + row % params.inner;
  // Invocations beyond a short row repeat its last element.
  var at = min(lane, params.width - 1u);
  var value = key(source[base + at * params.inner]);
  for (var k = lane + WG; k < params.width; k += WG) {
    let x = key(source[base + k * params.inner]);
    if (x > value) {
      value = x;
      at = k;
    }
  }
  best_value[lane] = value;
  best_index[lane] = at;
  workgroupBarrier();
  if (lane > 0u || unclamped >= params.rows) {
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
  indices[row] = at;
}
