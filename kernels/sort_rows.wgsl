// Stable sorting of rows: blocks by counting, then pairs of sorted runs are merged, pass by pass.
//
// Counting: element i of a block goes to place #{j : x_j < x_i, or x_j = x_i and j < i}: block^2
// comparisons, the block comes from cache. With MERGE an element's place in the merged run is its
// place in its own plus the number of elements of the other run before it, by binary search. One
// invocation per element; no shared memory, no barrier, no atomics, and the places are a
// permutation whatever the values are. Elements are compared by their keys of include/order.wgsl:
// NaN is above infinity, so last, or first where DESCENDING.
//
// Constants: WG, E (f32, f16, u32 or i32; FLOAT and SIGNED tell which), DESCENDING (largest first,
// ties still by lower index), MERGE.

struct Params {
  count: u32, // rows * width: invocations that do work
  width: u32, // elements per row
  run: u32, // elements per block, or per sorted run that is merged
  keep: u32, // places that are written per row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> values: array<$E>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;
//:if MERGE
@group(0) @binding(4) var<storage, read> order: array<u32>;
//:end

//:include order

fn key(x: $E) -> u32 {
//:if DESCENDING
  return ~order_key(x);
//:else
  return order_key(x);
//:end
}

//:if !MERGE
fn before(j: u32, kj: u32, i: u32, ki: u32) -> u32 {
  return select(0u, 1u, kj < ki || (kj == ki && j < i));
}
//:end

//:include entry_point

fn invocation(at: u32) {
  let row = at / params.width;
  let base = row * params.width;
  let i = at - base;
  let value = source[at];
  let ki = key(value);
//:if MERGE
  let first = i - i % params.run;
  // Elements of the other run before this one: of equal ones those on the left come first.
  let left = first / params.run % 2u == 0u;
  let other = select(first - params.run, min(first + params.run, params.width), left);
  var low = other;
  var high = min(other + params.run, params.width);
  while (low < high) {
    let middle = (low + high) / 2u;
    let kj = key(source[base + middle]);
    if (kj < ki || (kj == ki && !left)) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  let place = min(first, other) + (i - first) + (low - other);
  let index = order[at];
//:else
  let first = i - i % params.run;
  let end = min(first + params.run, params.width);
  var place = first;
  var j = first;
  for (; j + 3u < end; j += 4u) {
//:for u in 0..4
    place += before(j + ${u}u, key(source[base + j + ${u}u]), i, ki);
//:end
  }
  for (; j < end; j++) {
    place += before(j, key(source[base + j]), i, ki);
  }
  let index = i;
//:end
  if (place < params.keep) {
    values[row * params.keep + place] = value;
    indices[row * params.keep + place] = index;
  }
}
