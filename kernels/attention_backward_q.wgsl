// Gradient of attention with respect to q, and delta = sum(do * o) per row for
// attention_backward_kv.
//
// Tile scheme: as in attention_forward a lane owns ROWS query rows and walks over all keys. Per key
// the probability is recomputed from the stored log-sum-exp: p = exp(scale q k - lse), ds = p (do v
// - delta), dq += scale ds k. Every K and V element that is loaded serves ROWS rows, K twice.
//
// With PAIR the two statistics lie side by side in `pair`, delta computed before, so that what is
// bound besides stays within 8 buffers. With DGATE the gradient of the gate takes the gate's place
// there. With DBIAS the gradient of the bias is what is added to, at each query and key, and that
// of q is left out.
//
// Constants as in attention_forward, PAIR, DGATE, DBIAS; choices as in attention_backward_kv.

//:include attention_bindings

@compute @workgroup_size(WX)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
//:if SUBGROUPS
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
//:end
) {
  let k_base = at_k(group, 0u);
  let v_base = at_v(group, 0u);
//:if SUBGROUPS
  let part = subgroup_lane & ${WX-1}u;
//:end
//:for r in 0..ROWS
  let row$r = group.x * (WX * ROWS) + ${r}u * WX + lane.x;
  let from$r = min(row$r, params.tq - 1u);
  let q_at$r = at_q(group, from$r);
  let do_at$r = at_do(group, from$r);
//:if PAIR
  let lse$r = pair_data[at_pair(group, from$r)];
  let delta$r = pair_data[at_pair(group, from$r) + 1u];
//:else
  let o_at$r = at_o(group, from$r);
  let lse$r = lse_data[at_lse(group, from$r)];
  var sum$r = vec4f(0.0);
//:end
//:if BIAS
  let bias_at$r = at_bias(group, from$r);
//:if GATE
  let gate$r = pair_data[at_pair(group, from$r) + 2u];
//:else
  let gate$r = 1.0;
//:end
//:end
//:if DGATE
  var dgate$r = 0.0;
//:end
//:if PAIR_MASK
  let mask_at$r = at_mask(group, from$r);
//:end
//:if DBIAS
  let dbias_at$r = at_dbias(group, from$r);
//:end
//:if CAUSAL
  let reach$r = reach(row$r + 1u);
//:end
//:for c in 0..D4
  let q${r}_$c = load_q(q_at$r, ${c}u) * params.scale;
  let do${r}_$c = load_do(do_at$r, ${c}u);
//:if !PAIR
  sum$r = fma(do${r}_$c, load_o(o_at$r, ${c}u), sum$r);
//:end
  var dq${r}_$c = vec4f(0.0);
//:end
//:if !PAIR
  let delta$r = sum_of(sum$r);
//:end
//:end

//:if CAUSAL
  let keys = min(bound(params.tk, group), reach((group.x + 1u) * (WX * ROWS)));
//:else
  let keys = bound(params.tk, group);
//:end
  for (var j = 0u; j < keys; j++) {
    let k_at = k_base + j * params.token_k;
    let v_at = v_base + j * params.token_v;
//:if MASK
    let seen = attends(group, j);
//:end
//:if SUBGROUPS
//:for w in 0..WORDS
    let k_own$w = load_k(k_at, ${w*WX}u + part);
    let v_own$w = load_v(v_at, ${w*WX}u + part);
//:end
//:end
//:for r in 0..ROWS
    var s$r = vec2f(0.0);
    var dp$r = vec2f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let k$c = subgroupBroadcast(k_own${c/WX}, ${c%WX}u);
    let v$c = subgroupBroadcast(v_own${c/WX}, ${c%WX}u);
//:else
    let k$c = load_k(k_at, ${c}u);
    let v$c = load_v(v_at, ${c}u);
//:end
//:for r in 0..ROWS
    s$r = fma(q${r}_$c.xy, k$c.xy, s$r);
    dp$r = fma(do${r}_$c.xy, v$c.xy, dp$r);
    s$r = fma(q${r}_$c.zw, k$c.zw, s$r);
    dp$r = fma(do${r}_$c.zw, v$c.zw, dp$r);
//:end
//:end
//:for r in 0..ROWS
    var score$r = s$r.x + s$r.y;
//:if BIAS
    let bias$r = bias_of(bias_at$r, j);
    score$r = biased(score$r, gate$r * bias$r);
//:end
//:if PAIR_MASK
    score$r = select(HIDDEN, score$r, admits(mask_at$r, j));
//:end
    var ds$r = exp_f32(score$r - lse$r) * (dp$r.x + dp$r.y - delta$r);
//:if SCORED
    ds$r = select(ds$r, 0.0, score$r <= HIDDEN);
//:end
//:if CAUSAL
    ds$r = select(0.0, ds$r, j < reach$r);
//:end
//:if MASK
    ds$r = select(0.0, ds$r, seen);
//:end
//:if DGATE
    dgate$r = gate_sum(dgate$r, ds$r, bias$r);
//:end
//:end
//:if DBIAS
//:for r in 0..ROWS
    if (row$r < params.tq) {
      dbias_data[dbias_at$r + j * params.key_dbias] += ds$r * gate$r;
    }
//:end
//:else
//:for c in 0..D4
//:for r in 0..ROWS
    dq${r}_$c = fma(vec4f(ds$r), k$c, dq${r}_$c);
//:end
//:end
//:end
  }

//:if !DBIAS
//:for r in 0..ROWS
  if (row$r < params.tq) {
    let dq_at = at_dq(group, row$r);
//:for c in 0..D4
    store_dq(dq_at, ${c}u, dq${r}_$c * params.scale);
//:end
//:if !PAIR
    delta_data[at_delta(group, row$r)] = delta$r;
//:end
//:if DGATE
    pair_data[at_pair(group, row$r) + 2u] = dgate$r;
//:end
  }
//:end
//:end
}
