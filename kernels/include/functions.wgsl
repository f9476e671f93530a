// Further elementary functions with known errors, for inclusion after math (`//:include math`), in
// the same manner: straight-line code on vec4, a scalar function is lane x of it. The builtins have
// errors of their own on every adapter, and most know no large arguments.
//
//   function                 largest error seen                 outside the range
//   sin_vec4, cos_vec4       2.5 ulp for all x                  NaN at infinity
//   tan_vec4                 4.0 ulp for all x                  NaN at infinity
//   asin_vec4, acos_vec4     2.2, 1.3 ulp                       NaN beyond 1
//   atan_vec4                1.7 ulp
//   atan2_vec4(y, x)         3.0 ulp                            zeros and infinities as in C
//   sinh_vec4, cosh_vec4     1.6, 1.3 ulp                       inf above 89.41
//   expm1_vec4               1.5 ulp                            -1 below, inf above 88.72
//   log1p_vec4               2.4 ulp                            log1p -1 = -inf, NaN below
//   log2_vec4                2.1 ulp, powers of two exact       as log
//   erfc_vec4                6.5 ulp                            0 above 9.32
//   gauss_vec4: e^(-x^2)     2.0 ulp                            0 above 9.32
//
// and the same with _f32. tests/engine/unary_test.ts holds the table.

const MATH_PI_2_HI: f32 = 1.57079637;
// pi / 2 - HI.
const MATH_PI_2_LO: f32 = -4.37113883e-8;

// `x` with the sign of `sign`.
fn math_signed(x: vec4f, sign: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  return bitcast<vec4f>(bits | (bitcast<vec4u>(sign) & vec4u(0x80000000u)));
}

// `y`, or NaN where `bad`.
fn math_unless(y: vec4f, bad: vec4<bool>) -> vec4f {
  return bitcast<vec4f>(select(bitcast<vec4u>(y), vec4u(0x7fc00000u), bad));
}

// Bits 32.. of the products.
fn math_high_product(a: vec4u, b: vec4u) -> vec4u {
  let low = vec4u(0xffffu);
  let half = vec4u(16u);
  let m = (a >> half) * (b & low) + (((a & low) * (b & low)) >> half);
  let n = (a & low) * (b >> half) + (m & low);
  return (a >> half) * (b >> half) + (m >> half) + (n >> half);
}

// Word i of the binary digits of 1 / (2 pi); word 0 stands before the point.
fn math_turn_word(i: vec4u) -> vec4u {
  var word = vec4u(0u);
  word = select(word, vec4u(0x28be60dbu), i == vec4u(1u));
  word = select(word, vec4u(0x9391054au), i == vec4u(2u));
  word = select(word, vec4u(0x7f09d5f4u), i == vec4u(3u));
  word = select(word, vec4u(0x7d4d3770u), i == vec4u(4u));
  word = select(word, vec4u(0x36d8a566u), i == vec4u(5u));
  return select(word, vec4u(0x4f10e410u), i == vec4u(6u));
}

// |x| = quarter * pi / 2 + a, |a| <= pi / 4.
struct MathAngle {
  a: vec4f,
  quarter: vec4u,
}

