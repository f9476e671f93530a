// Stable sorting of rows: blocks by counting, then pairs of sorted runs are merged, pass by pass.
// Rows of n elements take n log2(n) comparisons and a few, and log2(n / 32) passes.
//
// Counting: element i of a block goes to place #{j : x_j < x_i, or x_j = x_i and j < i}: block^2
// comparisons, the block comes from cache. MERGE: an invocation makes CHUNK neighbouring elements
// of a merged pair of runs. It finds where they start in either run by binary search (the place
// where a diagonal crosses the path of the merge) and merges from there. No shared memory, no
// barrier, no atomics. Elements are compared by their keys of include/order.wgsl: NaN is above
// infinity, so last, or first where DESCENDING; of equal ones those on the left come first.
//
// Of each block or pair only the first `keep` elements are written, so that the first k of a row
// cost little more than its blocks: runs stay that short.
//
// SPREAD is the way back: result[row, order[row, j]] = source[row, j], for distinct places.
//
// Constants: WG, E (f32, f16, u32 or i32; FLOAT and SIGNED tell which), DESCENDING (largest first,
// ties still by lower index), MERGE, CHUNK, SPREAD.

struct Params {
  count: u32, // invocations that do work
  width: u32, // elements per row of the source
  run: u32, // elements per block, or per sorted run that is merged
  keep: u32, // elements that are written per block or pair
  places: u32, // elements per row of the result
  chunks: u32, // with MERGE, invocations per pair
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> values: array<$E>;
//:if SPREAD
@group(0) @binding(3) var<storage, read> order: array<u32>;
//:else
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
//:end

//:if !MERGE && !SPREAD
fn before(j: u32, kj: u32, i: u32, ki: u32) -> u32 {
  return select(0u, 1u, kj < ki || (kj == ki && j < i));
}
//:end

//:include entry_point

fn invocation(at: u32) {
//:if SPREAD
  values[at / params.width * params.places + order[at]] = source[at];
//:else
//:if MERGE
  let pairs = (params.width + 2u * params.run - 1u) / (2u * params.run);
  let row = at / (pairs * params.chunks);
  let pair = at / params.chunks % pairs;
  let start = pair * 2u * params.run;
  // Runs of a and b elements, of which b may be 0.
  let a = min(params.run, params.width - start);
  let b = min(params.run, params.width - start - a);
  let left = row * params.width + start;
  let right = left + a;
  let first = at % params.chunks * CHUNK;
  let end = min(min(first + CHUNK, params.keep), a + b);
  if (first >= end) {
    return;
  }
  // How many of the first elements come from the left.
  var low = max(first, b) - b;
  var high = min(first, a);
  while (low < high) {
    let middle = (low + high) / 2u;
    if (key(source[left + middle]) <= key(source[right + first - 1u - middle])) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  var i = low;
  var j = first - low;
  // What lies beyond the end of a run is read, but not taken.
  var x = source[left + i];
  var y = source[right + j];
  let to = row * params.places + pair * params.keep;
  for (var k = first; k < end; k++) {
    if (j == b || (i < a && key(x) <= key(y))) {
      values[to + k] = x;
      indices[to + k] = order[left + i];
      i++;
      x = source[left + i];
    } else {
      values[to + k] = y;
      indices[to + k] = order[right + j];
      j++;
      y = source[right + j];
    }
  }
//:else
  let row = at / params.width;
  let base = row * params.width;
  let i = at - base;
  let value = source[at];
  let ki = key(value);
  let block = i / params.run;
  let end = min((block + 1u) * params.run, params.width);
  var place = 0u;
  var j = block * params.run;
  for (; j + 3u < end; j += 4u) {
//:for u in 0..4
    place += before(j + ${u}u, key(source[base + j + ${u}u]), i, ki);
//:end
  }
  for (; j < end; j++) {
    place += before(j, key(source[base + j]), i, ki);
  }
  if (place < params.keep) {
    let to = row * params.places + block * params.keep + place;
    values[to] = value;
    indices[to] = i;
  }
//:end
//:end
}
