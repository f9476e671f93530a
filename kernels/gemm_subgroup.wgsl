// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …, as gemm.wgsl, for adapters with
// subgroups of LANES lanes.
//
// Tile scheme: a workgroup is one subgroup and owns ROWS rows x 4 LANES VECS columns of C, each
// lane ROWS rows x VECS vec4 of columns. Per 4 steps of K every element of A and B is loaded once
// per subgroup: each lane loads its own columns of B, and one vec4 of each group of LANES rows of
// A, which subgroupBroadcast then passes round. The lane to read from must be a constant, hence the
// text is generated for one subgroup size.
//
//   A as stored          lane l of group i loads                  A[r, k] then sits in
//   M x K                row LANES i + l, the 4 steps             lane r % LANES, component k % 4
//   K x M (TA)           step l % 4, rows LANES i + l / 4 * 4 …   lane r % LANES / 4 * 4 + k % 4, component r % 4
//
// Every element of C is summed over k in order, as in gemm.wgsl, so that tiles of all sizes give
// the same bits.
//
// Edges as in gemm.wgsl; all lanes stay active.
//
// Constants: E, TA, TB, VA, VB, VC, TAIL, BIAS, GELU, RESIDUAL, ACC as in gemm.wgsl; LANES (a
// multiple of 4), ROWS (a multiple of LANES), VECS; STORE, DOWN, ACROSS as in gemm_store.wgsl.
//
// Measured on lavapipe (Mesa 22.3.6, 2 cores shared with others), 1024 x 768 x 768, best of 21 or
// 25, GFLOP/s as NT / NN / TN: the work over half of the processor time that it took, which load
// from others disturbs less than elapsed time; the time of the first dispatch, that is compiling,
// in brackets. Multiply-adds in registers reach 100.
//   gemm.wgsl                 22 / 20 / 20 (0.3 s)
//   VECS 1, ROWS 8            32 / 31 / 24 (0.1 s);  16  43 / 42 / 35 (0.15 s);  32  52 / 54 / 47 (0.2 s)
//           ROWS 64           62 / 60 / 56 (0.25 s); 96  61 / 61 / 57 (0.4 s);  128  64 / 64 / 58 (0.5 s)
//   VECS 2, ROWS 24           51 / 51 / 47 (0.25 s); 32  58 / 57 / 53 (0.3 s);   48  62 / 60 / 56 (0.4 s)
//           ROWS 64           65 / 67 / 63 (0.5 s);  96  50 / 49 / 49 (0.8 s)
//   VECS 3, ROWS 24           51 / 50 / 50 (0.6 s)
//   8 steps of K per round    ROWS 64: 63 / 62 / 54, but twice the time to compile; ROWS 16: 45 / 45 / 38
//   rows inside, steps outside, in a group of rows: 59 / 57 / 55 where rows outside give 62 / 61 / 58 (VECS 2, ROWS 48)
//   workgroups with rows first: no faster, also where B is larger than the cache
//   one element at a time (VA = VB = VC = 1), 509 x 757 x 761, ROWS 64, VECS 2: 36 to 38, but 1.1 s to compile
//   NN and TN where B exceeds the 1 MiB L2 cache of a core: 256 x 2048 x K TN, VECS 2, ROWS 64, K 256 63, 512 50, 1064 37
//     to 41; NT 56. ROWS 128, VECS 1 gives 46 there: half as many passes over B. Leading dimensions that are no power of
//     two, or touching the lines of the next round of B and A ahead (one line per lane), change nothing.
//   elapsed time, all three in turn, ROWS 64 VECS 2 / ROWS 128 VECS 1 / ROWS 64 VECS 1, at a low clock (45 of
//     multiply-adds): TN 256 x 2048 x 1064 26 to 29 / 33 to 43 / 25 to 46; TN 768 x 3072 x 1072 26 to 31 / 34 to 45 /
//     27 to 42; NN 1072 x 768 x 3072 36 / 43 / 42; NN 1072 x 3072 x 768 35 / 41 / 41; NN 1024 x 768 x 768 34 / 40 / 38.
// The machine code shows why: the multiply-adds run near the peak, but more than half of the time
// goes to loads, each of them a loop over the lanes with a bounds check per component. Elements of
// vec4<u64>, 8 floats each, halve these checks (Deno grants wgpu-shader-int64): ROWS 32, VECS 2, NN
// 70 instead of 57. Not used: sizes would have to be multiples of 8, and the device would have to
// ask for the feature. No GPU was measured.

