// Head of the kernels that reduce along the last axis of [rows, UNITS * W] (layernorm, softmax, normalize, loss).
//
// A workgroup of 64 takes 64 / LANES rows, LANES (8, 32 or 64) neighbouring invocations share one row and read
// neighbouring words: full 128-byte lines on a GPU, and on lavapipe one vector of 8 lanes per row. With KEEP each
// invocation holds its PER = UNITS / LANES loads of W elements in named registers, so a row is read once; else
// (ragged or very long rows) loops read it again for every pass.
// Partial results meet in shared memory in octets: one round of 8 reads for 8 lanes, two rounds for more. That is 2
// barriers per round instead of 6 or more in a binary tree (6.5 to 13 ns each on lavapipe), and every lane sees the
// same sum. Several quantities share the barriers. Shared memory holds scalars: vec4 elements, which lavapipe takes
// apart lane by lane, made softmax over 2048 1.4 times slower.
//
// Tried on lavapipe, 2 cores, best of 15 in ms, KEEP / loops, softmax over [2048, 2048], its cross entropy, and
// layer norm of [4096, 768]: 8 lanes 7.7 / 8.7, 11.8 / 15.6, 5.9 / 7.4; 16 lanes 9.8 / 9.8, 11.3 / 17.1, 7.6 / 9.9;
// 32 lanes 7.6 / 11.5, 13.1 / 19.3, 10.1 / 12.9; 64 lanes 10.0 / 14.4, 16.5 / 24.2, 17.4 / 20.2. (An addition of two
// [4096, 768] takes 7.5: stores dominate.) 8 lanes where registers allow (192 vec4), else 32: half the registers of 16.
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

var<workgroup> shared_rows: array<f32, ${3*WG}>;

// row_sum1, row_sum2, row_sum3: sums of the first components over the invocations of a row, for all of which every
// invocation of the workgroup must call it.
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

// row_max1, row_max2: maxima likewise.
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
