// Dynamic loss scaling, decided on the device: what follows a backward pass learns from memory
// whether its gradients overflowed, so that the host never waits.
//
//   overflow (the gradient norm is NaN or infinite): scale / 2, one more skipped, clip coefficient
//   and gate 0
//   else: one more applied, gate 1; after `window` updates in a row without overflow: scale * 2
//
// The norm is looked at as bits, because a compiler may assume that floats are finite. The inverse
// is kept beside the scale: both only ever change by factors of two, so that their product is 1
// exactly, which a division need not give. One invocation.
//
// Constants: none.

struct Params {
  window: u32,
}

struct State {
  scale: f32,
  inverse: f32,
  clean: f32, // updates since the scale changed or an update was skipped
  skipped: f32,
  applied: f32,
  gate: f32, // 1 if the last update was applied, else 0
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> clip: array<f32>; // [norm, coefficient]
@group(0) @binding(2) var<storage, read_write> state: State;

const EXPONENT = 0x7f800000u;

@compute @workgroup_size(1)
fn main() {
  if ((bitcast<u32>(clip[0]) & EXPONENT) == EXPONENT) {
    clip[1] = 0.0;
    state.scale *= 0.5;
    state.inverse *= 2.0;
    state.clean = 0.0;
    state.skipped += 1.0;
    state.gate = 0.0;
    return;
  }
  state.applied += 1.0;
  state.gate = 1.0;
  state.clean += 1.0;
  if (state.clean >= f32(params.window)) {
    state.scale *= 2.0;
    state.inverse *= 0.5;
    state.clean = 0.0;
  }
}