//:include gemm_bindings

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.y * ROWS;
  let column = (group.x * LANES + lane) * ${VECS*4}u;
  let c_start = group.z * params.batch_c;
  // Everything up to the stores counts in items.
  let a_base = (params.offset_a + group.z * params.batch_a) / VA;
  let b_base = (params.offset_b + group.z * params.batch_b) / VB;
  let lda = params.lda / VA;
  let ldb = params.ldb / VB;
//:for r in 0..ROWS
//:for j in 0..VECS
  var acc${r}_$j = vec4f(0.0);
//:end
//:end
//:for i in 0..ROWS/LANES
//:if TA
  let a_at$i = a_base + min((row + ${i*LANES}u + lane) / 4u, (params.m - 1u) / 4u) * ${4/VA}u + lane % 4u * lda;
//:else
  let a_at$i = a_base + min(row + ${i*LANES}u + lane, params.m - 1u) * lda;
//:end
//:end
//:if TB
//:for c in 0..VECS*4
  let b_at$c = b_base + min(column + ${c}u, params.n - 1u) * ldb;
//:end
//:else
//:for j in 0..VECS
  let b_at$j = b_base + min(column / 4u + ${j}u, (params.n - 1u) / 4u) * ${4/VB}u;
//:end
//:end
  let whole = params.k / 4u;
  for (var k = 0u; k < whole; k++) {
//:if TB
//:for c in 0..VECS*4
    let t$c = load_b(b_at$c + k * ${4/VB}u);
//:end
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_$j = vec4f(t${j*4}[$q], t${j*4+1}[$q], t${j*4+2}[$q], t${j*4+3}[$q]);
//:end
//:end
//:else
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_$j = load_b(b_at$j + (k * 4u + ${q}u) * ldb);
//:end
//:end
//:end
//:if TA
    let a_step = k * 4u * lda;
//:else
    let a_step = k * ${4/VA}u;
//:end
    // Each group of rows is loaded just before its use: shorter blocks of code compile faster.
//:for i in 0..ROWS/LANES
    let a$i = load_a(a_at$i + a_step);
//:for r in i*LANES..i*LANES+LANES
//:for q in 0..4
//:if TA
    let a${r}_$q = vec4f(subgroupBroadcast(a$i[${r%4}], ${r%LANES/4*4+q}u));
//:else
    let a${r}_$q = vec4f(subgroupBroadcast(a$i[$q], ${r%LANES}u));
//:end
//:for j in 0..VECS
    acc${r}_$j = fma(a${r}_$q, b${q}_$j, acc${r}_$j);
//:end
//:end
//:end
//:end
  }
//:if TAIL
  // The last steps one by one. Vectors along K are loaded once and turned, the next step first.
//:if TA
//:for i in 0..(ROWS+4*LANES-1)/(4*LANES)
  let tail_at$i = a_base + min(row / 4u + ${i*LANES}u + lane, (params.m - 1u) / 4u) * ${4/VA}u;
//:end
//:else
//:for i in 0..ROWS/LANES
  var a$i = load_a(a_at$i + whole * ${4/VA}u);
//:end
//:end
//:if TB
//:for c in 0..VECS*4
  var t$c = load_b(b_at$c + whole * ${4/VB}u);
//:end
//:end
  for (var k = whole * 4u; k < params.k; k++) {
//:for j in 0..VECS
//:if TB
    let b$j = vec4f(t${j*4}.x, t${j*4+1}.x, t${j*4+2}.x, t${j*4+3}.x);
//:else
    let b$j = load_b(b_at$j + k * ldb);
//:end
//:end
//:if TB
//:for c in 0..VECS*4
    t$c = t$c.yzwx;
//:end
//:end
//:if TA
//:for i in 0..(ROWS+4*LANES-1)/(4*LANES)
    let a$i = load_a(tail_at$i + k * lda);
//:end
//:end
//:for r in 0..ROWS
//:for j in 0..VECS
//:if TA
    acc${r}_$j = fma(vec4f(subgroupBroadcast(a${r/(4*LANES)}[${r%4}], ${r/4%LANES}u)), b$j, acc${r}_$j);
//:else
    acc${r}_$j = fma(vec4f(subgroupBroadcast(a${r/LANES}.x, ${r%LANES}u)), b$j, acc${r}_$j);
//:end
//:end
//:end
//:if !TA
//:for i in 0..ROWS/LANES
    a$i = a$i.yzwx;
//:end
//:end
  }
//:end

//:include gemm_store
}
