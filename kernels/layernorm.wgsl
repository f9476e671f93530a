// Layer normalisation of rows: y = (x - mean) / sqrt(var + eps) * gamma + beta, biased variance.
//
// Forward makes two passes over the registers: m0 = mean(x), then m1 = mean(x - m0) and the variance from the
// centred squares. m1 is the rounding error of m0: with rows at an offset of 1000 it is what keeps y exact to 1e-7
// of its size. stats[row] = (m0, m1, 1 / sqrt(var + eps), 0).
// Backward: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma.
//
// Constants: those of rows.wgsl; BACKWARD.

struct Params {
  rows: u32,
  count: f32, // elements per row
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> gamma: array<T>;
//:if BACKWARD
@group(0) @binding(3) var<storage, read> dy: array<T>;
@group(0) @binding(4) var<storage, read> stats: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> dx: array<T>;
//:else
@group(0) @binding(3) var<storage, read> beta: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec4f>;
//:end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let wanted = (group.x + group.y * grid.x) * (WG / LANES) + local / LANES;
  let live = wanted < params.rows;
  let row = min(wanted, params.rows - 1u);
  let lane = local % LANES;
  let base = row * UNITS;
//:if BACKWARD
  let s = stats[row];
  var sum_g = T(0.0);
  var sum_gx = T(0.0);
//:if KEEP
//:for u in 0..PER
  let h$u = ((x[base + lane + ${u*LANES}u] - s.x) - s.y) * s.z;
  let g$u = dy[base + lane + ${u*LANES}u] * gamma[lane + ${u*LANES}u];
  sum_g += g$u;
  sum_gx += g$u * h$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let g = dy[base + k] * gamma[k];
    sum_g += g;
    sum_gx += g * (((x[base + k] - s.x) - s.y) * s.z);
  }
//:end
  let means = row_sum2(vec4f(lane_sum(sum_g), lane_sum(sum_gx), 0.0, 0.0), local) / params.count;
  if (!live) {
    return;
  }
//:if KEEP
//:for u in 0..PER
  dx[base + lane + ${u*LANES}u] = s.z * ((g$u - means.x) - h$u * means.y);
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let h = ((x[base + k] - s.x) - s.y) * s.z;
    dx[base + k] = s.z * ((dy[base + k] * gamma[k] - means.x) - h * means.y);
  }
//:end
//:else
  var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
  let x$u = x[base + lane + ${u*LANES}u];
  sum += x$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    sum += x[base + k];
  }
//:end
  let m0 = row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x / params.count;
  var sum_d = T(0.0);
  var sum_dd = T(0.0);
//:if KEEP
//:for u in 0..PER
  let d$u = x$u - m0;
  sum_d += d$u;
  sum_dd += d$u * d$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let d = x[base + k] - m0;
    sum_d += d;
    sum_dd += d * d;
  }
//:end
  let moments = row_sum2(vec4f(lane_sum(sum_d), lane_sum(sum_dd), 0.0, 0.0), local) / params.count;
  let m1 = moments.x;
  let rstd = 1.0 / sqrt(max(moments.y - m1 * m1, 0.0) + params.eps);
  if (!live) {
    return;
  }
  if (lane == 0u) {
    stats[row] = vec4f(m0, m1, rstd, 0.0);
  }
//:if KEEP
//:for u in 0..PER
  y[base + lane + ${u*LANES}u] = (d$u - m1) * rstd * gamma[lane + ${u*LANES}u] + beta[lane + ${u*LANES}u];
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    y[base + k] = ((x[base + k] - m0) - m1) * rstd * gamma[k] + beta[k];
  }
//:end
//:end
}
