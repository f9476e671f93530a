// Plain Adam with decoupled weight decay: one thread per parameter. `hyper` as
// engine/ops/optimizer.ts lays it out: b1, 1 - b1, b2, 1 - b2, rate, factor of the root, eps,
// decay. clip[1] scales the gradient.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> clip: array<f32>;
@group(0) @binding(3) var<storage, read> grads: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let g = grads[i] * clip[1];
  m[i] = hyper[0] * m[i] + hyper[1] * g;
  v[i] = hyper[2] * v[i] + hyper[3] * g * g;
  values[i] = hyper[7] * values[i] - hyper[4] * m[i] / (sqrt(v[i]) * hyper[5] + hyper[6]);
}
