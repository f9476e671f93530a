// The order of elements of any type as an order of u32, for inclusion (`//:include order`): -0 and
// 0 are equal, and every NaN, whatever its bits, is above infinity (NumPy's and torch's order).
//
// Constants: E (element type; FLOAT and SIGNED tell which).

fn order_key(x: $E) -> u32 {
//:if FLOAT
  let bits = bitcast<u32>(f32(x));
  let plus = select(bits, 0u, bits == 0x80000000u);
  let k = select(plus | 0x80000000u, ~plus, plus >= 0x80000000u);
  return select(k, 0xffffffffu, (bits & 0x7fffffffu) > 0x7f800000u);
//:else
//:if SIGNED
  return bitcast<u32>(x) ^ 0x80000000u;
//:else
  return x;
//:end
//:end
}
