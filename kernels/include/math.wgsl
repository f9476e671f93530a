// Elementary functions with known errors, for inclusion (`//:include math`): the builtins are wrong
// by up to 3e-3 on lavapipe (kernels/README.md, Laboratory notebook, math). sqrt, inverseSqrt and
// division are good and are used as they are.
//
//   function                 largest error seen                 outside the range
//   exp_vec4, exp_f32        1.0 ulp                            0 below -86.98, inf above 88.72
//   exp2_vec4, exp2_f32      1.8 ulp                            0 below -125.5, inf from 128 on
//   log_vec4, log_f32        0.9 ulp, also beside 1 and         log 0 = -inf, log(<0) = NaN,
//                            denormal                           log inf = inf
//   pow_vec4, pow_f32        8 ulp, however large the            0 below 1.7e-38; C's pow at 0, 1,
//                            logarithm of the result            infinities, NaN and negative bases
//   tanh_vec4, tanh_f32      1.5 ulp
//   erf_vec4, erf_f32        2.6 ulp
//   gelu_vec4, gelu_f32      6e-7 relative (mean 1e-7) for      x Phi(x); 0 below -13.2;
//                            all x above -12.9                  gelu(-inf) = 0
//   gelu_grad_vec4, _f32     3e-7 absolute; 3e-7 relative in    0 below -13.2
//                            -12.9..-2, 1e-6 in -3..-1 (it
//                            has a zero at -0.75)
// NaN in gives NaN out wherever the adapter orders NaN as IEEE does; lavapipe does.
// tests/kernels/math_test.ts holds the table.
//
// How. All are straight-line code on vec4; a scalar function is lane x of its vec4 form, the
// compiler drops the rest. Coefficients: own Remez fits in float64 of the functions named at each
// polynomial, relative error as weight. lavapipe's fma is not fused, so nothing relies on its
// exactness: constants are split so that products are exact.

