// Short-time Fourier transform in one pass over the signal: framing, window, real FFT.
//
//   X[f, k] = sum over j < N of w[j] x[f hop + j] e^(-2 pi i j k / N),   k = 0 .. N / 2
//
// N even: M = N / 2 complex numbers z[j] = x[2 j] + i x[2 j + 1] are transformed and taken apart by
//   E = (Z[k] + conj Z[M - k]) / 2,  O = (Z[k] - conj Z[M - k]) / 2i,  W = e^(-2 pi i k / N):
//   X[k] = E + W O,  X[M - k] = conj(E - W O).
// The transform of M is a Stockham mixed radix one (as fft.wgsl), from one half of workgroup memory
// to the other: pass p of radix R does M / R butterflies, which read R values, rotate them by w and
// write them in natural order. Two frames lie side by side in a vec4, PAIRS of these are done by
// one invocation, so that factors and addresses serve 2 PAIRS frames. The first pass reads the
// signal, the last step writes the spectrum. Factors are computed (include/sine.wgsl): as fast as
// loading them (kernels/README.md, Laboratory notebook, stft).
//
// Constants: WG, M, PAIRS; F4, F42, F423 passes of radix 4, of 4 or 2, of 4, 2 or 3 (the others
// have 5), PASSES; WINDOW; EVEN (rows and frames start at even elements: two samples per load).

//:include sine

