// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …; A is M x K, B is K x N, both possibly stored transposed.
//
// Tile scheme: register tiles, no shared memory. Each invocation owns 8 rows x 8 columns of C in 16 named vec4
// accumulators. Per 4 steps of K it loads 16 vec4 (8 from A, 8 from B, whatever the layouts: a transposed operand
// is loaded along its own rows and re-named in registers, which costs nothing) for 256 multiply-adds.
// A workgroup of WX x WY invocations covers 8*WY rows x 8*WX columns; lanes run along columns.
//
// Why: on lavapipe a load costs about 30 multiply-adds and shared memory is no cheaper than storage, so only the
// ratio of multiply-adds per load counts (KERNELS.md section 6). K is unrolled by 4 in the text because naga puts a
// counter on every loop.
//
// Edges: with VEC, M (when A is transposed), N and the leading dimensions are multiples of 4; rows and columns past
// the edge are clamped on load and dropped on store. Without VEC every element is loaded alone and bounds are checked.
//
// Constants: TA, TB, VEC, WX, WY, BIAS, GELU (stores gelu(c) and keeps c in `pre`), RESIDUAL, ACC.

//:if GELU
//:include math
//:end

struct Params {
  m: u32,
  n: u32,
  k: u32,
  lda: u32,
  ldb: u32,
  ldc: u32,
  offset_a: u32,
  offset_b: u32,
  offset_c: u32,
  offset_bias: u32,
  offset_residual: u32,
  offset_pre: u32,
  batch_a: u32, // elements between neighbouring matrices
  batch_b: u32,
  batch_c: u32,
  alpha: f32,
}

//:if VEC
alias E = vec4f;
//:else
alias E = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a_data: array<E>;
@group(0) @binding(2) var<storage, read> b_data: array<E>;
@group(0) @binding(3) var<storage, read_write> c_data: array<E>;
//:if BIAS
@group(0) @binding(4) var<storage, read> bias_data: array<E>;
//:end
//:if RESIDUAL
@group(0) @binding(${4+BIAS}) var<storage, read> residual_data: array<E>;
//:end
//:if GELU
@group(0) @binding(${4+BIAS+RESIDUAL}) var<storage, read_write> pre_data: array<E>;
//:end

//:if !VEC
fn load_a(base: u32, row: u32, k: u32) -> f32 {
  let r = min(row, params.m - 1u);
  let c = min(k, params.k - 1u);
//:if TA
  return select(0.0, a_data[base + c * params.lda + r], k < params.k);
//:else
  return select(0.0, a_data[base + r * params.lda + c], k < params.k);
//:end
}

fn load_b(base: u32, k: u32, column: u32) -> f32 {
  let r = min(k, params.k - 1u);
  let c = min(column, params.n - 1u);
//:if TB
  return b_data[base + c * params.ldb + r];
//:else
  return b_data[base + r * params.ldb + c];
//:end
}
//:end

@compute @workgroup_size(WX, WY)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let row = (group.y * WY + lane.y) * 8u;
  let column = (group.x * WX + lane.x) * 8u;
  if (row >= params.m || column >= params.n) {
    return;
  }
  let a_base = params.offset_a + group.z * params.batch_a;
  let b_base = params.offset_b + group.z * params.batch_b;
  let c_base = params.offset_c + group.z * params.batch_c;
//:for r in 0..8
  var acc${r}_0 = vec4f(0.0);
  var acc${r}_1 = vec4f(0.0);
//:end

//:if VEC
  // Everything below counts in vec4.
  let lda = params.lda / 4u;
  let ldb = params.ldb / 4u;
//:if TA
//:for i in 0..2
  let a_at$i = a_base / 4u + min(row + ${i*4}u, params.m - 4u) / 4u;
//:end
//:else
//:for r in 0..8
  let a_at$r = a_base / 4u + min(row + ${r}u, params.m - 1u) * lda;
//:end
//:end
//:if TB
//:for c in 0..8
  let b_at$c = b_base / 4u + min(column + ${c}u, params.n - 1u) * ldb;
//:end
//:else
//:for j in 0..2
  let b_at$j = b_base / 4u + min(column + ${j*4}u, params.n - 4u) / 4u;
//:end
//:end
  let whole = params.k / 4u;
  for (var k = 0u; k < whole; k++) {
//:if TA
//:for q in 0..4
//:for i in 0..2
    let a${q}_${i} = a_data[a_at$i + (k * 4u + ${q}u) * lda];
//:end
//:end
//:else
//:for r in 0..8
    let a$r = a_data[a_at$r + k];
//:end
//:end
//:if TB
//:for c in 0..8
    let t$c = b_data[b_at$c + k];
//:end
//:for q in 0..4
    let b${q}_0 = vec4f(t0[$q], t1[$q], t2[$q], t3[$q]);
    let b${q}_1 = vec4f(t4[$q], t5[$q], t6[$q], t7[$q]);
//:end
//:else
//:for q in 0..4
//:for j in 0..2
    let b${q}_${j} = b_data[b_at$j + (k * 4u + ${q}u) * ldb];
//:end
//:end
//:end
//:for q in 0..4
//:for r in 0..8
//:for j in 0..2
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
//:for i in 0..2
    let a$i = a_data[a_at$i + k * lda];
    let b$i = b_data[b_at$i + k * ldb];
//:end
//:for r in 0..8
//:for j in 0..2
    acc${r}_${j} = fma(vec4f(a${r/4}[${r%4}]), b$j, acc${r}_${j});
//:end
//:end
  }
//:end
//:else
  for (var k = 0u; k < params.k; k += 2u) {
//:for q in 0..2
//:for j in 0..2
    let b${q}_${j} = vec4f(
//:for c in 0..4
      load_b(b_base, k + ${q}u, column + ${j*4+c}u),
//:end
    );
//:end
//:for r in 0..8
    let a${r}_${q} = load_a(a_base, row + ${r}u, k + ${q}u);
    acc${r}_0 = fma(vec4f(a${r}_${q}), b${q}_0, acc${r}_0);
    acc${r}_1 = fma(vec4f(a${r}_${q}), b${q}_1, acc${r}_1);
//:end
//:end
  }
//:end

//:for r in 0..8
  if (row + ${r}u < params.m) {
//:for j in 0..2
//:if VEC
    if (column + ${j*4}u < params.n) {
      let at = (c_base + (row + ${r}u) * params.ldc + column) / 4u + ${j}u;
      var v = acc${r}_${j} * params.alpha;
//:if BIAS
      v += bias_data[(params.offset_bias + column) / 4u + ${j}u];
//:end
//:if RESIDUAL
      v += residual_data[at - params.offset_c / 4u + params.offset_residual / 4u];
//:end
//:if GELU
      pre_data[at - params.offset_c / 4u + params.offset_pre / 4u] = v;
      v = gelu_vec4(v);
//:end
//:if ACC
      v += c_data[at];
//:end
      c_data[at] = v;
    }
//:else
//:for c in 0..4
    if (column + ${j*4+c}u < params.n) {
      let at = c_base + (row + ${r}u) * params.ldc + column + ${j*4+c}u;
      var v = acc${r}_${j}[$c] * params.alpha;
//:if BIAS
      v += bias_data[params.offset_bias + column + ${j*4+c}u];
//:end
//:if RESIDUAL
      v += residual_data[at - params.offset_c + params.offset_residual];
//:end
//:if GELU
      pre_data[at - params.offset_c + params.offset_pre] = v;
      v = gelu_f32(v);
//:end
//:if ACC
      v += c_data[at];
//:end
      c_data[at] = v;
    }
//:end
//:end
//:end
  }
//:end
}
