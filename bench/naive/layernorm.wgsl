// Plain layer normalisation of rows: one thread per row, and one per column for the gradients of
// scale and shift.
//
// Constants: MODE 0 y and (mean, 1 / deviation) per row; 1 dx; 2 dgamma and dbeta.

struct Params {
  count: u32,
  rows: u32,
  width: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
//:if MODE == 0
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> beta: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;
//:else
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<vec2f>;
//:if MODE == 1
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
//:else
@group(0) @binding(4) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbeta: array<f32>;
//:end
//:end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let width = params.width;
//:if MODE == 0
  var mean = 0.0;
  for (var c = 0u; c < width; c++) {
    mean += x[i * width + c];
  }
  mean /= f32(width);
  var squares = 0.0;
  for (var c = 0u; c < width; c++) {
    let d = x[i * width + c] - mean;
    squares += d * d;
  }
  let scale = 1.0 / sqrt(squares / f32(width) + params.eps);
  for (var c = 0u; c < width; c++) {
    y[i * width + c] = (x[i * width + c] - mean) * scale * gamma[c] + beta[c];
  }
  stats[i] = vec2f(mean, scale);
//:end
//:if MODE == 1
  let s = stats[i];
  var sum = 0.0;
  var dot = 0.0;
  for (var c = 0u; c < width; c++) {
    let g = dy[i * width + c] * gamma[c];
    sum += g;
    dot += g * (x[i * width + c] - s.x) * s.y;
  }
  for (var c = 0u; c < width; c++) {
    let g = dy[i * width + c] * gamma[c];
    let xhat = (x[i * width + c] - s.x) * s.y;
    dx[i * width + c] = s.y * (g - sum / f32(width) - xhat * dot / f32(width));
  }
//:end
//:if MODE == 2
  var scale = 0.0;
  var shift = 0.0;
  for (var r = 0u; r < params.rows; r++) {
    let g = dy[r * width + i];
    scale += g * (x[r * width + i] - stats[r].x) * stats[r].y;
    shift += g;
  }
  dgamma[i] = scale;
  dbeta[i] = shift;
//:end
}
