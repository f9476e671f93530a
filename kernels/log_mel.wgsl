// Log-mel of 16 kHz audio in one pass: window, DFT of 400, power, sparse mel filters, log,
// standardise.
//
//   X[k] = sum_n w[n] x[HOP t - pad + n] e^(-2 pi i k n / 400),   k = 0..200
//   out[clip, band, t] = (log(sum_k weight[band, k] |X[k]|^2 + eps) - mean) * inv_std
//
// Samples outside the signal are mirrored without repeating the edge sample (pad > 0: centred
// framing, needs more than pad samples). With POWER_OUT the power spectrum out[clip, bin, t], 201
// bins, is written instead.
//
// Two neighbouring frames are real and imaginary part of one complex DFT Z of 400, separated by
//   4 |X1[k]|^2 = |Z[k] + conj Z[400 - k]|^2,   4 |X2[k]|^2 = |Z[k] - conj Z[400 - k]|^2.
// 400 = 20 * 20: lane c holds x[c + 20 j] for all j in registers, does a DFT of 20 (prime factors 4
// and 5: no inner twiddles), multiplies by e^(-2 pi i c k / 400), swaps rows and columns through
// workgroup memory, does another DFT of 20 and leaves Z in natural order: each value crosses
// workgroup memory twice instead of the four times of radix 4, 4, 5, 5. 20 lanes carry PAIRS pairs
// of frames side by side as vectors, so a load from workgroup memory brings a vec4. As HOP is a
// multiple of 20, the frames of a lane share samples: 44 loads serve four frames, not 80. Then a
// lane takes every LANES-th band for all frames of the workgroup and forms the powers on the fly (a
// bin serves two bands at most).
//
// Constants: GROUPS lane groups of 20 (20 * GROUPS a multiple of 8, GROUPS * PAIRS even), PAIRS 1
// or 2, HOP (a multiple of 20), BANDS, POWER_OUT. A workgroup does 2 * PAIRS * GROUPS frames of one
// clip in 3360 * PAIRS * GROUPS bytes. Grid: clips * ceil(frames / (2 * PAIRS * GROUPS)), folded.
// Tables from model/frontend/tables.ts: logmelTable(), packMel(). GROUPS 2, PAIRS 2 is fastest
// (kernels/README.md, Laboratory notebook, log_mel).

