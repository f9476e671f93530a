// Plain gathering of tokens, y[b, i, :] = x[b, ids[b, i], :], and its adjoint: one thread per
// output element.
//
// Constants: BACKWARD: `narrow` is read, every row of `wide` looks through the indices.

struct Params {
  count: u32,
  rows: u32,
  picks: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let c = i % params.width;
//:if BACKWARD
  let row = i / params.width % params.rows;
  let batch = i / params.width / params.rows;
  var sum = 0.0;
  for (var j = 0u; j < params.picks; j++) {
    if ids[batch * params.picks + j] == row {
      sum += x[(batch * params.picks + j) * params.width + c];
    }
  }
  y[i] = sum;
//:else
  let pick = i / params.width;
  let batch = pick / params.picks;
  y[i] = x[(batch * params.rows + ids[pick]) * params.width + c];
//:end
}