struct Params {
  rows: u32,
  samples: u32, // per row
  frames: u32, // per row
  hop: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
//:if EVEN
@group(0) @binding(1) var<storage, read> signal: array<vec2f>;
//:else
@group(0) @binding(1) var<storage, read> signal: array<f32>;
//:end
@group(0) @binding(2) var<storage, read_write> spectrum: array<vec2f>;
//:if WINDOW
@group(0) @binding(3) var<storage, read> weights: array<vec2f>;
//:end

const HALF: u32 = M * PAIRS;
var<workgroup> z: array<vec4f, ${2*M*PAIRS}>;

// Two samples from an element of the signal on.
fn samples(at: u32) -> vec2f {
//:if EVEN
  return signal[at / 2u];
//:else
  return vec2f(signal[at], signal[at + 1u]);
//:end
}

fn times(v: vec4f, w: vec2f) -> vec4f {
  return fma(v, vec4f(w.x), vec4f(-v.y, v.x, -v.w, v.z) * w.y);
}

// -i v
fn turned(v: vec4f) -> vec4f {
  return vec4f(v.y, -v.x, v.w, -v.z);
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let frames = params.frames;
  let blocks = (frames + ${2*PAIRS-1}u) / ${2*PAIRS}u;
  let block = group.x + group.y * grid.x;
  // Workgroups of a folded grid that are left over do the last block again.
  let row = min(block / blocks, params.rows - 1u);
  let first = block % blocks * ${2*PAIRS}u;
//:for f in 0..2*PAIRS
  let from$f = row * params.samples + min(first + ${f}u, frames - 1u) * params.hop;
//:end

//:for p in 0..PASSES
//:if p == 0
  let whole$p = M;
  let done$p = 1u;
//:else
  let whole$p = left${p-1};
  let done$p = done${p-1} * R${p-1};
//:end
//:if p < F4
  let R$p = 4u;
//:else
//:if p < F42
  let R$p = 2u;
//:else
//:if p < F423
  let R$p = 3u;
//:else
  let R$p = 5u;
//:end
//:end
//:end
  let left$p = whole$p / R$p;
  for (var t = lane; t < M / R$p; t += WG) {
//:if p == 0
    let at = t;
//:else
    let k = t / left$p;
    let at = ${(p+1)%2}u * HALF + k * whole$p + t % left$p;
//:end
//:for s in 0..2+2*(p<F4)+(p>=F42)*(1+2*(p>=F423))
//:if p == 0
//:if WINDOW
    let w$s = weights[at + ${s}u * left$p];
//:for q in 0..PAIRS
    let x${q}_$s = vec4f(
      w$s * samples(from${2*q} + 2u * (at + ${s}u * left$p)),
      w$s * samples(from${2*q+1} + 2u * (at + ${s}u * left$p)),
    );
//:end
//:else
//:for q in 0..PAIRS
    let x${q}_$s = vec4f(
      samples(from${2*q} + 2u * (at + ${s}u * left$p)),
      samples(from${2*q+1} + 2u * (at + ${s}u * left$p)),
    );
//:end
//:end
//:else
//:if s == 0
//:for q in 0..PAIRS
    let x${q}_$s = z[at + ${q}u * M];
//:end
//:else
    let w$s = root_of_unity(k * ${s}u, done$p * R$p);
//:for q in 0..PAIRS
    let x${q}_$s = times(z[at + ${s}u * left$p + ${q}u * M], w$s);
//:end
//:end
//:end
//:end
    let to = ${p%2}u * HALF + t;
//:for q in 0..PAIRS
//:if p < F4
    let a$q = x${q}_0 + x${q}_2;
    let b$q = x${q}_0 - x${q}_2;
    let c$q = x${q}_1 + x${q}_3;
    let d$q = turned(x${q}_1 - x${q}_3);
    z[to + ${q}u * M] = a$q + c$q;
    z[to + ${q}u * M + M / 4u] = b$q + d$q;
    z[to + ${q}u * M + M / 4u * 2u] = a$q - c$q;
    z[to + ${q}u * M + M / 4u * 3u] = b$q - d$q;
//:else
//:if p < F42
    z[to + ${q}u * M] = x${q}_0 + x${q}_1;
    z[to + ${q}u * M + M / 2u] = x${q}_0 - x${q}_1;
//:else
//:if p < F423
    let a$q = x${q}_1 + x${q}_2;
    let b$q = fma(a$q, vec4f(-0.5), x${q}_0);
    let c$q = 0.866025404 * turned(x${q}_1 - x${q}_2);
    z[to + ${q}u * M] = x${q}_0 + a$q;
    z[to + ${q}u * M + M / 3u] = b$q + c$q;
    z[to + ${q}u * M + M / 3u * 2u] = b$q - c$q;
//:else
    let a$q = x${q}_1 + x${q}_4;
    let b$q = x${q}_2 + x${q}_3;
    let c$q = turned(x${q}_1 - x${q}_4);
    let d$q = turned(x${q}_2 - x${q}_3);
    let e$q = x${q}_0 + (0.309016994 * a$q - 0.809016994 * b$q);
    let f$q = x${q}_0 + (0.309016994 * b$q - 0.809016994 * a$q);
    let g$q = 0.951056516 * c$q + 0.587785252 * d$q;
    let h$q = 0.587785252 * c$q - 0.951056516 * d$q;
    z[to + ${q}u * M] = x${q}_0 + a$q + b$q;
    z[to + ${q}u * M + M / 5u] = e$q + g$q;
    z[to + ${q}u * M + M / 5u * 2u] = f$q + h$q;
    z[to + ${q}u * M + M / 5u * 3u] = f$q - h$q;
    z[to + ${q}u * M + M / 5u * 4u] = e$q - g$q;
//:end
//:end
//:end
//:end
  }
  workgroupBarrier();
//:end

  for (var k = lane; k <= M / 2u; k += WG) {
    let mirror = select(M - k, 0u, k == 0u);
    let w = 0.5 * root_of_unity(k, 2u * M);
//:for q in 0..PAIRS
    let u$q = z[${(PASSES+1)%2*M*PAIRS+q*M}u + k];
    let m$q = z[${(PASSES+1)%2*M*PAIRS+q*M}u + mirror] * vec4f(1.0, -1.0, 1.0, -1.0);
    let even$q = 0.5 * (u$q + m$q);
    let odd$q = times(turned(u$q - m$q), w);
    let low$q = even$q + odd$q;
    let high$q = (even$q - odd$q) * vec4f(1.0, -1.0, 1.0, -1.0);
//:for f in 0..2
    if (first + ${2*q+f}u < frames) {
      let to = (row * frames + first + ${2*q+f}u) * ${M+1}u;
//:if f == 0
      spectrum[to + k] = low$q.xy;
      spectrum[to + M - k] = high$q.xy;
//:else
      spectrum[to + k] = low$q.zw;
      spectrum[to + M - k] = high$q.zw;
//:end
    }
//:end
//:end
  }
}