struct Params {
  clips: u32,
  samples: u32,
  frames: u32,
  pad: u32,
  eps: f32,
  mean: f32,
  inv_std: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> wave: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<vec4f>;
//:if POWER_OUT
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
//:else
@group(0) @binding(3) var<storage, read> bands: array<vec4u>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
//:include math
//:end

// Rows of 21 instead of 20 between the passes spread the columns over the banks of a GPU.
const ROW: u32 = 21u;
const SLOT: u32 = 420u;
const LANES: u32 = 20u * GROUPS;
const FRAMES: u32 = 2u * PAIRS * GROUPS;

//:if PAIRS == 2
alias V = vec2f;
alias Z = vec4f;
//:else
alias V = f32;
alias Z = vec2f;
//:end

var<workgroup> shared_z: array<Z, SLOT * GROUPS>;

const C1: f32 = 0.309016994; // cos 72
const C2: f32 = -0.809016994; // cos 144
const S1: f32 = 0.951056516; // sin 72
const S2: f32 = 0.587785252; // sin 144

// |X|^2 times 4 of the frame in the real part and of the one in the imaginary part, from Z[k] and
// Z[400 - k].
//:if PAIRS == 2
fn split(z: Z, m: Z) -> vec4f {
  let s = z + m;
  let d = z - m;
  return vec4f(
    s.x * s.x + d.z * d.z,
    s.z * s.z + d.x * d.x,
    s.y * s.y + d.w * d.w,
    s.w * s.w + d.y * d.y,
  );
}
//:else
fn split(z: Z, m: Z) -> vec2f {
  let s = z + m;
  let d = z - m;
  return vec2f(s.x * s.x + d.y * d.y, s.y * s.y + d.x * d.x);
}
//:end

@compute @workgroup_size(20 * GROUPS)
fn main(
  @builtin(workgroup_id) wid: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let blocks = (params.frames + FRAMES - 1u) / FRAMES;
  let block = wid.x + wid.y * grid.x;
  let clip = block / blocks;
  if clip >= params.clips {
    return;
  }
  let first_frame = (block - clip * blocks) * FRAMES;
  let group = lane / 20u;
  let column = lane % 20u;
  let slot = group * SLOT;

  // Samples column, column + 20, … of this lane's frames: neighbouring frames share all but HOP /
  // 20 of them.
  let start = i32((first_frame + group * (2u * PAIRS)) * HOP + column) - i32(params.pad);
  let end = i32((params.frames - 1u) * HOP + 400u) - i32(params.pad);
  let last = i32(params.samples) - 1;
  let row = clip * params.samples;
  //:for j in 0..20+(2*PAIRS-1)*HOP/20
  let p$j = start + ${20*j};
  let q$j = clamp(last - abs(last - abs(p$j)), 0, last);
  let x$j = select(0.0, wave[row + u32(q$j)], p$j < end);
  //:end
  let tables = column * 15u;
  //:for j in 0..5
  let w$j = table[tables + ${j}u];
  //:for i in 0..4
  //:if PAIRS == 2
  var r${4*j+i} = V(x${4*j+i}, x${4*j+i+HOP/10}) * w$j[${i}];
  var i${4*j+i} = V(x${4*j+i+HOP/20}, x${4*j+i+3*HOP/20}) * w$j[${i}];
  //:else
  var r${4*j+i} = x${4*j+i} * w$j[${i}];
  var i${4*j+i} = x${4*j+i+HOP/20} * w$j[${i}];
  //:end
  //:end
  //:end

  // Twice a DFT of 20 over the registers: n = 5a + 4b, k = 5a' + 16b' (mod 20) needs no twiddles
  // inside.
  //:for pass in 0..2
  //:for a in 0..4
  {
    let tr = r${(5*a+4)%20} + r${(5*a+16)%20};
    let ti = i${(5*a+4)%20} + i${(5*a+16)%20};
    let ur = r${(5*a+8)%20} + r${(5*a+12)%20};
    let ui = i${(5*a+8)%20} + i${(5*a+12)%20};
    let vr = r${(5*a+4)%20} - r${(5*a+16)%20};
    let vi = i${(5*a+4)%20} - i${(5*a+16)%20};
    let wr = r${(5*a+8)%20} - r${(5*a+12)%20};
    let wi = i${(5*a+8)%20} - i${(5*a+12)%20};
    let m1r = r${5*a} + (C1 * tr + C2 * ur);
    let m1i = i${5*a} + (C1 * ti + C2 * ui);
    let m2r = r${5*a} + (C2 * tr + C1 * ur);
    let m2i = i${5*a} + (C2 * ti + C1 * ui);
    let s1r = S1 * vr + S2 * wr;
    let s1i = S1 * vi + S2 * wi;
    let s2r = S2 * vr - S1 * wr;
    let s2i = S2 * vi - S1 * wi;
    r${5*a} += tr + ur;
    i${5*a} += ti + ui;
    r${(5*a+4)%20} = m1r + s1i;
    i${(5*a+4)%20} = m1i - s1r;
    r${(5*a+16)%20} = m1r - s1i;
    i${(5*a+16)%20} = m1i + s1r;
    r${(5*a+8)%20} = m2r + s2i;
    i${(5*a+8)%20} = m2i - s2r;
    r${(5*a+12)%20} = m2r - s2i;
    i${(5*a+12)%20} = m2i + s2r;
  }
  //:end
  //:for b in 0..5
  {
    let ar = r${4*b} + r${(4*b+10)%20};
    let ai = i${4*b} + i${(4*b+10)%20};
    let br = r${4*b} - r${(4*b+10)%20};
    let bi = i${4*b} - i${(4*b+10)%20};
    let cr = r${(4*b+5)%20} + r${(4*b+15)%20};
    let ci = i${(4*b+5)%20} + i${(4*b+15)%20};
    let dr = r${(4*b+5)%20} - r${(4*b+15)%20};
    let di = i${(4*b+5)%20} - i${(4*b+15)%20};
    r${4*b} = ar + cr;
    i${4*b} = ai + ci;
    r${(4*b+10)%20} = ar - cr;
    i${(4*b+10)%20} = ai - ci;
    r${(4*b+5)%20} = br + di;
    i${(4*b+5)%20} = bi - dr;
    r${(4*b+15)%20} = br - di;
    i${(4*b+15)%20} = bi + dr;
  }
  //:end
  // The register 5a + 4b now holds k = 5a + 16b.
  //:if pass == 0
  //:for j in 0..10
  let t$j = table[tables + ${j+5}u];
  //:end
  //:for a in 0..4
  //:for b in 0..5
  {
    let c = t${((5*a+16*b)%20)/2}[${(5*a+16*b)%2*2}];
    let s = t${((5*a+16*b)%20)/2}[${(5*a+16*b)%2*2+1}];
    let re = r${(5*a+4*b)%20};
    let im = i${(5*a+4*b)%20};
    shared_z[slot + ${(5*a+16*b)%20}u * ROW + column] = Z(re * c - im * s, re * s + im * c);
  }
  //:end
  //:end
  workgroupBarrier();
  //:for j in 0..20
  let z$j = shared_z[slot + column * ROW + ${j}u];
  //:if PAIRS == 2
  r$j = z$j.xy;
  i$j = z$j.zw;
  //:else
  r$j = z$j.x;
  i$j = z$j.y;
  //:end
  //:end
  //:else
  //:for a in 0..4
  //:for b in 0..5
  shared_z[slot + column + ${(5*a+16*b)%20*20}u] = Z(r${(5*a+4*b)%20}, i${(5*a+4*b)%20});
  //:end
  //:end
  //:end
  workgroupBarrier();
  //:end

  //:if POWER_OUT
  for (var k = lane; k <= 200u; k += LANES) {
    let at = (clip * 201u + k) * params.frames + first_frame;
    let mirror = select(400u - k, 0u, k == 0u);
    //:for g in 0..GROUPS
    let y$g = 0.25 * split(shared_z[${g*420}u + k], shared_z[${g*420}u + mirror]);
    //:for f in 0..2*PAIRS
    if first_frame + ${g*2*PAIRS+f}u < params.frames {
      out[at + ${g*2*PAIRS+f}u] = y$g[${f}];
    }
    //:end
    //:end
  }
  //:else
  for (var band = lane; band < BANDS; band += LANES) {
    let entry = bands[band];
    //:for g in 0..GROUPS
    //:if PAIRS == 2
    var sum$g = vec4f(0.0);
    //:else
    var sum$g = vec2f(0.0);
    //:end
    //:end
    for (var j = 0u; j < entry.y; j++) {
      let k = entry.x + j;
      let weight = weights[entry.z + j];
      let mirror = select(400u - k, 0u, k == 0u);
      //:for g in 0..GROUPS
      sum$g += weight * split(shared_z[${g*420}u + k], shared_z[${g*420}u + mirror]);
      //:end
    }
    let at = (clip * BANDS + band) * params.frames + first_frame;
    //:for g in 0..GROUPS*PAIRS/2
    //:if PAIRS == 2
    let mel$g = sum$g;
    //:else
    let mel$g = vec4f(sum${2*g}, sum${2*g+1});
    //:end
    let y$g = (log_vec4(fma(mel$g, vec4f(0.25), vec4f(params.eps))) - params.mean) * params.inv_std;
    //:for f in 0..4
    if first_frame + ${4*g+f}u < params.frames {
      out[at + ${4*g+f}u] = y$g[${f}];
    }
    //:end
    //:end
  }
  //:end
}
