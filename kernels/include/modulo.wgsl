// Floored quotients and remainders, as Python's // and %: the remainder has the sign of the
// divisor. Exact for floats too, whatever the quotient: remainders are made of whole mantissas, 8
// binary places a round, 33 rounds at most.
//
// Divisors of 0: floats give NaN, and the quotient a / 0; integers give 0, as NumPy's.
//
// Constants: W (elements at a time, 1 or 4). Expects the alias Bits (as many u32).

//:if W == 4
alias Floats = vec4f;
alias Signed = vec4i;
alias Flags = vec4<bool>;
//:else
alias Floats = f32;
alias Signed = i32;
alias Flags = bool;
//:end

// The mantissa of a number given as bits, with its leading bit.
fn mantissa(bits: Bits) -> Bits {
  let leading = select(Bits(0u), Bits(0x800000u), bits >= Bits(0x800000u));
  return (bits & Bits(0x7fffffu)) | leading;
}

// a - b trunc(a / b), for finite a and b other than 0.
fn remainder(a: Floats, b: Floats) -> Floats {
  let x = bitcast<Bits>(a) & Bits(0x7fffffffu);
  let y = bitcast<Bits>(b) & Bits(0x7fffffffu);
  let e = max(y >> Bits(23u), Bits(1u));
  let divisor = max(mantissa(y), Bits(1u));
  var places = max(x >> Bits(23u), e) - e;
  var rest = mantissa(x) % divisor;
  while (any(places > Bits(0u))) {
    let step = min(places, Bits(8u));
    rest = (rest << step) % divisor;
    places -= step;
  }
  let size = (Floats(rest) * 1.1920928955078125e-7) * bitcast<Floats>(e << Bits(23u));
  let sign = bitcast<Bits>(a) & Bits(0x80000000u);
  return bitcast<Floats>(select(bitcast<Bits>(size), x, x < y) | sign);
}

fn infinite_or_nan(x: Floats) -> Flags {
  return (bitcast<Bits>(x) & Bits(0x7fffffffu)) >= Bits(0x7f800000u);
}

fn not_a_number(x: Floats) -> Flags {
  return (bitcast<Bits>(x) & Bits(0x7fffffffu)) > Bits(0x7f800000u);
}

fn undefined(a: Floats, b: Floats) -> Flags {
  return infinite_or_nan(a) | not_a_number(b);
}

fn nan_where(bad: Flags, y: Floats) -> Floats {
  return bitcast<Floats>(select(bitcast<Bits>(y), Bits(0x7fc00000u), bad));
}

// Whether a remainder has the other sign than its divisor.
fn opposed(rest: Floats, b: Floats) -> Flags {
  return (rest != Floats(0.0)) & ((rest < Floats(0.0)) != (b < Floats(0.0)));
}

fn floor_mod_f32(a: Floats, b: Floats) -> Floats {
  let rest = remainder(a, b);
  return nan_where(undefined(a, b) | (b == Floats(0.0)), select(rest, rest + b, opposed(rest, b)));
}

fn floor_div_f32(a: Floats, b: Floats) -> Floats {
  let rest = remainder(a, b);
  let quotient = round((a - rest) / b) - select(Floats(0.0), Floats(1.0), opposed(rest, b));
  return nan_where(undefined(a, b), select(quotient, a / b, b == Floats(0.0)));
}
fn floor_div_i32(a: Signed, b: Signed) -> Signed {
  let x = bitcast<Bits>(abs(a));
  let y = max(bitcast<Bits>(abs(b)), Bits(1u));
  let down = (a < Signed(0)) != (b < Signed(0));
  let rounded = x / y + select(Bits(0u), Bits(1u), down & (x % y > Bits(0u)));
  let quotient = bitcast<Signed>(select(rounded, ~rounded + 1u, down));
  return select(quotient, Signed(0), b == Signed(0));
}

fn floor_mod_i32(a: Signed, b: Signed) -> Signed {
  return select(a - b * floor_div_i32(a, b), Signed(0), b == Signed(0));
}

fn floor_div_u32(a: Bits, b: Bits) -> Bits {
  return select(a / max(b, Bits(1u)), Bits(0u), b == Bits(0u));
}

fn floor_mod_u32(a: Bits, b: Bits) -> Bits {
  return select(a % max(b, Bits(1u)), Bits(0u), b == Bits(0u));
}
