// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …; A is M x K, B is K x N, both possibly stored transposed.
//
// Tile scheme: register tiles, no shared memory. Each invocation owns ROWS rows x 4 VECS columns of C (8 x 8) in named
// vec4 accumulators. Per 4 steps of K it loads 16 vec4 (8 from A, 8 from B, whatever the layouts: a transposed operand
// is loaded along its own rows and re-named in registers, which costs nothing) for 256 multiply-adds.
// A workgroup of WX x WY invocations covers ROWS*WY rows x 4*VECS*WX columns; lanes run along columns.
//
// Why: on lavapipe a load costs about 30 multiply-adds and shared memory is no cheaper than storage, so only the
// ratio of multiply-adds per load counts (KERNELS.md section 6). K is unrolled by 4 in the text because naga puts a
// counter on every loop.
//
// Edges: with VEC, M (when A is transposed), N and the leading dimensions are multiples of 4; rows and columns past
// the edge are clamped on load and dropped on store. Without VEC every element is loaded alone and bounds are checked.
//
// Constants: E (f32 or f16: what is stored; sums are f32), TA, TB, VEC, ROWS (a multiple of 4), VECS, WX, WY, STORE
// (rows unrolled in gemm_store.wgsl), DOWN = ACROSS = 4 for it, BIAS, GELU (stores gelu(c) and keeps c in `pre`),
// RESIDUAL, ACC. gemm_subgroup.wgsl is faster where subgroups have a known size, gemm_tiled.wgsl is meant for GPUs.
//
// f16 on lavapipe (Mesa 22.3.6), 1024 x 768 x 768, NT / NN / TN, best of 3, GFLOP/s: 23 / 23 / 22, f32 26 / 21 / 20;
// gemm_subgroup.wgsl 51 / 49 / 39, f32 54 / 54 / 54. It saves memory there, no time.

//:include gemm_bindings

//:if !VEC
fn load_a(base: u32, row: u32, k: u32) -> f32 {
  let r = min(row, params.m - 1u);
  let c = min(k, params.k - 1u);
//:if TA
  return select(0.0, f32(a_data[base + c * params.lda + r]), k < params.k);
//:else
  return select(0.0, f32(a_data[base + r * params.lda + c]), k < params.k);
//:end
}

fn load_b(base: u32, k: u32, column: u32) -> f32 {
  let r = min(k, params.k - 1u);
  let c = min(column, params.n - 1u);
//:if TB
  return select(0.0, f32(b_data[base + c * params.ldb + r]), k < params.k);
//:else
  return select(0.0, f32(b_data[base + r * params.ldb + c]), k < params.k);
//:end
}
//:end

@compute @workgroup_size(WX, WY)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let row = (group.y * WY + lane.y) * ROWS;
  let column = (group.x * WX + lane.x) * ${VECS*4}u;
  if (row >= params.m || column >= params.n) {
    return;
  }
  let a_base = params.offset_a + group.z * params.batch_a;
  let b_base = params.offset_b + group.z * params.batch_b;
  let c_base = params.offset_c + group.z * params.batch_c;
//:for r in 0..ROWS
//:for j in 0..VECS
  var acc${r}_$j = vec4f(0.0);
//:end
//:end

//:if VEC
  // Everything below counts in vec4.
  let lda = params.lda / 4u;
  let ldb = params.ldb / 4u;
//:if TA
//:for i in 0..ROWS/4
  let a_at$i = a_base / 4u + min(row + ${i*4}u, params.m - 4u) / 4u;
//:end
//:else
//:for r in 0..ROWS
  let a_at$r = a_base / 4u + min(row + ${r}u, params.m - 1u) * lda;
//:end
//:end
//:if TB
//:for c in 0..VECS*4
  let b_at$c = b_base / 4u + min(column + ${c}u, params.n - 1u) * ldb;
//:end
//:else
//:for j in 0..VECS
  let b_at$j = b_base / 4u + min(column + ${j*4}u, params.n - 4u) / 4u;
//:end
//:end
  let whole = params.k / 4u;
  for (var k = 0u; k < whole; k++) {
//:if TA
//:for q in 0..4
//:for i in 0..ROWS/4
    let a${q}_${i} = vec4f(a_data[a_at$i + (k * 4u + ${q}u) * lda]);
//:end
//:end
//:else
//:for r in 0..ROWS
    let a$r = vec4f(a_data[a_at$r + k]);
//:end
//:end
//:if TB
//:for c in 0..VECS*4
    let t$c = vec4f(b_data[b_at$c + k]);
//:end
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_$j = vec4f(t${j*4}[$q], t${j*4+1}[$q], t${j*4+2}[$q], t${j*4+3}[$q]);
//:end
//:end
//:else
//:for q in 0..4
//:for j in 0..VECS
    let b${q}_${j} = vec4f(b_data[b_at$j + (k * 4u + ${q}u) * ldb]);
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
//:if TA && !TB
  // K need not be a multiple of 4 when neither operand is loaded along it.
  for (var k = whole * 4u; k < params.k; k++) {
//:for i in 0..ROWS/4
    let a$i = vec4f(a_data[a_at$i + k * lda]);
//:end
//:for j in 0..VECS
    let b$j = vec4f(b_data[b_at$j + k * ldb]);
//:end
//:for r in 0..ROWS
//:for j in 0..VECS
    acc${r}_${j} = fma(vec4f(a${r/4}[${r%4}]), b$j, acc${r}_${j});
//:end
//:end
  }
//:end
//:else
  for (var k = 0u; k < params.k; k += 2u) {
//:for q in 0..2
//:for j in 0..VECS
    let b${q}_${j} = vec4f(
//:for c in 0..4
      load_b(b_base, k + ${q}u, column + ${j*4+c}u),
//:end
    );
//:end
//:for r in 0..ROWS
    let a${r}_${q} = load_a(a_base, row + ${r}u, k + ${q}u);
//:for j in 0..VECS
    acc${r}_$j = fma(vec4f(a${r}_${q}), b${q}_$j, acc${r}_$j);
//:end
//:end
//:end
  }
//:end

//:include gemm_store
}
