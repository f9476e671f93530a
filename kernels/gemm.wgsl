// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …; A is M x K, B is K x N, both
// possibly stored transposed.
//
// Tile scheme: register tiles, no shared memory. Each invocation owns ROWS rows x 4 VECS columns of
// C (8 x 8) in named vec4 accumulators. Per 4 steps of K it loads 16 vec4 (8 from A, 8 from B,
// whatever the layouts: a transposed operand is loaded along its own rows and re-named in
// registers, which costs nothing) for 256 multiply-adds. A workgroup of WX x WY invocations covers
// ROWS*WY rows x 4*VECS*WX columns; lanes run along columns.
//
// Why: on lavapipe a load costs about 30 multiply-adds and shared memory is no cheaper than
// storage, so only the ratio of multiply-adds per load counts; K is unrolled by 4 in the text
// because loops carry a counter (kernels/README.md, What the compilers and drivers allow; figures
// in its notebook, gemm).
//
// Edges: rows and columns past the edge are clamped on load, by whole groups of four where these
// are neighbours in memory, and dropped on store. TAIL: K is no multiple of 4; the last steps run
// one by one.
//
// Constants: E (f32 or f16: what is stored; sums are f32), TA, TB, VA, VB, VC (gemm_bindings.wgsl),
// TAIL, BLOCKED (gemm_blocks.wgsl), ROWS (a multiple of 4), VECS, WX, WY, STORE (rows unrolled in
// gemm_store.wgsl), DOWN = ACROSS = 4 for it, BIAS, GELU (stores gelu(c), and its derivative
// in `slope`), FACTOR (multiplies c by what is there), RESIDUAL, PARTIAL (adds the f32 sum of
// products before, laid out like C), ACC, SUMS (with TA and without BLOCKED: stores the sums of A
// over K, each as four sums of every fourth step; their order is that of gemm_subgroup.wgsl too).
// gemm_subgroup.wgsl is faster where subgroups have a known size, gemm_tiled.wgsl is meant for
// GPUs.

//:include gemm_bindings

@compute @workgroup_size(WX, WY)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let row = (group.y * WY + lane.y) * ROWS;
  let column = (group.x * WX + lane.x) * ${VECS*4}u;
  if (row >= params.m || column >= params.n) {
    return;
  }
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
//:if SUMS
//:for q in 0..4
//:for i in 0..ROWS/4
  var part${q}_$i = vec4f(0.0);
//:end
//:end
//:end
//:if TA
//:for i in 0..ROWS/4
  let a_at$i = a_base + min(row / 4u + ${i}u, (params.m - 1u) / 4u) * ${4/VA}u;
//:end
//:else
//:for r in 0..ROWS
  let a_at$r = a_base + min(row + ${r}u, params.m - 1u) * lda;
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
//:if BLOCKED
//:include gemm_blocks
  let until = min(start / 4u + 32u, whole);
  for (var k = start / 4u; k < until; k++) {
//:else
  for (var k = 0u; k < whole; k++) {
//:end
//:if TA
//:for q in 0..4
//:for i in 0..ROWS/4
    let a${q}_${i} = load_a(a_at$i + (k * 4u + ${q}u) * lda);
//:if SUMS
    part${q}_$i += a${q}_$i;
//:end
//:end
//:end
//:else
//:for r in 0..ROWS
    let a$r = load_a(a_at$r + k * ${4/VA}u);
//:end
//:end
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
    let b${q}_${j} = load_b(b_at$j + (k * 4u + ${q}u) * ldb);
//:end
//:end
//:end
//:for q in 0..4
//:for r in 0..ROWS
//:for j in 0..VECS
//:if TA
    acc${r}_${j} = fma(vec4f(a${q}_${r/4}[${r%4}]), b${q}_${j}, acc${r}_${j});
//:else
    acc${r}_${j} = fma(vec4f(a${r}[$q]), b${q}_${j}, acc${r}_${j});
//:end
//:end
//:end
//:end
  }
//:if BLOCKED
  }
//:end
//:if TAIL
  // The last steps one by one. Vectors along K are loaded once and turned, the next step first.
//:if !TA
//:for r in 0..ROWS
  var a$r = load_a(a_at$r + whole * ${4/VA}u);
//:end
//:end
//:if TB
//:for c in 0..VECS*4
  var t$c = load_b(b_at$c + whole * ${4/VB}u);
//:end
//:end
  for (var k = whole * 4u; k < params.k; k++) {
//:if TA
//:for i in 0..ROWS/4
    let a$i = load_a(a_at$i + k * lda);
//:end
//:end
//:for j in 0..VECS
//:if TB
    let b$j = vec4f(t${j*4}.x, t${j*4+1}.x, t${j*4+2}.x, t${j*4+3}.x);
//:else
    let b$j = load_b(b_at$j + k * ldb);
//:end
//:end
//:for r in 0..ROWS
//:for j in 0..VECS
//:if TA
    acc${r}_${j} = fma(vec4f(a${r/4}[${r%4}]), b$j, acc${r}_${j});
//:else
    acc${r}_${j} = fma(vec4f(a${r}.x), b$j, acc${r}_${j});
//:end
//:end
//:end
//:if !TA
//:for r in 0..ROWS
    a$r = a$r.yzwx;
//:end
//:end
//:if TB
//:for c in 0..VECS*4
    t$c = t$c.yzwx;
//:end
//:end
  }
//:end

//:if SUMS
  if (column == 0u) {
//:for i in 0..ROWS/4
//:if TAIL
//:for q in 0..3
    part${q}_$i +=
      select(vec4f(0.0), load_a(a_at$i + (whole * 4u + ${q}u) * lda), ${q}u < params.k % 4u);
//:end
//:end
    let sum$i = (part0_$i + part1_$i) + (part2_$i + part3_$i);
//:for r in 0..4
    if (row + ${i*4+r}u < params.m) {
      sums_data[params.offset_sums + row + ${i*4+r}u] = $E(sum$i[$r]);
    }
//:end
//:end
  }
//:end
//:include gemm_store
}
