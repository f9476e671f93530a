// Gradient of attention with respect to q, and delta = sum(do * o) per row for attention_backward_kv.
//
// As in attention_forward a lane owns ROWS query rows and walks over all keys. Per key the probability is computed
// again from the stored log-sum-exp: p = exp(scale q k - lse), ds = p (do v - delta), dq += scale ds k. Every K and V
// element that is loaded serves ROWS rows, K twice.
//
// Constants as in attention_forward; ROWS * D <= 128 (kernels/attention_backward_kv.wgsl has the measurements).

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
  offset_do: u32,
  batch_do: u32,
  head_do: u32,
  token_do: u32,
  offset_dq: u32,
  batch_dq: u32,
  head_dq: u32,
  token_dq: u32,
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
@group(0) @binding(4) var<storage, read> o_data: array<E>;
@group(0) @binding(5) var<storage, read> do_data: array<E>;
@group(0) @binding(6) var<storage, read> lse_data: array<f32>;
@group(0) @binding(7) var<storage, read_write> dq_data: array<E>;
@group(0) @binding(8) var<storage, read_write> delta_data: array<f32>;

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
  let do_base = params.offset_do + group.z * params.batch_do + group.y * params.head_do;
  let dq_base = params.offset_dq + group.z * params.batch_dq + group.y * params.head_dq;
  let stat_base = group.z * params.batch_lse + group.y * params.head_lse;
//:if SUBGROUPS
  let part = subgroup_lane & 7u;
//:end
//:for r in 0..ROWS
  let row$r = group.x * (WX * ROWS) + ${r}u * WX + lane.x;
  let from$r = min(row$r, params.tq - 1u);
  let q_at$r = q_base + from$r * params.token_q;
  let o_at$r = o_base + from$r * params.token_o;
  let do_at$r = do_base + from$r * params.token_do;
  let lse$r = lse_data[params.offset_lse + stat_base + from$r];
  var sum$r = vec4f(0.0);
//:for c in 0..D4
//:if VEC
  let q${r}_$c = q_data[q_at$r + ${c}u] * params.scale;
  let do${r}_$c = do_data[do_at$r + ${c}u];
  sum$r = fma(do${r}_$c, o_data[o_at$r + ${c}u], sum$r);
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
  let do${r}_$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
    do_data[do_at$r + ${c*4+i}u],
//:else
    0.0,
//:end
//:end
  );
  sum$r = fma(do${r}_$c, vec4f(
//:for i in 0..4
//:if c*4+i < D
    o_data[o_at$r + ${c*4+i}u],
//:else
    0.0,
//:end
//:end
  ), sum$r);
//:end
  var dq${r}_$c = vec4f(0.0);
//:end
  let delta$r = (sum$r.x + sum$r.y) + (sum$r.z + sum$r.w);
//:end

//:if CAUSAL
  let keys = min(params.tk, (group.x + 1u) * (WX * ROWS));
//:else
  let keys = params.tk;
//:end
  for (var j = 0u; j < keys; j++) {
    let k_at = k_base + j * params.token_k;
    let v_at = v_base + j * params.token_v;
//:if SUBGROUPS
//:for w in 0..WORDS
    let k_own$w = k_data[k_at + min(${w*8}u + part, ${D4-1}u)];
    let v_own$w = v_data[v_at + min(${w*8}u + part, ${D4-1}u)];
//:end
//:end
//:for r in 0..ROWS
    var s$r = vec4f(0.0);
    var dp$r = vec4f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let k$c = subgroupBroadcast(k_own${c/8}, ${c%8}u);
    let v$c = subgroupBroadcast(v_own${c/8}, ${c%8}u);
//:else
//:if VEC
    let k$c = k_data[k_at + ${c}u];
    let v$c = v_data[v_at + ${c}u];
//:else
    let k$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      k_data[k_at + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
    let v$c = vec4f(
//:for i in 0..4
//:if c*4+i < D
      v_data[v_at + ${c*4+i}u],
//:else
      0.0,
//:end
//:end
    );
//:end
//:end
//:for r in 0..ROWS
    s$r = fma(q${r}_$c, k$c, s$r);
    dp$r = fma(do${r}_$c, v$c, dp$r);
//:end
//:end
//:for r in 0..ROWS
    let p$r = exp_f32((s$r.x + s$r.y) + (s$r.z + s$r.w) - lse$r);
//:if CAUSAL
    let ds$r = select(0.0, p$r * ((dp$r.x + dp$r.y) + (dp$r.z + dp$r.w) - delta$r), j <= row$r);
//:else
    let ds$r = p$r * ((dp$r.x + dp$r.y) + (dp$r.z + dp$r.w) - delta$r);
//:end
//:end
//:for c in 0..D4
//:for r in 0..ROWS
    dq${r}_$c = fma(vec4f(ds$r), k$c, dq${r}_$c);
//:end
//:end
  }

//:for r in 0..ROWS
  if (row$r < params.tq) {
    let dq_at = dq_base + row$r * params.token_dq;
//:for c in 0..D4
//:if VEC
    dq_data[dq_at + ${c}u] = dq${r}_$c * params.scale;
//:else
//:for i in 0..4
//:if c*4+i < D
    dq_data[dq_at + ${c*4+i}u] = dq${r}_$c[$i] * params.scale;
//:end
//:end
//:end
//:end
    delta_data[params.offset_delta + stat_base + row$r] = delta$r;
  }
//:end
}
