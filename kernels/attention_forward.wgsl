// Attention: o = softmax(scale q k^T) v per batch and head, without a score matrix in memory.
//
// Each lane owns ROWS query rows in registers (q, pre-scaled, and the unnormalised result) and walks over all keys,
// KEYS at a time, with the online softmax: running maximum m, running sum l, earlier results rescaled by
// exp(m_old - m_new). Every K and V element that is loaded serves the ROWS rows of the lane. One f32 per row goes
// to `lse`: m + log l, the natural log of the sum of exponentials, which is all that backward needs.
//
// Operands are read as (batch, token, head) with strides and an offset, so the three parts of a fused qkv tensor are
// three bindings of one buffer. Rows past the end are clamped on load and dropped on store.
//
// Constants: D head size; VEC loads vec4 (D, strides and offsets are multiples of 4; offsets and strides then count
// vec4), else single f32 with the last vec4 padded by zeros; ROWS, KEYS; WX lanes per workgroup; CAUSAL hides keys
// after the query; SUBGROUPS (with VEC): 8 lanes load 8 different vec4 of a K or V row at once and pass them round by
// subgroupBroadcast, instead of all lanes loading the same ones. It needs subgroups of at least 8 lanes.
//
// Measured on lavapipe (Mesa 22.3.6, 2 cores shared with others), GFLOP/s counting 4 B H T^2 D, best of 20 to 30. The
// machine ran at one of two speeds a factor 2 apart, so only numbers of one line compare; time of the first dispatch,
// that is compiling, in brackets.
//   B16 H3 T134 D64:  ROWS 1 24 (0.2 s), 2 32 (0.4 s), 3 38, 4 36 (0.7 s), 6 44 (1.8 s)
//   B16 H3 T134 D64, slow:  ROWS 3 19, without SUBGROUPS 7; KEYS 2 23 (0.6 s); WX 16 21
//   B16 H4 T191 D32:  ROWS 4 40, with KEYS 2 48 (0.3 s), KEYS 4 53 (0.4 s); ROWS 6 KEYS 2 52 (0.6 s); ROWS 3 KEYS 2 45
//   As chosen:        B16 H3 T58 D64 31; B16 H3 T134 D64 41; B8 H12 T134 D64 45; B8 H12 T191 D64 25, slow
// Chosen: ROWS * D <= 192 with ROWS <= 4, KEYS 2 up to D 64 with VEC. Without SUBGROUPS compiling takes about twice as
// long (D 64, ROWS 4: 1.5 s). Loading q and storing o in loops over channels, with the registers shifted along, made
// the text shorter, but neither compiling nor running faster by more than the noise. No GPU was measured.

//:include math

struct Params {
  tq: u32,
  tk: u32,
  scale: f32,
  offset_q: u32,
  batch_q: u32,
  head_q: u32,
  token_q: u32,
  offset_k: u32,
  batch_k: u32,
  head_k: u32,
  token_k: u32,
  offset_v: u32,
  batch_v: u32,
  head_v: u32,
  token_v: u32,
  offset_o: u32,
  batch_o: u32,
  head_o: u32,
  token_o: u32,
  offset_lse: u32,
  batch_lse: u32,
  head_lse: u32,
}

//:if VEC
alias E = vec4f;
//:else
alias E = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q_data: array<E>;
@group(0) @binding(2) var<storage, read> k_data: array<E>;
@group(0) @binding(3) var<storage, read> v_data: array<E>;
@group(0) @binding(4) var<storage, read_write> o_data: array<E>;
@group(0) @binding(5) var<storage, read_write> lse_data: array<f32>;

// Stands for -inf, which WGSL constants cannot hold; its exponential is 0.
const HIDDEN: f32 = -3.0e38;

