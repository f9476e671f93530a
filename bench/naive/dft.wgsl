// Plain short-time Fourier transform by definition: one thread per bin of a frame, factors from a
// table.
//
//   X[clip, t, k] = sum over n of w[n] x[clip, HOP t + n] e^(-2 pi i k n / SIZE), k = 0..SIZE / 2
//
// Constants: SIZE, HOP. table[n] = (cos, sin) of -2 pi n / SIZE.

struct Params {
  count: u32,
  samples: u32,
  frames: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> wave: array<f32>;
@group(0) @binding(2) var<storage, read> window: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> spectrum: array<vec2f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  const bins = SIZE / 2u + 1u;
  let k = i % bins;
  let frame = i / bins % params.frames;
  let first = i / bins / params.frames * params.samples + frame * HOP;
  var sum = vec2f(0.0);
  for (var n = 0u; n < SIZE; n++) {
    sum += window[n] * wave[first + n] * table[k * n % SIZE];
  }
  spectrum[i] = sum;
}
