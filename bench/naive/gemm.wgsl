// Plain matrix product to hold gemm against: one thread per output, nothing shared, nothing
// unrolled.
//
//   c[b, i, j] = alpha sum over p of A[b, i, p] B[b, p, j] (+ bias[j]) (+ residual[b, i, j])
//   or GELU of it
//
// Constants: TA, TB whether the stored matrix is the transpose, BIAS, GELU, RESIDUAL. It may do the
// first rows only.

struct Params {
  count: u32,
  rows: u32,
  m: u32,
  n: u32,
  k: u32,
  alpha: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
//:if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>;
//:end
//:if RESIDUAL
@group(0) @binding(${4+BIAS}) var<storage, read> residual: array<f32>;
//:end
//:if GELU
//:include math
//:end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let j = i % params.n;
  let row = i / params.n % params.rows;
  let batch = i / params.n / params.rows;
  let first_a = batch * params.m * params.k;
  let first_b = batch * params.k * params.n;
  var sum = 0.0;
  for (var p = 0u; p < params.k; p++) {
//:if TA
    let x = a[first_a + p * params.m + row];
//:else
    let x = a[first_a + row * params.k + p];
//:end
//:if TB
    let y = b[first_b + j * params.k + p];
//:else
    let y = b[first_b + p * params.n + j];
//:end
    sum += x * y;
  }
  sum *= params.alpha;
//:if BIAS
  sum += bias[j];
//:end
//:if RESIDUAL
  sum += residual[i];
//:end
//:if GELU
  sum = gelu_f32(sum);
//:end
  c[i] = sum;
}