@compute @workgroup_size(WX)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
//:if SUBGROUPS
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
//:end
) {
  let q_base = params.offset_q + group.z * params.batch_q + group.y * params.head_q;
  let k_base = params.offset_k + group.z * params.batch_k + group.y * params.head_k;
  let v_base = params.offset_v + group.z * params.batch_v + group.y * params.head_v;
  let o_base = params.offset_o + group.z * params.batch_o + group.y * params.head_o;
  let lse_base = params.offset_lse + group.z * params.batch_lse + group.y * params.head_lse;
//:if SUBGROUPS
  let part = subgroup_lane & 7u;
//:end
//:for r in 0..ROWS
  let row$r = group.x * (WX * ROWS) + ${r}u * WX + lane.x;
  let q_at$r = q_base + min(row$r, params.tq - 1u) * params.token_q;
  var m$r = HIDDEN;
  var l$r = 0.0;
//:for c in 0..D4
//:if VEC
  let q${r}_$c = q_data[q_at$r + ${c}u] * params.scale;
//:else
  let q${r}_$c = params.scale * vec4f(
//:for i in 0..4
//:if c*4+i < D
    q_data[q_at$r + ${c*4+i}u],
//:else
    0.0,
//:end
//:end
  );
//:end
  var acc${r}_$c = vec4f(0.0);
//:end
//:end

//:if CAUSAL
  let keys = min(params.tk, (group.x + 1u) * (WX * ROWS));
//:else
  let keys = params.tk;
//:end
  for (var j = 0u; j < keys; j += ${KEYS}u) {
//:for u in 0..KEYS
//:if KEYS == 1
    let key$u = j;
//:else
    let key$u = min(j + ${u}u, params.tk - 1u);
//:end
    let k_at$u = k_base + key$u * params.token_k;
    let v_at$u = v_base + key$u * params.token_v;
//:if SUBGROUPS
//:for w in 0..WORDS
    let k_own${u}_$w = k_data[k_at$u + min(${w*8}u + part, ${D4-1}u)];
    let v_own${u}_$w = v_data[v_at$u + min(${w*8}u + part, ${D4-1}u)];
//:end
//:end
//:for r in 0..ROWS
    var dot${r}_$u = vec4f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let k${u}_$c = subgroupBroadcast(k_own${u}_${c/8}, ${c%8}u);
//:else
//:if VEC
    let k${u}_$c = k_data[k_at$u + ${c}u];
//:else
    let k${u}_$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      k_data[k_at$u + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
//:end
//:end
//:for r in 0..ROWS
    dot${r}_$u = fma(q${r}_$c, k${u}_$c, dot${r}_$u);
//:end
//:end
//:end
//:for r in 0..ROWS
    var top$r = m$r;
//:for u in 0..KEYS
    var s${r}_$u = (dot${r}_$u.x + dot${r}_$u.y) + (dot${r}_$u.z + dot${r}_$u.w);
//:if CAUSAL
    s${r}_$u = select(HIDDEN, s${r}_$u, j + ${u}u <= row$r);
//:end
//:if u > 0
    s${r}_$u = select(HIDDEN, s${r}_$u, j + ${u}u < params.tk);
//:end
    top$r = max(top$r, s${r}_$u);
//:end
    let shrink$r = exp_f32(m$r - top$r);
    m$r = top$r;
    l$r *= shrink$r;
//:for u in 0..KEYS
    let p${r}_$u = exp_f32(s${r}_$u - top$r);
    l$r += p${r}_$u;
//:end
//:end
//:for c in 0..D4
//:for u in 0..KEYS
//:if SUBGROUPS
    let v${u}_$c = subgroupBroadcast(v_own${u}_${c/8}, ${c%8}u);
//:else
//:if VEC
    let v${u}_$c = v_data[v_at$u + ${c}u];
//:else
    let v${u}_$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      v_data[v_at$u + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
//:end
//:end
//:end
//:for r in 0..ROWS
    acc${r}_$c *= shrink$r;
//:for u in 0..KEYS
    acc${r}_$c = fma(vec4f(p${r}_$u), v${u}_$c, acc${r}_$c);
//:end
//:end
//:end
  }

//:for r in 0..ROWS
  if (row$r < params.tq) {
    let o_at = o_base + row$r * params.token_o;
    let share = 1.0 / l$r;
//:for c in 0..D4
//:if VEC
    o_data[o_at + ${c}u] = acc${r}_$c * share;
//:else
//:for i in 0..4
//:if c*4+i < D
    o_data[o_at + ${c*4+i}u] = acc${r}_$c[$i] * share;
//:end
//:end
//:end
//:end
    lse_data[lse_base + row$r] = m$r + log_f32(l$r);
  }
//:end
}
