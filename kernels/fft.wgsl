// One pass of a mixed-radix Fourier transform along rows (Stockham, decimation in time, out of
// place).
//
// With A_L[k, p] = sum over t < L of x[p + (n / L) t] w_L^(k t), w_L = exp(SIGN 2 pi i / L), stored
// at k (n / L) + p, a pass of radix R goes from L to L' = L R:
//   A_L'[k, p] = sum over s < R of w_L'^(k s) A_L[k mod L, p + (n / L') s],
// from A_1 = x to A_n = the transform, in natural order throughout. An invocation does the R
// elements k + L m of one k < L, which are sums of the same R; with R 0 one element. The first pass
// reads real numbers or half spectra, the last one writes them (include/spectrum.wgsl).
//
// w is computed where it is needed, its angle reduced in integers (include/sine.wgsl). Not tuned: a
// pass goes through global memory; short-time transforms have kernels/stft.wgsl.
//
// Constants: WG, R (1 to 5 unrolled, 1 for n = 1; 0: params.radix in a loop), and those of
// include/spectrum.wgsl.

//:include spectrum
//:include entry_point

fn put(row: u32, at: u32, value: vec2f) {
//:if HALF_OUT
  if (at < params.outs) {
    store(row, at, value);
  }
//:else
  store(row, at, value);
//:end
}

fn invocation(i: u32) {
  let length = params.done * params.radix;
//:if R == 0
  let row = i / params.outs;
  let o = i % params.outs;
  let k = o / params.left;
  let first = k % params.done * params.left * params.radix + o % params.left;
  var sum = load(row, first);
  for (var s = 1u; s < params.radix; s++) {
    sum += product(rotation(k * s % length, length), load(row, first + s * params.left));
  }
  store(row, o, sum);
//:else
  let each = params.n / params.radix;
  let row = i / each;
  let at = i % each;
  let k = at / params.left;
  let first = k * params.left * params.radix + at % params.left;
  let x0 = load(row, first);
//:for s in 1..R
  let x$s = product(rotation(k * ${s}u, length), load(row, first + ${s}u * params.left));
//:end
//:if R == 4
  let even = x0 + x2;
  let odd = x1 + x3;
  let less = x0 - x2;
//:if SIGN
  let turned = vec2f(x3.y - x1.y, x1.x - x3.x);
//:else
  let turned = vec2f(x1.y - x3.y, x3.x - x1.x);
//:end
  put(row, at, even + odd);
  put(row, at + each, less + turned);
  put(row, at + 2u * each, even - odd);
  put(row, at + 3u * each, less - turned);
//:else
//:for m in 0..R
  var sum$m = x0;
//:for s in 1..R
  sum$m += product(rotation(${m * s % R}u, ${R}u), x$s);
//:end
  put(row, at + ${m}u * each, sum$m);
//:end
//:end
//:end
}
