// Plain softmax of rows divided by a temperature: one thread per row.
//
// Constants: BACKWARD. Backward takes y and dy: dx = y (dy - sum y dy) / temperature.

struct Params {
  count: u32,
  width: u32,
  temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
//:if BACKWARD
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//:else
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//:end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let first = i * params.width;
//:if BACKWARD
  var dot = 0.0;
  for (var c = 0u; c < params.width; c++) {
    dot += x[first + c] * dy[first + c];
  }
  for (var c = 0u; c < params.width; c++) {
    y[first + c] = x[first + c] * (dy[first + c] - dot) / params.temperature;
  }
//:else
  var most = x[first];
  for (var c = 1u; c < params.width; c++) {
    most = max(most, x[first + c]);
  }
  var sum = 0.0;
  for (var c = 0u; c < params.width; c++) {
    sum += exp((x[first + c] - most) / params.temperature);
  }
  for (var c = 0u; c < params.width; c++) {
    y[first + c] = exp((x[first + c] - most) / params.temperature) / sum;
  }
//:end
}
