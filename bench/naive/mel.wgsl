// Plain log-mel values of a spectrum with a full filterbank [bins, BANDS]: one thread per output.

struct Params {
  count: u32,
  frames: u32,
  eps: f32,
  mean: f32,
  deviation: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> spectrum: array<vec2f>;
@group(0) @binding(2) var<storage, read> filters: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let t = i % params.frames;
  let band = i / params.frames % BANDS;
  let first = (i / params.frames / BANDS * params.frames + t) * BINS;
  var sum = 0.0;
  for (var k = 0u; k < BINS; k++) {
    let z = spectrum[first + k];
    sum += filters[k * BANDS + band] * dot(z, z);
  }
  out[i] = (log(sum + params.eps) - params.mean) / params.deviation;
}
