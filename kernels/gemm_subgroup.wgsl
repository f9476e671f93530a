// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …, as gemm.wgsl, for adapters with
// subgroups of LANES lanes.
//
// Tile scheme: a workgroup is one subgroup and owns ROWS rows x 4 LANES VECS columns of C, each
// lane ROWS rows x VECS vec4 of columns. Per 4 steps of K every element of A and B is loaded once
// per subgroup: each lane loads its own columns of B, and one vec4 of each group of LANES rows of
// A, which subgroupBroadcast then passes round. The lane to read from must be a constant, hence the
// text is generated for one subgroup size.
//
//   A as stored   lane l of group i loads           A[r, k] then sits in
//   M x K         row LANES i + l, the 4 steps      lane r % LANES, component k % 4
//   K x M (TA)    step l % 4,                       lane r % LANES / 4 * 4 + k % 4,
//                 rows LANES i + l / 4 * 4 …        component r % 4
//
// Workgroups are taken in bands of BAND rows of tiles, down each column of a band: B then passes
// the cache once for a band, not once for each row of tiles.
//
// Every element of C is summed over k in the same order as in gemm.wgsl, so that tiles of all sizes
// give the same bits.
//
// Edges as in gemm.wgsl; all lanes stay active.
//
// Constants: E, TA, TB, VA, VB, VC, TAIL, BLOCKED, BIAS, GELU, FACTOR, RESIDUAL, PARTIAL, ACC, SUMS
// as in gemm.wgsl; LANES (a multiple of 4), ROWS (a multiple of LANES), VECS, BAND; STORE, DOWN,
// ACROSS as in gemm_store.wgsl; IMAGES as in gemm_bindings.wgsl, with a whole number of fours in K.
//
// Three times as fast as gemm.wgsl on lavapipe, as the lanes of a subgroup load nothing twice;
// which ROWS and VECS are fastest depends on the shape (kernels/README.md, Laboratory notebook,
// gemm_subgroup).

//:include gemm_bindings

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let place = id.x + id.y * groups.x;
  let band = place / (BAND * groups.x) * BAND;
  let high = min(BAND, groups.y - band);
  let rest = place - band * groups.x;
  let group = vec3u(rest / high, band + rest % high, id.z);
  let row = group.y * ROWS;
  let column = (group.x * LANES + lane) * ${VECS*4}u;
  let c_start = group.z * params.batch_c;
//:if !IMAGES
  // Everything up to the stores counts in items.
  let a_base = (params.offset_a + group.z * params.batch_a) / VA;
  let b_base = (params.offset_b + group.z * params.batch_b) / VB;
  let lda = params.lda / VA;
  let ldb = params.ldb / VB;
//:end
//:for r in 0..ROWS
//:for j in 0..VECS
  var acc${r}_$j = vec4f(0.0);
//:end
//:end
//:if SUMS
//:for i in 0..ROWS/LANES
  var part$i = vec4f(0.0);
//:end
//:end
//:for i in 0..ROWS/LANES
//:if IMAGES && TA
  let a_at$i = vec2u((row + ${i*LANES}u + lane) / 4u, lane % 4u);
//:else
//:if IMAGES
  let a_at$i = vec2u(0u, row + ${i*LANES}u + lane);
//:else
//:if TA
  let a_at$i = a_base + min((row + ${i*LANES}u + lane) / 4u, (params.m - 1u) / 4u) * ${4/VA}u +
    lane % 4u * lda;
//:else
  let a_at$i = a_base + min(row + ${i*LANES}u + lane, params.m - 1u) * lda;
//:end
//:end
//:end
//:end
//:if TB
//:for c in 0..VECS*4
//:if IMAGES
  let b_at$c = vec2u(0u, column + ${c}u);
//:else
  let b_at$c = b_base + min(column + ${c}u, params.n - 1u) * ldb;
//:end
//:end
//:else
//:for j in 0..VECS
//:if IMAGES
  let b_at$j = vec2u(column / 4u + ${j}u, 0u);
//:else
  let b_at$j = b_base + min(column / 4u + ${j}u, (params.n - 1u) / 4u) * ${4/VB}u;
//:end
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
//:if IMAGES
    let step = vec2u(k, 0u);
    let rows = vec2u(0u, k * 4u);
    let b_row = vec2u(0u, 1u);
//:if TA
    let a_step = rows;
//:else
    let a_step = step;
//:end
//:if TB
    let b_step = step;
//:else
    let b_step = rows;
//:end
//:else
    let b_row = ldb;
//:if TA
    let a_step = k * 4u * lda;
//:else
    let a_step = k * ${4/VA}u;
//:end
//:if TB
    let b_step = k * ${4/VB}u;
//:else
    let b_step = k * 4u * ldb;
//:end
//:end
//:if TB
//:for c in 0..VECS*4
    let t$c = load_b(b_at$c + b_step);
//:end
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_$j = vec4f(t${j*4}[$q], t${j*4+1}[$q], t${j*4+2}[$q], t${j*4+3}[$q]);
//:end
//:end
//:else
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_$j = load_b(b_at$j + b_step + ${q}u * b_row);
//:end
//:end
//:end
    // Each group of rows is loaded just before its use: shorter blocks of code compile faster.
//:for i in 0..ROWS/LANES
    let a$i = load_a(a_at$i + a_step);
//:if SUMS
    part$i += a$i;
//:end
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
//:if BLOCKED
  }
//:end
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
    acc${r}_$j = fma(
      vec4f(subgroupBroadcast(a${r/(4*LANES)}[${r%4}], ${r/4%LANES}u)),
      b$j,
      acc${r}_$j,
    );
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

//:if SUMS
//:for i in 0..ROWS/LANES
//:if TAIL
  part$i += select(vec4f(0.0), load_a(a_at$i + whole * 4u * lda), lane % 4u < params.k % 4u);
//:end
  part$i += subgroupShuffleXor(part$i, 1u);
  part$i += subgroupShuffleXor(part$i, 2u);
  if (group.x == 0u && row + ${i*LANES}u + lane < params.m) {
    let pair = select(part$i.xy, part$i.zw, lane % 4u > 1u);
    sums_data[params.offset_sums + row + ${i*LANES}u + lane] =
      $E(select(pair.x, pair.y, lane % 2u == 1u));
  }
//:end
//:end
//:include gemm_store
}
