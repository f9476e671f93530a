// Looks for NaN and infinity: found[slot] = min over bad elements i of 2 i + (1 for NaN, 0 for
// infinity).
//
// With INDICES for indices that are not below params.limit: found[slot] = min over bad elements i
// of i, and found[slot + 1] = the complement of the largest of them.
//
// Values are read as bits, because a compiler may assume that floats are finite. The minimum of
// integers does not depend on the order of the invocations. Only diagnostics use this, so it is the
// plainest kernel that works.
//
// Constants: WG, INDICES.

struct Params {
  count: u32, // elements to look at
  base: u32, // index of the first of them within the tensor
  slot: u32,
  limit: u32, // what indices must be below
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;

const EXPONENT = 0x7f800000u;
const FRACTION = 0x007fffffu;

//:include entry_point

fn invocation(i: u32) {
  let bits = values[i];
//:if INDICES
  if (bits >= params.limit) {
    atomicMin(&found[params.slot], params.base + i);
    atomicMin(&found[params.slot + 1u], ~bits);
  }
//:else
  if ((bits & EXPONENT) == EXPONENT) {
    let is_nan = select(0u, 1u, (bits & FRACTION) != 0u);
    atomicMin(&found[params.slot], (params.base + i) * 2u + is_nan);
  }
//:end
}
