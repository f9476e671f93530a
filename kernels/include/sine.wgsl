// Sine and cosine, the same on every adapter: the builtins have no stated error on most. Taylor
// polynomials of degree 9 and 8 on an eighth of a turn, 3e-8; multiples of a quarter turn are
// exact.

// (cos, sin) of `quarter` quarter turns and `a` radians, |a| <= pi / 4.
fn cosine_sine(a: f32, quarter: u32) -> vec2f {
  let s = a * a;
  let sine = a * (1.0 + s * (-0.166666667 + s * (0.00833333333 + s * (-0.000198412698 +
    s * 2.75573192e-6))));
  let cosine = 1.0 + s * (-0.5 + s * (0.0416666667 + s * (-0.00138888889 + s * 2.48015873e-5)));
  let q = quarter & 3u;
  let swapped = (q & 1u) == 1u;
  let x = select(cosine, sine, swapped) * select(1.0, -1.0, q == 1u || q == 2u);
  let y = select(sine, cosine, swapped) * select(1.0, -1.0, q >= 2u);
  return vec2f(x, y);
}

// exp(-2 pi i k / n) for k < n, with the angle reduced in integers.
fn root_of_unity(k: u32, n: u32) -> vec2f {
  let q = (4u * k + n / 2u) / n;
  let a = f32(i32(4u * k) - i32(q * n)) / f32(n) * 1.57079633;
  return cosine_sine(a, q) * vec2f(1.0, -1.0);
}