// Payne and Hanek's reduction in integers, exact for every finite x: the 24 bits of x times those
// 96 binary digits of 1 / (2 pi) that matter for its exponent.
fn math_angle(x: vec4f) -> MathAngle {
  let bits = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  // |x| = m 2^(e - 32), bit 31 of m being set; below 1/2 the result is not used.
  let e = max(bits >> vec4u(23u), vec4u(126u)) - vec4u(126u);
  let m = (bits << vec4u(8u)) | vec4u(0x80000000u);
  let i = e >> vec4u(5u);
  let shift = e & vec4u(31u);
  // Two shifts, as one by 32 is none.
  let back = vec4u(31u) - shift;
  let w0 = math_turn_word(i);
  let w1 = math_turn_word(i + 1u);
  let w2 = math_turn_word(i + 2u);
  let w3 = math_turn_word(i + 3u);
  let high = (w0 << shift) | ((w1 >> vec4u(1u)) >> back);
  let middle = (w1 << shift) | ((w2 >> vec4u(1u)) >> back);
  let low = (w2 << shift) | ((w3 >> vec4u(1u)) >> back);
  // The fraction of a turn in 64 bits.
  let carry = math_high_product(m, low);
  let t0 = m * middle + carry;
  let t1 = m * high + math_high_product(m, middle) + select(vec4u(0u), vec4u(1u), t0 < carry);
  let quarter = (t1 + vec4u(0x20000000u)) >> vec4u(30u);
  let r1 = t1 - (quarter << vec4u(30u));
  let negative = r1 >= vec4u(0x80000000u);
  let n1 = select(r1, ~r1 + select(vec4u(0u), vec4u(1u), t0 == vec4u(0u)), negative);
  let n0 = select(t0, ~t0 + 1u, negative);
  let f = vec4f(n1) + vec4f(n0) * 2.32830644e-10;
  // pi / 2 / 2^30 in two parts.
  let a = fma(f, vec4f(1.46291812e-9), f * -4.0709404e-17);
  let small = bits < vec4u(0x3f490fdau);
  return MathAngle(
    select(select(a, -a, negative), abs(x), small),
    select(quarter, vec4u(0u), small),
  );
}

// sin(a), and cos(a) below, for |a| <= pi / 4.
fn math_sine(a: vec4f) -> vec4f {
  let s = a * a;
  // (sin(a) / a - 1) / a^2 in a^2, degree 2, 3.6e-9.
  let p = fma(s, fma(s, vec4f(-0.00019516656), vec4f(0.008332173)), vec4f(-0.16666655));
  return fma(a * s, p, a);
}

fn math_cosine(a: vec4f) -> vec4f {
  let s = a * a;
  // (cos(a) - 1 + a^2 / 2) / a^4 in a^2, degree 2, 1.2e-10.
  let p = fma(s, fma(s, vec4f(2.4432413e-5), vec4f(-0.001388731)), vec4f(0.041666646));
  return fma(s * s, p, fma(s, vec4f(-0.5), vec4f(1.0)));
}

// sin(|x| + shift * pi / 2), NaN at infinity and NaN.
fn math_sine_of(x: vec4f, shift: u32) -> vec4f {
  let angle = math_angle(x);
  let q = angle.quarter + shift;
  let odd = (q & vec4u(1u)) == vec4u(1u);
  let y = select(math_sine(angle.a), math_cosine(angle.a), odd);
  let signed = bitcast<vec4u>(y) ^ ((q & vec4u(2u)) << vec4u(30u));
  let special = (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) >= vec4u(0x7f800000u);
  return math_unless(bitcast<vec4f>(signed), special);
}

fn sin_vec4(x: vec4f) -> vec4f {
  let y = math_sine_of(x, 0u);
  return bitcast<vec4f>(bitcast<vec4u>(y) ^ (bitcast<vec4u>(x) & vec4u(0x80000000u)));
}

fn cos_vec4(x: vec4f) -> vec4f {
  return math_sine_of(x, 1u);
}

fn tan_vec4(x: vec4f) -> vec4f {
  let angle = math_angle(x);
  let odd = (angle.quarter & vec4u(1u)) == vec4u(1u);
  let sine = math_sine(angle.a);
  let cosine = math_cosine(angle.a);
  let y = select(sine, -cosine, odd) / select(cosine, sine, odd);
  let special = (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) >= vec4u(0x7f800000u);
  let signed = bitcast<vec4u>(y) ^ (bitcast<vec4u>(x) & vec4u(0x80000000u));
  return math_unless(bitcast<vec4f>(signed), special);
}

// asin(r) for 0 <= r <= 0.5, s = r^2.
fn math_arcsine(r: vec4f, s: vec4f) -> vec4f {
  // (asin(r) / r - 1) / r^2 in r^2, degree 4, 4.9e-9.
  var p = fma(s, vec4f(0.042225976), vec4f(0.024146639));
  p = fma(s, p, vec4f(0.04547655));
  p = fma(s, p, vec4f(0.07495253));
  p = fma(s, p, vec4f(0.16666754));
  return fma(r * s, p, r);
}

