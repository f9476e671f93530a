// Normalisation of rows. With CENTRE layer normalisation, y = (x - mean) / sqrt(var + eps) * gamma
// + beta with biased variance; without, root-mean-square normalisation, y = x / sqrt(mean(x^2) +
// eps) * gamma. With RESIDUAL of x + r, which is an output too.
//
// Forward makes two passes over the registers: m0 = mean(x), then m1 = mean(x - m0) and the
// variance from the centred squares. m1 is the rounding error of m0: with rows at an offset of 1000
// it is what keeps y exact to 1e-7 of its size. stats[row] = (m0, m1, 1 / sqrt(var + eps), 0).
// Backward: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma, without mean(g) if
// not CENTRE; with RESIDUAL plus the gradient of the sum. With PARAMS (and KEEP) the same pass adds
// up dgamma = sum of dy * xhat and dbeta = sum of dy over its rows, which is one row of partial
// sums for reduce.wgsl: no atomics, a fixed order.
//
// Each invocation does `repeat` rows one after the other and loads gamma and beta once for all of
// them: twice as fast as one row (kernels/README.md, Laboratory notebook, rows).
//
// Constants: those of include/rows.wgsl; CENTRE, RESIDUAL, BACKWARD; DX and PARAMS: which
// gradients.

//:include rows

