// Adam with decoupled weight decay over a flat arena: parameters, both moments and the clipped
// gradient in one pass.
//
//   g <- g * clip_coefficient
//   m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
//   p <- p (1 - lr wd) - step * m / (v_scale sqrt(v) + eps)
//
// torch's AdamW:   step = lr / (1 - b1^t),                  v_scale = 1 / sqrt(1 - b2^t)
// fairseq's Adam:  step = lr sqrt(1 - b2^t) / (1 - b1^t),   v_scale = 1   (eps without correction)
//
// Values that change from step to step come from `hyper`, so that a captured step can replay. One
// invocation updates one T: a vec4f, or an f32 where the size is no multiple of 4. Bound by memory:
// 16 bytes read four times, written three times.
//
// Constants: WG, T; GATED leaves everything as it is where the clip coefficient is 0: the mark of
// an update whose gradients overflowed (see loss_scale.wgsl), which multiplying would turn into
// NaN.

alias T = $T;

struct Params {
  count: u32, // Ts
}

struct Hyper {
  beta1: f32,
  one_minus_beta1: f32,
  beta2: f32,
  one_minus_beta2: f32,
  step: f32,
  v_scale: f32,
  eps: f32,
  decay: f32, // 1 - lr wd
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hyper: Hyper;
@group(0) @binding(2) var<storage, read> clip: array<f32>; // [norm, coefficient]
@group(0) @binding(3) var<storage, read> grads: array<T>;
@group(0) @binding(4) var<storage, read_write> values: array<T>;
@group(0) @binding(5) var<storage, read_write> m_state: array<T>;
@group(0) @binding(6) var<storage, read_write> v_state: array<T>;

//:include entry_point

fn invocation(i: u32) {
//:if GATED
  if (clip[1] == 0.0) {
    return;
  }
//:end
  let g = grads[i] * clip[1];
  let m = hyper.beta1 * m_state[i] + hyper.one_minus_beta1 * g;
  let v = hyper.beta2 * v_state[i] + hyper.one_minus_beta2 * (g * g);
  m_state[i] = m;
  v_state[i] = v;
  values[i] = values[i] * hyper.decay - hyper.step * (m / (hyper.v_scale * sqrt(v) + hyper.eps));
}