// asin(a) for a <= 0.5, else acos(a) / 2 = asin(sqrt((1 - a) / 2)); a = |x|.
fn math_arcs(a: vec4f) -> vec4f {
  let wide = a > vec4f(0.5);
  let s = select(a * a, 0.5 - 0.5 * a, wide);
  return math_arcsine(select(a, sqrt(max(s, vec4f(0.0))), wide), s);
}

fn asin_vec4(x: vec4f) -> vec4f {
  let a = abs(x);
  let p = math_arcs(a);
  let y = select(p, MATH_PI_2_HI - (p + p - MATH_PI_2_LO), a > vec4f(0.5));
  return math_signed(math_unless(y, (a > vec4f(1.0)) | is_nan_vec4(x)), x);
}

fn acos_vec4(x: vec4f) -> vec4f {
  let a = abs(x);
  let p = math_arcs(a);
  let beside = MATH_PI_2_HI - (math_signed(p, x) - MATH_PI_2_LO);
  let far = select(p + p, 2.0 * (MATH_PI_2_HI - (p - MATH_PI_2_LO)), x < vec4f(0.0));
  return math_unless(select(beside, far, a > vec4f(0.5)), (a > vec4f(1.0)) | is_nan_vec4(x));
}

// atan(t) for 0 <= t <= 1.
fn math_arctangent(t: vec4f) -> vec4f {
  let s = t * t;
  // (atan(t) / t - 1) / t^2 in t^2, degree 8, 2.6e-9.
  var p = fma(s, vec4f(-0.0017936203), vec4f(0.0109145995));
  p = fma(s, p, vec4f(-0.031177832));
  p = fma(s, p, vec4f(0.05795758));
  p = fma(s, p, vec4f(-0.084034495));
  p = fma(s, p, vec4f(0.10952185));
  p = fma(s, p, vec4f(-0.14264241));
  p = fma(s, p, vec4f(0.19998549));
  p = fma(s, p, vec4f(-0.333333));
  return fma(t * s, p, t);
}

fn atan_vec4(x: vec4f) -> vec4f {
  let a = abs(x);
  let steep = a > vec4f(1.0);
  let p = math_arctangent(select(a, 1.0 / a, steep));
  return math_signed(select(p, MATH_PI_2_HI - (p - MATH_PI_2_LO), steep), x);
}

// The angle of (x, y), as C's atan2 has it for zeros and infinities too.
fn atan2_vec4(y: vec4f, x: vec4f) -> vec4f {
  let a = abs(y);
  let b = abs(x);
  let low = min(a, b);
  let high = max(a, b);
  // 0 / 0 is 0 here and inf / inf is 1.
  let t = select(select(low / high, vec4f(1.0), low == high), low, high == vec4f(0.0));
  let p = math_arctangent(t);
  let q = select(p, MATH_PI_2_HI - (p - MATH_PI_2_LO), a > b);
  let left = bitcast<vec4u>(x) >= vec4u(0x80000000u);
  let angle = select(q, 2.0 * MATH_PI_2_HI - (q - 2.0 * MATH_PI_2_LO), left);
  return math_unless(math_signed(angle, y), is_nan_vec4(x) | is_nan_vec4(y));
}

// c - n ln 2.
fn math_reduced(c: vec4f, n: vec4f) -> vec4f {
  return fma(n, vec4f(-MATH_LN2_HI), c) + fma(n, vec4f(-MATH_LN2_LO), vec4f(0.0));
}

// e^a / 2 for a >= 0, finite wherever sinh and cosh are.
fn math_half_exp(a: vec4f) -> vec4f {
  let c = select(a, vec4f(89.7), a > vec4f(89.7));
  let n = round(c * MATH_LOG2E);
  return math_scale(n - 1.0, math_reduced(c, n));
}

