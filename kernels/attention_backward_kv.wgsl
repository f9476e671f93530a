// Gradients of attention with respect to k and v.
//
// The mirror of attention_backward_q: a lane owns ROWS keys (k pre-scaled, v, and both gradients in registers) and
// walks over all queries. Per query: p = exp(scale q k - lse), dv += p do, ds = p (do v - delta), dk += scale ds q.
// No atomics: a key's gradients are summed by one lane in the order of the queries.
//
// Constants as in attention_forward; DV names the buffer of dv: dk and dv may lie in one buffer (a fused dqkv), and
// WebGPU does not allow a buffer to be bound for writing twice (FUSED).
//
// Measured on lavapipe (Mesa 22.3.6, 2 cores), both backward kernels together, GFLOP/s counting 10 B H T^2 D, rows per
// lane of attention_backward_q and of this kernel; the cores were shared, so the best of 14 runs / their median.
//   B16 H3 T58 D64:   1,1 10/9   2,1 13/11   2,2 18/12   3,2 23/12   3,3 15/12   4,3 16/13   4,4 14/14
//   B16 H4 T191 D32:  1,1 20/11  2,1 15/13   2,2 20/16   3,2 33/17   3,3 35/18   4,3 35/19   4,4 33/20
//   B8 H3 T134 D64:   2,2 26/15, without SUBGROUPS 7/6; WX 16 24/13; 3,3 26/17
// As chosen, best of 12: B16 H3 T58 D64 25; B16 H3 T134 D64 20; B16 H4 T191 D32 38; B8 H12 T191 D64 25.
// Compiling costs some 0.3 s per row of 64 channels and kernel, hence ROWS * D <= 128.

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
  offset_do: u32,
  batch_do: u32,
  head_do: u32,
  token_do: u32,
  offset_dk: u32,
  batch_dk: u32,
  head_dk: u32,
  token_dk: u32,
  offset_dv: u32,
  batch_dv: u32,
  head_dv: u32,
  token_dv: u32,
  offset_lse: u32,
  offset_delta: u32,
  batch_lse: u32, // strides of delta too
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
@group(0) @binding(4) var<storage, read> do_data: array<E>;
@group(0) @binding(5) var<storage, read> lse_data: array<f32>;
@group(0) @binding(6) var<storage, read> delta_data: array<f32>;
@group(0) @binding(7) var<storage, read_write> dk_data: array<E>;
//:if !FUSED
@group(0) @binding(8) var<storage, read_write> dv_data: array<E>;
//:end

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
  let do_base = params.offset_do + group.z * params.batch_do + group.y * params.head_do;
  let dk_base = params.offset_dk + group.z * params.batch_dk + group.y * params.head_dk;
  let dv_base = params.offset_dv + group.z * params.batch_dv + group.y * params.head_dv;
  let stat_base = group.z * params.batch_lse + group.y * params.head_lse;
//:if SUBGROUPS
  let part = subgroup_lane & 7u;
//:end
//:for r in 0..ROWS
  let key$r = group.x * (WX * ROWS) + ${r}u * WX + lane.x;
  let k_at$r = k_base + min(key$r, params.tk - 1u) * params.token_k;
  let v_at$r = v_base + min(key$r, params.tk - 1u) * params.token_v;
//:for c in 0..D4
//:if VEC
  let k${r}_$c = k_data[k_at$r + ${c}u] * params.scale;
  let v${r}_$c = v_data[v_at$r + ${c}u];
//:else
  let k${r}_$c = params.scale * vec4f(
//:for i in 0..4
//:if c*4+i < D
    k_data[k_at$r + ${c*4+i}u],
//:else
    0.0,
//:end
//:end
  );
  let v${r}_$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
    v_data[v_at$r + ${c*4+i}u],
//:else
    0.0,
//:end
//:end
  );
//:end
  var dk${r}_$c = vec4f(0.0);
  var dv${r}_$c = vec4f(0.0);
//:end
//:end

//:if CAUSAL
  for (var i = group.x * (WX * ROWS); i < params.tq; i++) {
//:else
  for (var i = 0u; i < params.tq; i++) {
//:end
    let q_at = q_base + i * params.token_q;
    let do_at = do_base + i * params.token_do;
    let lse = lse_data[params.offset_lse + stat_base + i];
    let delta = delta_data[params.offset_delta + stat_base + i];
//:if SUBGROUPS
//:for w in 0..WORDS
    let q_own$w = q_data[q_at + min(${w*8}u + part, ${D4-1}u)];
    let do_own$w = do_data[do_at + min(${w*8}u + part, ${D4-1}u)];
//:end
//:end
//:for r in 0..ROWS
    var s$r = vec4f(0.0);
    var dp$r = vec4f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let q$c = subgroupBroadcast(q_own${c/8}, ${c%8}u);
    let do$c = subgroupBroadcast(do_own${c/8}, ${c%8}u);
//:else
//:if VEC
    let q$c = q_data[q_at + ${c}u];
    let do$c = do_data[do_at + ${c}u];
//:else
    let q$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      q_data[q_at + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
    let do$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      do_data[do_at + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
//:end
//:end
//:for r in 0..ROWS
    s$r = fma(k${r}_$c, q$c, s$r);
    dp$r = fma(v${r}_$c, do$c, dp$r);
//:end
//:end
//:for r in 0..ROWS
//:if CAUSAL
    let p$r = select(0.0, exp_f32((s$r.x + s$r.y) + (s$r.z + s$r.w) - lse), key$r <= i);
//:else
    let p$r = exp_f32((s$r.x + s$r.y) + (s$r.z + s$r.w) - lse);
//:end
    let ds$r = p$r * ((dp$r.x + dp$r.y) + (dp$r.z + dp$r.w) - delta);
//:end
//:for c in 0..D4
//:for r in 0..ROWS
    dk${r}_$c = fma(vec4f(ds$r), q$c, dk${r}_$c);
    dv${r}_$c = fma(vec4f(p$r), do$c, dv${r}_$c);
//:end
//:end
  }

//:for r in 0..ROWS
  if (key$r < params.tk) {
    let dk_at = dk_base + key$r * params.token_dk;
    let dv_at = dv_base + key$r * params.token_dv;
//:for c in 0..D4
//:if VEC
    dk_data[dk_at + ${c}u] = dk${r}_$c * params.scale;
    $DV[dv_at + ${c}u] = dv${r}_$c;
//:else
//:for i in 0..4
//:if c*4+i < D
    dk_data[dk_at + ${c*4+i}u] = dk${r}_$c[$i] * params.scale;
    $DV[dv_at + ${c*4+i}u] = dv${r}_$c[$i];
//:end
//:end
//:end
//:end
  }
//:end
}
