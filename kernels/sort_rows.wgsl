// Stable sorting of rows by counting: element i goes to place #{j : x_j < x_i, or x_j = x_i and j <
// i}.
//
// One invocation per element reads its whole row: n^2 comparisons per row, no shared memory, no
// barrier, no atomics, and the places are a permutation whatever the values are. Neighbouring
// invocations read the same word, so the row comes from cache. Right for rows up to a few thousand
// elements; nothing else was tried. Elements are compared by their keys of include/order.wgsl: NaN is
// above infinity, so last, or first where DESCENDING.
//
// Constants: WG, E (f32, f16, u32 or i32; FLOAT and SIGNED tell which), DESCENDING (largest first,
// ties still by lower index).

struct Params {
  count: u32, // rows * width: invocations that do work
  width: u32, // elements per row
  keep: u32, // places that are written per row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> values: array<$E>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;

//:include order

fn key(x: $E) -> u32 {
//:if DESCENDING
  return ~order_key(x);
//:else
  return order_key(x);
//:end
}

fn before(j: u32, kj: u32, i: u32, ki: u32) -> u32 {
  return select(0u, 1u, kj < ki || (kj == ki && j < i));
}

//:include entry_point

fn invocation(at: u32) {
  let row = at / params.width;
  let base = row * params.width;
  let i = at - base;
  let value = source[at];
  let ki = key(value);
  var place = 0u;
  var j = 0u;
  for (; j + 3u < params.width; j += 4u) {
//:for u in 0..4
    place += before(j + ${u}u, key(source[base + j + ${u}u]), i, ki);
//:end
  }
  for (; j < params.width; j++) {
    place += before(j, key(source[base + j]), i, ki);
  }
  if (place < params.keep) {
    values[row * params.keep + place] = value;
    indices[row * params.keep + place] = i;
  }
}
