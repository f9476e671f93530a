// What the kernels that reduce along the last axis of [rows, UNITS * W] share: loads and stores,
// sums and maxima of a row.
//
// Tile scheme: a workgroup of 64 takes 64 / LANES rows at a time, LANES (8, 32 or 64) neighbouring
// invocations share one row and read neighbouring words: full 128-byte lines on a GPU, and on
// lavapipe one vector of 8 lanes per row. With KEEP each invocation holds its PER = UNITS / LANES
// loads of W elements in named registers, so a row is read once; else (ragged or very long rows)
// loops read it again for every pass. With SUBGROUPS partial sums meet by a butterfly of shuffles.
// Without, they meet in shared memory in octets: one round of 8 reads for 8 lanes, two rounds for
// more, that is 2 barriers per round instead of 6 or more in a binary tree, and several quantities
// share the barriers. Both give every lane the same sum. Why so: kernels/README.md, Laboratory
// notebook, rows.
//
// Constants: WG = 64, W, V ("vec4" or "f32", suffix of math functions), E ("f32" or "f16": what
// operands are stored as), HALF (E is f16), LANES, UNITS, KEEP, PER, SUBGROUPS (a row then lies
// within one subgroup).

//:include math
//:include half

//:if W == 4
// exp_vec4 for x <= 0, without the cases above.
fn exp_negative(x: vec4f) -> vec4f {
  let c = select(x, vec4f(-87.2), x < vec4f(-87.2));
  let n = round(c * MATH_LOG2E);
  return math_scale(n, fma(n, vec4f(-MATH_LN2_HI), c) + n * -MATH_LN2_LO);
}

alias T = vec4f;
//:if HALF
// Four f16 in two words: half the loads of vec4<f16>.
alias S = vec2u;

fn wide(v: S) -> T {
  return half_values(v);
}

fn narrow(v: T) -> S {
  return half_bits(v);
}
//:else
alias S = vec4f;

fn wide(v: S) -> T {
  return v;
}

fn narrow(v: T) -> S {
  return v;
}
//:end

fn lane_sum(v: T) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn lane_max(v: T) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}
//:else
fn exp_negative(x: f32) -> f32 {
  return exp_f32(x);
}

alias T = f32;
alias S = $E;

fn wide(v: S) -> T {
  return f32(v);
}

fn narrow(v: T) -> S {
  return $E(v);
}

fn lane_sum(v: T) -> f32 {
  return v;
}

fn lane_max(v: T) -> f32 {
  return v;
}
//:end

// max(a, b) by comparison, NaN passed over: a max of widened f16 is slow on lavapipe.
fn larger(a: T, b: T) -> T {
  return select(b, a, a > b);
}

//:if SUBGROUPS
// row_sum1, row_sum2, row_sum3: sums of the first components over the invocations of a row, for all
// of which every invocation of the workgroup must call it.
//:for n in 1..4
fn row_sum$n(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..3+2*(LANES>8)
//:for q in 0..n
  v[$q] += subgroupShuffleXor(v[$q], 1u << ${s}u);
//:end
//:end
  return v;
}
//:end

// row_max1, row_max2: maxima likewise.
//:for n in 1..3
fn row_max$n(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..3+2*(LANES>8)
//:for q in 0..n
  v[$q] = max(v[$q], subgroupShuffleXor(v[$q], 1u << ${s}u));
//:end
//:end
  return v;
}
//:end
//:else
var<workgroup> shared_rows: array<f32, ${3*WG}>;

//:for n in 1..4
fn row_sum$n(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..(LANES>8)+1
  workgroupBarrier();
//:for q in 0..n
  shared_rows[local + ${q*WG}u] = v[$q];
//:end
  workgroupBarrier();
//:if s == 0
  let b$s = local - local % 8u;
//:else
  let b$s = local - local % LANES + local % 8u;
//:end
//:for q in 0..n
  v[$q] = shared_rows[b$s + ${q*WG}u];
//:for j in 1..(s==0)*8+(s==1)*(LANES/8)
  v[$q] += shared_rows[b$s + ${q*WG+j*(1+7*s)}u];
//:end
//:end
//:end
  return v;
}
//:end

//:for n in 1..3
fn row_max$n(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..(LANES>8)+1
  workgroupBarrier();
//:for q in 0..n
  shared_rows[local + ${q*WG}u] = v[$q];
//:end
  workgroupBarrier();
//:if s == 0
  let b$s = local - local % 8u;
//:else
  let b$s = local - local % LANES + local % 8u;
//:end
//:for q in 0..n
//:for j in 0..(s==0)*8+(s==1)*(LANES/8)
  v[$q] = max(v[$q], shared_rows[b$s + ${q*WG+j*(1+7*s)}u]);
//:end
//:end
//:end
  return v;
}
//:end
//:end