struct Params {
  rows: u32,
  count: f32, // elements per row
  eps: f32,
  repeat: u32, // rows per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<S>;
@group(0) @binding(2) var<storage, read> gamma: array<S>;
//:if BACKWARD
@group(0) @binding(3) var<storage, read> dy: array<S>;
@group(0) @binding(4) var<storage, read> stats: array<vec4f>;
//:if DX
@group(0) @binding(5) var<storage, read_write> dx: array<S>;
//:if RESIDUAL
@group(0) @binding(6) var<storage, read> dsum: array<S>;
//:end
//:end
//:if PARAMS
@group(0) @binding(${5+DX+DX*RESIDUAL}) var<storage, read_write> dgamma: array<T>;
//:if CENTRE
@group(0) @binding(${6+DX+DX*RESIDUAL}) var<storage, read_write> dbeta: array<T>;
//:end
//:end
//:else
@group(0) @binding(3) var<storage, read_write> y: array<S>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4f>;
//:if CENTRE
@group(0) @binding(5) var<storage, read> beta: array<S>;
//:end
//:if RESIDUAL
@group(0) @binding(6) var<storage, read> r: array<S>;
@group(0) @binding(7) var<storage, read_write> total: array<S>;
//:end
//:end

//:if BACKWARD
fn normal(at: u32, s: vec4f) -> T {
//:if CENTRE
  return ((wide(x[at]) - s.x) - s.y) * s.z;
//:else
  return wide(x[at]) * s.z;
//:end
}

fn store(at: u32, g: T, h: T, means: vec4f, rstd: f32) {
//:if DX
//:if CENTRE
  let d = rstd * ((g - means.y) - h * means.x);
//:else
  let d = rstd * (g - h * means.x);
//:end
//:if RESIDUAL
  dx[at] = narrow(d + wide(dsum[at]));
//:else
  dx[at] = narrow(d);
//:end
//:end
}
//:else
fn load(at: u32) -> T {
//:if RESIDUAL
  return wide(x[at]) + wide(r[at]);
//:else
  return wide(x[at]);
//:end
}
//:end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let team = (group.x + group.y * grid.x) * (WG / LANES) + local / LANES;
  let lane = local % LANES;
//:if KEEP
//:for u in 0..PER
  let gamma$u = wide(gamma[lane + ${u*LANES}u]);
//:if !BACKWARD && CENTRE
  let beta$u = wide(beta[lane + ${u*LANES}u]);
//:end
//:if BACKWARD && PARAMS
  var dgamma$u = T(0.0);
//:if CENTRE
  var dbeta$u = T(0.0);
//:end
//:end
//:end
//:end
  for (var i = 0u; i < params.repeat; i++) {
    // Rows past the end repeat the last one and store nothing: all invocations reach the barriers.
    let unclamped = team * params.repeat + i;
    let live = unclamped < params.rows;
    let row = min(unclamped, params.rows - 1u);
    let base = row * UNITS + lane;
//:if BACKWARD
    let s = stats[row];
    var sum_g = T(0.0);
    var sum_gh = T(0.0);
//:if KEEP
//:for u in 0..PER
    let h$u = normal(base + ${u*LANES}u, s);
    let d$u = wide(dy[base + ${u*LANES}u]);
//:if DX
    let g$u = d$u * gamma$u;
    sum_g += g$u;
    sum_gh += g$u * h$u;
//:end
//:end
//:else
    for (var k = lane; k < UNITS; k += LANES) {
      let g = wide(dy[base - lane + k]) * wide(gamma[k]);
      sum_g += g;
      sum_gh += g * normal(base - lane + k, s);
    }
//:end
//:if DX && CENTRE
    let means = row_sum2(vec4f(lane_sum(sum_gh), lane_sum(sum_g), 0.0, 0.0), local) / params.count;
//:else
//:if DX
    let means = row_sum1(vec4f(lane_sum(sum_gh), 0.0, 0.0, 0.0), local) / params.count;
//:end
//:end
    if (live) {
//:if KEEP
//:for u in 0..PER
//:if DX
      store(base + ${u*LANES}u, g$u, h$u, means, s.z);
//:end
//:if PARAMS
      dgamma$u += d$u * h$u;
//:if CENTRE
      dbeta$u += d$u;
//:end
//:end
//:end
//:else
      for (var k = lane; k < UNITS; k += LANES) {
        let at = base - lane + k;
        store(at, wide(dy[at]) * wide(gamma[k]), normal(at, s), means, s.z);
      }
//:end
    }
//:else
//:if CENTRE
    var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
    let x$u = load(base + ${u*LANES}u);
    sum += x$u;
//:end
//:else
    for (var k = lane; k < UNITS; k += LANES) {
      sum += load(base - lane + k);
    }
//:end
    let m0 = row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x / params.count;
//:else
    let m0 = 0.0;
//:end
    var sum_d = T(0.0);
    var sum_dd = T(0.0);
//:if KEEP
//:for u in 0..PER
//:if CENTRE
    let d$u = x$u - m0;
    sum_d += d$u;
//:else
    let d$u = load(base + ${u*LANES}u);
//:end
    sum_dd += d$u * d$u;
//:end
//:else
    for (var k = lane; k < UNITS; k += LANES) {
      let d = load(base - lane + k) - m0;
      sum_d += d;
      sum_dd += d * d;
    }
//:end
//:if CENTRE
    let moments =
      row_sum2(vec4f(lane_sum(sum_dd), lane_sum(sum_d), 0.0, 0.0), local) / params.count;
    let m1 = moments.y;
    let rstd = 1.0 / sqrt(max(moments.x - m1 * m1, 0.0) + params.eps);
//:else
    let moments = row_sum1(vec4f(lane_sum(sum_dd), 0.0, 0.0, 0.0), local) / params.count;
    let m1 = 0.0;
    let rstd = 1.0 / sqrt(moments.x + params.eps);
//:end
    if (live) {
      if (lane == 0u) {
        stats[row] = vec4f(m0, m1, rstd, 0.0);
      }
//:if KEEP
//:for u in 0..PER
//:if CENTRE
      y[base + ${u*LANES}u] = narrow((d$u - m1) * rstd * gamma$u + beta$u);
//:else
      y[base + ${u*LANES}u] = narrow(d$u * rstd * gamma$u);
//:end
//:if RESIDUAL
      total[base + ${u*LANES}u] = narrow(x$u);
//:end
//:end
//:else
      for (var k = lane; k < UNITS; k += LANES) {
        let at = base - lane + k;
        let v = load(at);
//:if CENTRE
        y[at] = narrow(((v - m0) - m1) * rstd * wide(gamma[k]) + wide(beta[k]));
//:else
        y[at] = narrow(v * rstd * wide(gamma[k]));
//:end
//:if RESIDUAL
        total[at] = narrow(v);
//:end
      }
//:end
    }
//:end
  }
//:if BACKWARD && PARAMS
  if (team * params.repeat < params.rows) {
//:for u in 0..PER
    dgamma[team * UNITS + lane + ${u*LANES}u] = dgamma$u;
//:if CENTRE
    dbeta[team * UNITS + lane + ${u*LANES}u] = dbeta$u;
//:end
//:end
  }
//:end
}
