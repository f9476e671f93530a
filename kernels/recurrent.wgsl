// A step of a recurrent layer, one invocation per element of the state.
//
// LSTM: of gates i, f, g, o [rows, 4 width], before their functions, and the cell c [rows, width],
//   c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')
// GRU: of r, z, n [rows, 3 width] of the input (`gates`) and of the state (`inner`), and h,
//   h' = (1 - z) n + z h,   r, z = sigmoid(of both sums),   n = tanh(n of gates + r n of inner)
//
// BACKWARD: their adjoints; the gates are made again.
//
// Constants: WG; E the element in memory, f32 or f16; LSTM, else GRU; BACKWARD.

//:include math

struct Params {
  count: u32, // elements of the state
  width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gates: array<$E>;
@group(0) @binding(2) var<storage, read> state: array<$E>; // c, or h
//:if LSTM
//:if BACKWARD
@group(0) @binding(3) var<storage, read> dh: array<$E>;
@group(0) @binding(4) var<storage, read> dc: array<$E>;
@group(0) @binding(5) var<storage, read_write> dgates: array<$E>;
@group(0) @binding(6) var<storage, read_write> dstate: array<$E>;
//:else
@group(0) @binding(3) var<storage, read_write> next_h: array<$E>;
@group(0) @binding(4) var<storage, read_write> next_c: array<$E>;
//:end
//:else
@group(0) @binding(3) var<storage, read> inner: array<$E>;
//:if BACKWARD
@group(0) @binding(4) var<storage, read> dh: array<$E>;
@group(0) @binding(5) var<storage, read_write> dgates: array<$E>;
@group(0) @binding(6) var<storage, read_write> dinner: array<$E>;
@group(0) @binding(7) var<storage, read_write> dstate: array<$E>;
//:else
@group(0) @binding(4) var<storage, read_write> next_h: array<$E>;
//:end
//:end

//:include entry_point

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp_f32(-x));
}

fn invocation(at: u32) {
  let width = params.width;
//:if LSTM
  let first = at / width * 4u * width + at % width;
  let i = sigmoid(f32(gates[first]));
  let f = sigmoid(f32(gates[first + width]));
  let g = tanh_f32(f32(gates[first + 2u * width]));
  let o = sigmoid(f32(gates[first + 3u * width]));
  let c = f32(state[at]);
  let cell = f * c + i * g;
  let t = tanh_f32(cell);
//:if BACKWARD
  let up = f32(dh[at]);
  let down = f32(dc[at]) + up * o * (1.0 - t * t);
  dgates[first] = $E(down * g * i * (1.0 - i));
  dgates[first + width] = $E(down * c * f * (1.0 - f));
  dgates[first + 2u * width] = $E(down * i * (1.0 - g * g));
  dgates[first + 3u * width] = $E(up * t * o * (1.0 - o));
  dstate[at] = $E(down * f);
//:else
  next_h[at] = $E(o * t);
  next_c[at] = $E(cell);
//:end
//:else
  let first = at / width * 3u * width + at % width;
  let own = f32(inner[first + 2u * width]);
  let r = sigmoid(f32(gates[first]) + f32(inner[first]));
  let z = sigmoid(f32(gates[first + width]) + f32(inner[first + width]));
  let n = tanh_f32(f32(gates[first + 2u * width]) + r * own);
  let h = f32(state[at]);
//:if BACKWARD
  let up = f32(dh[at]);
  let dn = up * (1.0 - z) * (1.0 - n * n);
  let dr = dn * own * r * (1.0 - r);
  let dz = up * (h - n) * z * (1.0 - z);
  dgates[first] = $E(dr);
  dgates[first + width] = $E(dz);
  dgates[first + 2u * width] = $E(dn);
  dinner[first] = $E(dr);
  dinner[first + width] = $E(dz);
  dinner[first + 2u * width] = $E(dn * r);
  dstate[at] = $E(up * z);
//:else
  next_h[at] = $E((1.0 - z) * n + z * h);
//:end
//:end
}
