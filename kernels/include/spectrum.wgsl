// Rows of numbers that transforms read and write (fft.wgsl, chirp.wgsl): complex numbers as pairs;
// with REAL_IN, REAL_OUT their real parts alone; half spectra (n / 2 + 1 bins) as complex numbers
// that are 0 beyond, with DOUBLE_IN, DOUBLE_OUT twice the value for the bins that stand for two.
//
// Constants: SIGN (true: exp(+i...)), REAL_IN, HALF_IN, REAL_OUT, HALF_OUT, DOUBLE_IN, DOUBLE_OUT.

//:include sine

struct Params {
  count: u32, // invocations that do work
  n: u32, // length of the transform
  done: u32, // L of fft.wgsl
  left: u32, // n / L' of fft.wgsl
  radix: u32,
  ins: u32, // elements per row read
  outs: u32, // elements per row written
  scale: f32, // of what is written
}

@group(0) @binding(0) var<uniform> params: Params;
//:if REAL_IN
@group(0) @binding(1) var<storage, read> source: array<f32>;
//:else
@group(0) @binding(1) var<storage, read> source: array<vec2f>;
//:end
//:if REAL_OUT
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
//:else
@group(0) @binding(2) var<storage, read_write> result: array<vec2f>;
//:end

// exp(SIGN 2 pi i k / n), k < n.
fn rotation(k: u32, n: u32) -> vec2f {
//:if SIGN
  return root_of_unity(k, n) * vec2f(1.0, -1.0);
//:else
  return root_of_unity(k, n);
//:end
}

fn product(a: vec2f, b: vec2f) -> vec2f {
  return vec2f(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

fn times(k: u32) -> f32 {
  return select(2.0, 1.0, k == 0u || 2u * k == params.n);
}

fn load(row: u32, at: u32) -> vec2f {
//:if REAL_IN
  return vec2f(source[row * params.ins + at], 0.0);
//:else
//:if HALF_IN
  if (at >= params.ins) {
    return vec2f(0.0);
  }
//:end
//:if DOUBLE_IN
  return times(at) * source[row * params.ins + at];
//:else
  return source[row * params.ins + at];
//:end
//:end
}

fn store(row: u32, at: u32, value: vec2f) {
//:if REAL_OUT
  result[row * params.outs + at] = params.scale * value.x;
//:else
//:if DOUBLE_OUT
  result[row * params.outs + at] = times(at) * params.scale * value;
//:else
  result[row * params.outs + at] = params.scale * value;
//:end
//:end
}
