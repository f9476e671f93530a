// Four f16 in two words, rounded to nearest even, infinite from 65520 on: without the driver's
// rounding in pack2x16float, and with half the loads and stores of vec4<f16> (kernels/README.md,
// Laboratory notebook, half).

fn half_bits(v: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(v);
  let a = bits & vec4u(0x7fffffffu);
  // Rounds at bit 13 and takes 112 off the exponent.
  let rounded = (a - vec4u(0x37fff001u) + ((a >> vec4u(13u)) & vec4u(1u))) >> vec4u(13u);
  // Below 2^-14 f16 steps by 2^-24, as f32 does from 0.5 to 1.
  let tiny = bitcast<vec4u>(abs(v) + 0.5) - vec4u(0x3f000000u);
  let finite = select(min(rounded, vec4u(0x7c00u)), tiny, a < vec4u(0x38800000u));
  let magnitude = select(finite, vec4u(0x7e00u), a > vec4u(0x7f800000u));
  let h = magnitude | ((bits >> vec4u(16u)) & vec4u(0x8000u));
  return h.xz | (h.yw << vec2u(16u));
}

fn half_values(words: vec2u) -> vec4f {
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