fn sinh_vec4(x: vec4f) -> vec4f {
  let a = abs(x);
  let s = a * a;
  // (sinh(x) / x - 1) / x^2 in x^2, degree 3, 5.2e-11.
  var p = fma(s, vec4f(2.8169513e-6), vec4f(0.0001983616));
  p = fma(s, p, vec4f(0.00833335));
  p = fma(s, p, vec4f(0.16666667));
  let h = math_half_exp(a);
  return math_signed(select(h - 0.25 / h, fma(a * s, p, a), a < vec4f(1.0)), x);
}

fn cosh_vec4(x: vec4f) -> vec4f {
  let h = math_half_exp(abs(x));
  return h + 0.25 / h;
}

// 2^n (e^r - 1) + (2^n - 1): nothing cancels.
fn expm1_vec4(x: vec4f) -> vec4f {
  let floor_x = select(x, vec4f(-30.0), x < vec4f(-30.0));
  let c = select(floor_x, vec4f(30.0), x > vec4f(30.0));
  let n = round(c * MATH_LOG2E);
  let r = math_reduced(c, n);
  // The low bits of n + 1.5 * 2^23 are n; 127 more is the exponent field of 2^n.
  let scale = bitcast<vec4f>(bitcast<vec4u>(n + 12583039.0) << vec4u(23u));
  let y = fma(scale, math_expm1(r), scale - 1.0);
  return select(y, exp_vec4(x), x > vec4f(30.0));
}

// As log of 1 + x, but that f is x itself where 1 + x is not scaled.
fn log1p_vec4(x: vec4f) -> vec4f {
  let u = 1.0 + x;
  let s = math_log_split(u);
  return math_log_edges(u, math_log_join(s.e, select(s.f, x, s.e == vec4f(0.0))));
}

fn log2_vec4(x: vec4f) -> vec4f {
  let s = math_log_split(x);
  let rest = s.f + (math_log_rest(s.f) - 0.5 * (s.f * s.f));
  return math_log_edges(x, fma(rest, vec4f(MATH_LOG2E), s.e));
}

fn gauss_vec4(x: vec4f) -> vec4f {
  return math_gauss(select(abs(x), vec4f(9.5), abs(x) > vec4f(9.5)), 1.0);
}

fn erfc_vec4(x: vec4f) -> vec4f {
  let a = select(abs(x), vec4f(9.5), abs(x) > vec4f(9.5));
  let tail = 2.0 * math_gauss(a, 1.0) * math_mills(a * 1.41421356);
  let outer = select(tail, 2.0 - tail, x < vec4f(0.0));
  return select(outer, 1.0 - erf_vec4(x), a < vec4f(0.5));
}

fn sin_f32(x: f32) -> f32 {
  return sin_vec4(vec4f(x)).x;
}

fn cos_f32(x: f32) -> f32 {
  return cos_vec4(vec4f(x)).x;
}

fn tan_f32(x: f32) -> f32 {
  return tan_vec4(vec4f(x)).x;
}

fn asin_f32(x: f32) -> f32 {
  return asin_vec4(vec4f(x)).x;
}

fn acos_f32(x: f32) -> f32 {
  return acos_vec4(vec4f(x)).x;
}

fn atan_f32(x: f32) -> f32 {
  return atan_vec4(vec4f(x)).x;
}

fn atan2_f32(y: f32, x: f32) -> f32 {
  return atan2_vec4(vec4f(y), vec4f(x)).x;
}

fn sinh_f32(x: f32) -> f32 {
  return sinh_vec4(vec4f(x)).x;
}

fn cosh_f32(x: f32) -> f32 {
  return cosh_vec4(vec4f(x)).x;
}

fn expm1_f32(x: f32) -> f32 {
  return expm1_vec4(vec4f(x)).x;
}

fn log1p_f32(x: f32) -> f32 {
  return log1p_vec4(vec4f(x)).x;
}

fn log2_f32(x: f32) -> f32 {
  return log2_vec4(vec4f(x)).x;
}

fn gauss_f32(x: f32) -> f32 {
  return gauss_vec4(vec4f(x)).x;
}

fn erfc_f32(x: f32) -> f32 {
  return erfc_vec4(vec4f(x)).x;
}
