// Plain 2 - 2 cos(a, b) of rows with the gradient of a for dloss = 1, or a over its length: one
// thread per row.
//
// Constants: NORMALIZE writes a / |a| alone.

struct Params {
  count: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
//:if NORMALIZE
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//:else
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//:end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let first = i * params.width;
  var aa = 0.0;
  var ab = 0.0;
  var bb = 0.0;
  for (var c = 0u; c < params.width; c++) {
    aa += a[first + c] * a[first + c];
//:if !NORMALIZE
    ab += a[first + c] * b[first + c];
    bb += b[first + c] * b[first + c];
//:end
  }
//:if NORMALIZE
  for (var c = 0u; c < params.width; c++) {
    y[first + c] = a[first + c] / sqrt(aa);
  }
//:else
  let cosine = ab / sqrt(aa * bb);
  loss[i] = 2.0 - 2.0 * cosine;
  for (var c = 0u; c < params.width; c++) {
    y[first + c] = 2.0 * (cosine * a[first + c] / aa - b[first + c] / sqrt(aa * bb));
  }
//:end
}
