// Running sums, products, extrema and first-order recurrences along the middle axis of [outer,
// width, inner], in blocks: with TOTALS an invocation folds one block of an axis, a further scan of
// the totals (of the same kernel, LEAF being false) gives what comes before each block, and a pass
// with CARRY starts from there. So loops are short, sums are of blocks, and the order is fixed.
//
// SUM, PROD: y_k = x_0 * … * x_k, or without x_k where EXCLUSIVE.
// MAX, MIN: the place of the largest or smallest so far, the last of equal ones, and its value; NaN
// is above or below all and stays. Totals are places.
// LINEAR: s_k = source_k + factor_k s_(k - 1). A leaf's factor is that of the place behind it:
// backwards, s_i = source_i + factors_(i + 1) s_(i + 1), 0 beyond the end. With SEGMENTS factors
// are places as MAX gives them, which make 1 where place i + 1 is not its own and 0 where it is,
// and only those that are get a result.
//
// MOST, LEAST: the largest or smallest value of integers, as totals alone.
//
// REVERSE goes from the end of the axis to its beginning; totals stand in the order of the scan.
//
// Constants: WG, BLOCK, KIND (0 SUM, 1 PROD, 2 MAX, 3 MIN, 4 LINEAR, 5 MOST, 6 LEAST), SEGMENTS,
// TOTALS, CARRY, LEAF, REVERSE, EXCLUSIVE, E and EO (element types of source and result), C (what
// is computed with), F (element type of factors); FLOAT and SIGNED tell of E.

struct Params {
  count: u32, // invocations that do work: outer * parts * inner
  width: u32, // elements along the axis that is scanned
  inner: u32, // elements from one to the next along it
  parts: u32, // blocks
  whole: u32, // with MAX and MIN, elements of the source along its axis
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> result: array<$EO>;
//:if CARRY
@group(0) @binding(3) var<storage, read> carry: array<$C>;
//:end
//:if KIND == 4
@group(0) @binding(${3+CARRY}) var<storage, read> factors: array<$F>;
//:if TOTALS
@group(0) @binding(${4+CARRY}) var<storage, read_write> products: array<$C>;
//:end
//:end
//:if KIND == 2 || KIND == 3
//:if !LEAF
@group(0) @binding(${3+CARRY}) var<storage, read> places: array<u32>;
//:end
//:if LEAF && !TOTALS
@group(0) @binding(${3+CARRY}) var<storage, read_write> values: array<$E>;
//:end

//:include order

// The larger, the better; NaN is best.
fn key(x: $E) -> u32 {
  let k = order_key(x);
//:if KIND == 3
//:if FLOAT
  return select(~k, k, k == 0xffffffffu);
//:else
  return ~k;
//:end
//:else
  return k;
//:end
}
//:end

//:include entry_point

fn invocation(id: u32) {
  let column = id % params.inner;
  let part = id / params.inner % params.parts;
  let row = id / params.inner / params.parts;
  let base = row * params.width * params.inner + column;
  let end = min((part + 1u) * BLOCK, params.width);
//:if CARRY
  let before = carry[id - select(0u, params.inner, part > 0u)];
//:end
//:if KIND == 0
  var local = $C(0);
//:end
//:if KIND == 1
  var local = $C(1);
//:end
//:if KIND > 4
  var local = source[base + part * BLOCK * params.inner];
//:end
//:if KIND == 0 || KIND == 1
//:if CARRY
  let carried = select(local, before, part > 0u);
//:else
  let carried = local;
//:end
//:end
//:if KIND == 2 || KIND == 3
  let origin = row * params.whole * params.inner + column;
  var best = 0u;
  var best_key = 0u;
//:if CARRY
  if (part > 0u) {
    best = before;
    best_key = key(source[origin + best * params.inner]);
  }
//:end
//:end
//:if KIND == 4
  var local = $C(0);
  var product = $C(1);
//:if CARRY
  local = select(local, before, part > 0u);
//:end
//:end
  for (var k = part * BLOCK; k < end; k++) {
//:if REVERSE
    let place = params.width - 1u - k;
//:else
    let place = k;
//:end
    let at = base + place * params.inner;
//:if KIND == 0 || KIND == 1
//:if EXCLUSIVE && !TOTALS
//:if KIND == 0
    result[at] = $EO(carried + local);
//:else
    result[at] = $EO(carried * local);
//:end
//:end
//:if KIND == 0
    local += $C(source[at]);
//:else
    local *= $C(source[at]);
//:end
//:if !EXCLUSIVE && !TOTALS
//:if KIND == 0
    result[at] = $EO(carried + local);
//:else
    result[at] = $EO(carried * local);
//:end
//:end
//:end
//:if KIND == 5
    local = max(local, source[at]);
//:end
//:if KIND == 6
    local = min(local, source[at]);
//:end
//:if KIND == 2 || KIND == 3
//:if LEAF
    let candidate = place;
//:else
    let candidate = places[at];
//:end
    let candidate_key = key(source[origin + candidate * params.inner]);
    if (candidate_key >= best_key) {
      best = candidate;
      best_key = candidate_key;
    }
//:if !TOTALS
    result[at] = best;
//:if LEAF
    values[at] = source[origin + best * params.inner];
//:end
//:end
//:end
//:if KIND == 4
//:if LEAF
    let next = place + 1u;
    let within = next < params.width;
    let f = factors[select(at, at + params.inner, within)];
//:if SEGMENTS
    let factor = select($C(0), $C(1), within && f != next);
//:else
    let factor = select($C(0), $C(f), within);
//:end
//:else
    let factor = factors[at];
//:end
    local = $C(source[at]) + factor * local;
//:if TOTALS
    product *= factor;
//:else
//:if SEGMENTS && LEAF
    result[at] = $EO(select($C(0), local, factors[at] == place));
//:else
    result[at] = $EO(local);
//:end
//:end
//:end
  }
//:if TOTALS
//:if KIND == 2 || KIND == 3
  result[id] = best;
//:else
  result[id] = local;
//:end
//:if KIND == 4
  products[id] = product;
//:end
//:end
}