// NaN by its bits, whatever its sign: a compiler may assume that no float is one.
fn is_nan_vec4(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

fn is_nan_f32(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

const MATH_LOG2E: f32 = 1.442695041;
// ln 2 = HI + LO; HI has 15 bits, so that n * HI is exact for |n| <= 2^9.
const MATH_LN2_HI: f32 = 0.693145752;
const MATH_LN2_LO: f32 = 1.42860677e-6;

// e^r - 1 for |r| <= 0.348.
fn math_expm1(r: vec4f) -> vec4f {
  // (e^r - 1 - r) / r^2, degree 4, 3.1e-9.
  var p = fma(r, vec4f(0.00138141739), vec4f(0.00836892147));
  p = fma(r, p, vec4f(0.0416684076));
  p = fma(r, p, vec4f(0.166665196));
  p = fma(r, p, vec4f(0.49999994));
  return fma(r * r, p, r);
}

// 2^n e^r for integral n in -126..128 and |r| <= 0.348; 0 at n = -126, inf at n = 128 where 2^n e^r
// overflows.
fn math_scale(n: vec4f, r: vec4f) -> vec4f {
  let p = math_expm1(r) + 1.0;
  // The low bits of n + 1.5 * 2^23 are n; 126 more is the exponent field of 2^(n - 1).
  return (p + p) * bitcast<vec4f>(bitcast<vec4u>(n + 12583038.0) << vec4u(23u));
}

// e^(x + low) for |low| <= 1e-2 or so: two floats in, so that an argument such as -x^2 / 2 loses
// nothing.
fn math_exp(x: vec4f, low: vec4f) -> vec4f {
  let floor_x = select(x, vec4f(-87.2), x < vec4f(-87.2));
  let c = select(floor_x, vec4f(89.0), x > vec4f(89.0));
  let n = round(c * MATH_LOG2E);
  return math_scale(n, fma(n, vec4f(-MATH_LN2_HI), c) + fma(n, vec4f(-MATH_LN2_LO), low));
}

fn exp_vec4(x: vec4f) -> vec4f {
  return math_exp(x, vec4f(0.0));
}

fn exp_f32(x: f32) -> f32 {
  return exp_vec4(vec4f(x)).x;
}

fn exp2_vec4(x: vec4f) -> vec4f {
  let floor_x = select(x, vec4f(-126.0), x < vec4f(-126.0));
  let c = select(floor_x, vec4f(128.5), x > vec4f(128.5));
  let n = min(round(c), vec4f(128.0));
  return math_scale(n, (c - n) * 0.69314718);
}

fn exp2_f32(x: f32) -> f32 {
  return exp2_vec4(vec4f(x)).x;
}

// x = 2^e (1 + f) for x > 0, 1 + f in [sqrt(1/2), sqrt(2)).
struct MathLog {
  e: vec4f,
  f: vec4f,
}

fn math_log_split(x: vec4f) -> MathLog {
  let tiny = x < vec4f(1.17549435e-38);
  let bits = bitcast<vec4i>(select(x, x * 8388608.0, tiny));
  let k = (bits - vec4i(0x3f3504f3)) >> vec4u(23u);
  let e = vec4f(k) - select(vec4f(0.0), vec4f(23.0), tiny);
  return MathLog(e, bitcast<vec4f>(bits - (k << vec4u(23u))) - 1.0);
}

// log(1 + f) - f + f^2 / 2.
fn math_log_rest(f: vec4f) -> vec4f {
  // (log(1 + f) - f + f^2 / 2) / f^3, degree 7, 5.8e-9.
  var p = fma(f, vec4f(-0.0763450861), vec4f(0.127615929));
  p = fma(f, p, vec4f(-0.131601855));
  p = fma(f, p, vec4f(0.142017558));
  p = fma(f, p, vec4f(-0.166233569));
  p = fma(f, p, vec4f(0.200012267));
  p = fma(f, p, vec4f(-0.250008196));
  p = fma(f, p, vec4f(0.333333313));
  return f * f * f * p;
}

// e ln 2 + log(1 + f).
fn math_log_join(e: vec4f, f: vec4f) -> vec4f {
  let low = fma(e, vec4f(MATH_LN2_LO), math_log_rest(f)) - 0.5 * (f * f);
  return fma(e, vec4f(MATH_LN2_HI), f + low);
}

// `finite`, or what a logarithm is of 0, infinity, NaN and what is below 0.
fn math_log_edges(x: vec4f, finite: vec4f) -> vec4f {
  // log 0 = -inf and log(negative) = NaN, built at run time: constants may be neither.
  let pole = bitcast<vec4f>(select(vec4u(0x7fc00000u), vec4u(0xff800000u), x == vec4f(0.0)));
  let y = select(finite, pole, x <= vec4f(0.0));
  // Exponent field all ones: inf and NaN are their own logarithms.
  let special = (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) >= vec4u(0x7f800000u);
  return select(y, select(x, pole, x < vec4f(0.0)), special);
}

fn log_vec4(x: vec4f) -> vec4f {
  let s = math_log_split(x);
  return math_log_edges(x, math_log_join(s.e, s.f));
}

fn log_f32(x: f32) -> f32 {
  return log_vec4(vec4f(x)).x;
}

// The first 12 of 24 bits: products of two such are exact.
fn math_high(x: vec4f) -> vec4f {
  return bitcast<vec4f>(bitcast<vec4u>(x) & vec4u(0xfffff000u));
}

// a^b = e^(b log a), where logarithm, exponent and product are sums of two floats, so that the
// relative error does not grow with b log a.
fn pow_vec4(a: vec4f, b: vec4f) -> vec4f {
  let size = abs(a);
  let it = math_log_split(size);
  let whole_part = it.e * MATH_LN2_HI;
  let f_high = math_high(it.f);
  let square = 0.5 * f_high * f_high;
  let cubic = math_log_rest(it.f);
  let rest = fma(it.e, vec4f(MATH_LN2_LO), cubic) - 0.5 * (it.f + f_high) * (it.f - f_high);
  let log = whole_part + (it.f - square + rest);
  let high = math_high(log);
  let low = ((whole_part - high) + it.f) - square + rest;

  let b_high = math_high(b);
  let product = b_high * high;
  let product_low = (b - b_high) * high + b * low;
  let x = bitcast<vec4f>(bitcast<vec4u>(product + product_low) & vec4u(0xfffffff0u));
  let within = abs(b * log) < vec4f(150.0);
  let y = math_exp(
    select(b * log, x, within),
    select(vec4f(0.0), (product - x) + product_low, within),
  );

  // 0 or infinity for a base or an exponent of those; 1 for a base or an exponent that makes it so.
  let infinity = vec4u(0x7f800000u);
  let b_bits = bitcast<vec4u>(b) & vec4u(0x7fffffffu);
  let extreme = (size == vec4f(0.0)) | (bitcast<vec4u>(size) == infinity) | (b_bits == infinity);
  let grows = (size > vec4f(1.0)) == (b > vec4f(0.0));
  var bits = select(bitcast<vec4u>(y), select(vec4u(0u), infinity, grows), extreme);
  let one = vec4u(0x3f800000u);
  bits = select(bits, one, (size == vec4f(1.0)) | (b == vec4f(0.0)));
  // The sign of a negative base stays where the exponent is odd.
  let whole = floor(b) == b;
  let odd = whole & (floor(0.5 * b) != 0.5 * b);
  bits |= select(vec4u(0u), bitcast<vec4u>(a) & vec4u(0x80000000u), odd);
  let wrong = (a < vec4f(0.0)) & (bitcast<vec4u>(size) < infinity) & !whole;
  bits = select(bits, vec4u(0x7fc00000u), wrong | is_nan_vec4(a) | is_nan_vec4(b));
  return bitcast<vec4f>(select(bits, one, (a == vec4f(1.0)) | (b == vec4f(0.0))));
}

fn pow_f32(a: f32, b: f32) -> f32 {
  return pow_vec4(vec4f(a), vec4f(b)).x;
}

// Q(a) with Phi(-a) = exp(-a^2 / 2) Q(a), a >= 0, that is erfcx(a / sqrt 2) / 2: t P(t), t = 1 / (1
// + a / 4), P of degree 9 on t in [0, 1], 3.4e-8 relative for every a up to infinity.
fn math_mills(a: vec4f) -> vec4f {
  let t = 1.0 / fma(a, vec4f(0.25), vec4f(1.0));
  var p = fma(t, vec4f(0.0197819695), vec4f(-0.0808771327));
  p = fma(t, p, vec4f(0.0955967605));
  p = fma(t, p, vec4f(-0.031717211));
  p = fma(t, p, vec4f(0.0636989325));
  p = fma(t, p, vec4f(0.0589752086));
  p = fma(t, p, vec4f(0.0816030949));
  p = fma(t, p, vec4f(0.0934663564));
  p = fma(t, p, vec4f(0.0997364298));
  p = fma(t, p, vec4f(0.0997355655));
  return t * p;
}

// exp(-c a^2) for c = 1/2 or 1. a = h + l with 12 bits in h: h^2 is exact, the rest goes in as the
// low part.
fn math_gauss(a: vec4f, c: f32) -> vec4f {
  let h = bitcast<vec4f>(bitcast<vec4u>(a) & vec4u(0xfffff000u));
  return math_exp(-c * h * h, -c * (a + h) * (a - h));
}

// erf: odd polynomial below 1, 1 - erfc above. (erf(z) / z in z^2, degree 6, 1.2e-9.)
fn erf_vec4(z: vec4f) -> vec4f {
  let a = select(abs(z), vec4f(9.5), abs(z) > vec4f(9.5));
  let s = a * a;
  var p = fma(s, vec4f(7.85386146e-5), vec4f(-0.000801019371));
  p = fma(s, p, vec4f(0.00518832775));
  p = fma(s, p, vec4f(-0.0268538129));
  p = fma(s, p, vec4f(0.112835854));
  p = fma(s, p, vec4f(-0.37612626));
  p = fma(s, p, vec4f(1.12837911));
  let tail = 1.0 - 2.0 * math_gauss(a, 1.0) * math_mills(a * 1.41421356);
  let sign = bitcast<vec4u>(z) & vec4u(0x80000000u);
  return bitcast<vec4f>(bitcast<vec4u>(select(tail, a * p, a < vec4f(1.0))) | sign);
}

fn erf_f32(z: f32) -> f32 {
  return erf_vec4(vec4f(z)).x;
}

// x Phi(x) = max(x, 0) - a Phi(-a), a = |x|: no cancellation on either side.
fn gelu_vec4(x: vec4f) -> vec4f {
  let a = select(abs(x), vec4f(13.5), abs(x) > vec4f(13.5));
  return max(x, vec4f(0.0)) - a * (math_gauss(a, 0.5) * math_mills(a));
}

fn gelu_f32(x: f32) -> f32 {
  return gelu_vec4(vec4f(x)).x;
}

// Phi(x) + x phi(x): d = Phi(-a) - a phi(a) for x <= 0, and 1 - d for x > 0. One exponential serves
// both terms.
fn gelu_grad_vec4(x: vec4f) -> vec4f {
  let a = select(abs(x), vec4f(13.5), abs(x) > vec4f(13.5));
  let d = math_gauss(a, 0.5) * fma(a, vec4f(-0.398942280), math_mills(a));
  return select(d, 1.0 - d, x > vec4f(0.0));
}

fn gelu_grad_f32(x: f32) -> f32 {
  return gelu_grad_vec4(vec4f(x)).x;
}

// tanh: odd polynomial below 0.55, 1 - 2 / (e^(2a) + 1) above.
fn tanh_vec4(x: vec4f) -> vec4f {
  let a = select(abs(x), vec4f(10.0), abs(x) > vec4f(10.0));
  let s = a * a;
  // (tanh(x) / x - 1) / x^2 in x^2, degree 4, 1.2e-9.
  var p = fma(s, vec4f(-0.00620793179), vec4f(0.0210276265));
  p = fma(s, p, vec4f(-0.0538423955));
  p = fma(s, p, vec4f(0.133324996));
  p = fma(s, p, vec4f(-0.333333164));
  let tail = 1.0 - 2.0 / (math_exp(a + a, vec4f(0.0)) + 1.0);
  let sign = bitcast<vec4u>(x) & vec4u(0x80000000u);
  return bitcast<vec4f>(bitcast<vec4u>(select(tail, fma(a * s, p, a), a < vec4f(0.55))) | sign);
}

fn tanh_f32(x: f32) -> f32 {
  return tanh_vec4(vec4f(x)).x;
}
