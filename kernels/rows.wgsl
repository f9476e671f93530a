// Head of the kernels that reduce along the last axis of [rows, UNITS * W] (layernorm, softmax, normalize, loss).
//
// A workgroup of 64 takes 64 / LANES rows, LANES (8 or 64) neighbouring invocations share one row and read
// neighbouring words: full 128-byte lines on a GPU, and on lavapipe one vector of 8 lanes per row. With KEEP each
// invocation holds its PER = UNITS / LANES loads of W elements in named registers, so a row is read once; else
// (ragged or very long rows) loops read it again for every pass.
// Partial results meet in shared memory in octets: one round of 8 reads for 8 lanes, two for 64. That is 2 barriers
// per round instead of 6 or 12 in a binary tree (6.5 to 13 ns each on lavapipe; a shared vec4 load is 11.5), and every
// lane sees the same sum.
//
// Constants: WG = 64, W, V ("vec4" or "f32", suffix of math functions), LANES, UNITS, KEEP, PER.

//:include math

//:if W == 4
alias T = vec4f;

fn lane_sum(v: T) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn lane_max(v: T) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}
//:else
alias T = f32;

fn lane_sum(v: T) -> f32 {
  return v;
}

fn lane_max(v: T) -> f32 {
  return v;
}
//:end

var<workgroup> shared_rows: array<vec4f, WG>;

// Sums of four quantities over the invocations of a row. To be called by all invocations of the workgroup.
fn row_sum(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..(LANES==64)+1
  workgroupBarrier();
  shared_rows[local] = v;
  workgroupBarrier();
  let b$s = local - local / ${1+7*s}u % 8u * ${1+7*s}u;
  v = ((shared_rows[b$s] + shared_rows[b$s + ${1+7*s}u]) +
    (shared_rows[b$s + ${2*(1+7*s)}u] + shared_rows[b$s + ${3*(1+7*s)}u])) +
    ((shared_rows[b$s + ${4*(1+7*s)}u] + shared_rows[b$s + ${5*(1+7*s)}u]) +
    (shared_rows[b$s + ${6*(1+7*s)}u] + shared_rows[b$s + ${7*(1+7*s)}u]));
//:end
  return v;
}

// Maxima likewise.
fn row_max(value: vec4f, local: u32) -> vec4f {
  var v = value;
//:for s in 0..(LANES==64)+1
  workgroupBarrier();
  shared_rows[local] = v;
  workgroupBarrier();
  let b$s = local - local / ${1+7*s}u % 8u * ${1+7*s}u;
//:for j in 0..8
  v = max(v, shared_rows[b$s + ${j*(1+7*s)}u]);
//:end
//:end
  return v;
}
