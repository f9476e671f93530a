// Plain sum over the middle axis of [outer, reduce, inner]: one thread per output.
//
// Constants: SQUARE adds squares, ROOT takes the root of the sum.

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
  var sum = 0.0;
  for (var r = 0u; r < params.reduce; r++) {
    let value = x[first + r * params.inner];
//:if SQUARE
    sum += value * value;
//:else
    sum += value;
//:end
  }
//:if ROOT
  sum = sqrt(sum);
//:end
  y[i] = sum;
}
