// One pass of a mixed-radix Fourier transform along rows (Stockham, decimation in time, out of
// place).
//
// With A_L[k, p] = sum over t < L of x[p + (n / L) t] w_L^(k t), w_L = exp(SIGN 2 pi i / L), stored
// at k (n / L) + p, a pass of radix R goes from L to L' = L R:
//   A_L'[k, p] = sum over s < R of w_L'^(k s) A_L[k mod L, p + (n / L') s],
// from A_1 = x to A_n = the transform, in natural order throughout. One invocation per element of
// the result, R loads each. Rows of real numbers or half spectra (n / 2 + 1 bins) are read by the
// first pass and written by the last, which also apply the weights of a real inverse: scale for bin
// 0 and n / 2, 2 scale for the bins that stand for two.
//
// w is computed where it is needed (include/sine.wgsl). Not tuned: a pass goes
// through global memory; short-time transforms have kernels/stft.wgsl.
//
// Constants: WG, R (2 to 5; 1 for n = 1), SIGN (true: exp(+i...)), REAL_IN, HALF_IN, REAL_OUT,
// WEIGHT_IN, WEIGHT_OUT.

//:include sine

struct Params {
  count: u32, // invocations that do work
  n: u32, // length of the transform
  done: u32, // L
  left: u32, // n / L'
  ins: u32, // elements per row read
  outs: u32, // elements per row written
  scale: f32,
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

fn weight(k: u32) -> f32 {
  return params.scale * select(2.0, 1.0, k == 0u || 2u * k == params.n);
}

fn load(row: u32, at: u32) -> vec2f {
//:if REAL_IN
  return vec2f(source[row * params.ins + at], 0.0);
//:else
//:if HALF_IN
  if (at >= params.ins) {
    return vec2f(0.0);
  }
//:if WEIGHT_IN
  return weight(at) * source[row * params.ins + at];
//:else
  return source[row * params.ins + at];
//:end
//:else
  return source[row * params.ins + at];
//:end
//:end
}

//:include entry_point

fn invocation(i: u32) {
  let row = i / params.outs;
  let o = i % params.outs;
  let k = o / params.left;
  let first = k % params.done * params.left * R + o % params.left;
  let length = params.done * R;
  var sum = load(row, first);
//:for s in 1..R
  let w$s = rotation(k * ${s}u % length, length);
  let x$s = load(row, first + ${s}u * params.left);
  sum += vec2f(w$s.x * x$s.x - w$s.y * x$s.y, w$s.x * x$s.y + w$s.y * x$s.x);
//:end
//:if REAL_OUT
  result[i] = sum.x;
//:else
//:if WEIGHT_OUT
  result[i] = weight(o) * sum;
//:else
  result[i] = sum;
//:end
//:end
}
