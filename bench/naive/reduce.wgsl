// Plain sum over the middle axis of [outer, reduce, inner]: one thread per output.
//
// Constants: SQUARE adds squares, ROOT takes the root of the sum, MAX takes the largest instead,
// VARIANCE goes on to the sum of squared deviations over one less than their number.

struct Params {
  count: u32,
  reduce: u32,
  inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let first = i / params.inner * params.reduce * params.inner + i % params.inner;
//:if MAX
  var sum = x[first];
//:else
  var sum = 0.0;
//:end
  for (var r = 0u; r < params.reduce; r++) {
    let value = x[first + r * params.inner];
//:if SQUARE
    sum += value * value;
//:else
//:if MAX
    sum = max(sum, value);
//:else
    sum += value;
//:end
//:end
  }
//:if VARIANCE
  let mean = sum / f32(params.reduce);
  sum = 0.0;
  for (var r = 0u; r < params.reduce; r++) {
    let apart = x[first + r * params.inner] - mean;
    sum += apart * apart;
  }
  sum /= f32(params.reduce - 1u);
//:end
//:if ROOT
  sum = sqrt(sum);
//:end
  y[i] = sum;
}
