// L2 normalisation of rows and the cosine loss between two sets of rows.
//
// MODE 0, normalize:      y = a / n, n = max(|a|, eps); stats[row] = |a|
// MODE 1, its gradient:   dx = (dy - y sum(dy y)) / |a|, or dy / eps where |a| < eps (as torch: the
//                         clamp is flat)
// MODE 2, cosine loss:    loss[row] = 2 - 2 a.b / (na nb); stats[row] = (|a|, |b|, a.b, 0)
// MODE 3, its gradients:  da = -2 dloss / na (b / nb - cos a / na), the second term only where |a|
//                         >= eps; db alike
//
// Constants: those of include/rows.wgsl; MODE; in mode 3 DA and DB say which gradients are made.

//:include rows

struct Params {
  rows: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
//:if MODE == 0
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;
//:end
//:if MODE == 1
@group(0) @binding(1) var<storage, read> y: array<T>;
@group(0) @binding(2) var<storage, read> dy: array<T>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<T>;
//:end
//:if MODE == 2
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4f>;
//:end
//:if MODE == 3
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(3) var<storage, read> stats: array<vec4f>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
//:if DA
@group(0) @binding(5) var<storage, read_write> da: array<T>;
//:end
//:if DB
@group(0) @binding(${5+DA}) var<storage, read_write> db: array<T>;
//:end
//:end

// At least eps, but NaN where the length is.
fn norm_of(length: f32) -> f32 {
  return select(max(length, params.eps), length, is_nan_f32(length));
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let unclamped = (group.x + group.y * grid.x) * (WG / LANES) + local / LANES;
  let live = unclamped < params.rows;
  let row = min(unclamped, params.rows - 1u);
  let lane = local % LANES;
  let base = row * UNITS;
//:if MODE == 0
  var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
  let a$u = a[base + lane + ${u*LANES}u];
  sum += a$u * a$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let v = a[base + k];
    sum += v * v;
  }
//:end
  let norm = sqrt(row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x);
  let n = norm_of(norm);
  if (!live) {
    return;
  }
  if (lane == 0u) {
    norms[row] = norm;
  }
//:if KEEP
//:for u in 0..PER
  y[base + lane + ${u*LANES}u] = a$u / n;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    y[base + k] = a[base + k] / n;
  }
//:end
//:end
//:if MODE == 1
  var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
  let y$u = y[base + lane + ${u*LANES}u];
  let g$u = dy[base + lane + ${u*LANES}u];
  sum += y$u * g$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    sum += y[base + k] * dy[base + k];
  }
//:end
  let total = row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x;
  if (!live) {
    return;
  }
  let norm = norms[row];
  let radial = select(total, 0.0, norm < params.eps);
  let n = norm_of(norm);
//:if KEEP
//:for u in 0..PER
  dx[base + lane + ${u*LANES}u] = (g$u - y$u * radial) / n;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    dx[base + k] = (dy[base + k] - y[base + k] * radial) / n;
  }
//:end
//:end
//:if MODE == 2
  var sum_a = T(0.0);
  var sum_b = T(0.0);
  var sum_ab = T(0.0);
//:if KEEP
//:for u in 0..PER
  let a$u = a[base + lane + ${u*LANES}u];
  let b$u = b[base + lane + ${u*LANES}u];
  sum_a += a$u * a$u;
  sum_b += b$u * b$u;
  sum_ab += a$u * b$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let v = a[base + k];
    let w = b[base + k];
    sum_a += v * v;
    sum_b += w * w;
    sum_ab += v * w;
  }
//:end
  let s = row_sum3(vec4f(lane_sum(sum_a), lane_sum(sum_b), lane_sum(sum_ab), 0.0), local);
  if (live && lane == 0u) {
    let na = sqrt(s.x);
    let nb = sqrt(s.y);
    stats[row] = vec4f(na, nb, s.z, 0.0);
    loss[row] = 2.0 - 2.0 * (s.z / norm_of(na) / norm_of(nb));
  }
//:end
//:if MODE == 3
  if (!live) {
    return;
  }
  let s = stats[row];
  let na = norm_of(s.x);
  let nb = norm_of(s.y);
  let cosine = s.z / na / nb;
  let scale = -2.0 * dloss[row];
//:if DA
  let cross_a = scale / na / nb;
  let self_a = select(scale * cosine / na / na, 0.0, s.x < params.eps);
//:end
//:if DB
  let cross_b = scale / nb / na;
  let self_b = select(scale * cosine / nb / nb, 0.0, s.y < params.eps);
//:end
//:if KEEP
//:for u in 0..PER
  let a$u = a[base + lane + ${u*LANES}u];
  let b$u = b[base + lane + ${u*LANES}u];
//:if DA
  da[base + lane + ${u*LANES}u] = b$u * cross_a - a$u * self_a;
//:end
//:if DB
  db[base + lane + ${u*LANES}u] = a$u * cross_b - b$u * self_b;
//:end
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let v = a[base + k];
    let w = b[base + k];
//:if DA
    da[base + k] = w * cross_a - v * self_a;
//:end
//:if DB
    db[base + k] = v * cross_b - w * self_b;
//:end
  }
//:end
//:end
}
