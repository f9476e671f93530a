// Around the convolution that is a Fourier transform of any length (Bluestein, 1970): with
// c_j = exp(SIGN pi i j^2 / n),
//   X_k = c_k sum over j < n of (x_j c_j) conj(c_(k - j)),
// whose sum is a product of spectra of `span` >= 2 n - 1 points. One invocation per element.
//
// STEP 0: x_j c_j, zeros from n on. STEP 1: conj(c_j), around both ends of the span. STEP 2: result
// times the row `source`. STEP 3: c_k times the sum. j^2 is reduced modulo 2 n in integers, so
// that angles are exact for n up to 2^24.
//
// Constants: WG, STEP, and those of include/spectrum.wgsl. params.left is the span.

//:include spectrum
//:include entry_point

// c_j for j < 2^24.
fn chirp(j: u32) -> vec2f {
  let turn = 2u * params.n;
  var square = 0u;
//:for part in 0..4
  square = (square * 64u + j * ((j >> ${18 - 6 * part}u) & 63u)) % turn;
//:end
  return rotation(square, turn);
}

fn invocation(i: u32) {
//:if STEP == 0
  let j = i % params.outs;
  if (j < params.n) {
    store(i / params.outs, j, product(load(i / params.outs, j), chirp(j)));
  } else {
    store(i / params.outs, j, vec2f(0.0));
  }
//:end
//:if STEP == 1
  let j = min(i, params.left - i);
  store(0u, i, select(vec2f(0.0), chirp(j) * vec2f(1.0, -1.0), j < params.n));
//:end
//:if STEP == 2
  result[i] = product(result[i], source[i % params.left]);
//:end
//:if STEP == 3
  let k = i % params.outs;
  store(i / params.outs, k, product(load(i / params.outs, k), chirp(k)));
//:end
}
