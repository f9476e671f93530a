// Gradients of attention with respect to k and v.
//
// Tile scheme: the mirror of attention_backward_q. A lane owns ROWS keys (k pre-scaled, v, and both
// gradients in registers) and walks over all queries. Per query: p = exp(scale q k - lse), dv += p
// do, ds = p (do v - delta), dk += scale ds q. No atomics: a key's gradients are summed by one lane
// in the order of the queries.
//
// With DBIAS it is the gradient of a bias per key that a lane adds to, and those of k and v are
// left out.
//
// Constants as in attention_forward, PAIR and DBIAS as in attention_backward_q. The time to compile
// bounds ROWS * D; one query at a time and two sums per product, because more need more registers
// than there are (kernels/README.md, Laboratory notebook, attention_backward_q and
// attention_backward_kv).

//:include attention_bindings

@compute @workgroup_size(WX)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
//:if SUBGROUPS
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
//:end
) {
  let q_base = at_q(group, 0u);
  let do_base = at_do(group, 0u);
//:if PAIR
  let pair_base = at_pair(group, 0u);
//:else
  let lse_base = at_lse(group, 0u);
  let delta_base = at_delta(group, 0u);
//:end
//:if SUBGROUPS
  let part = subgroup_lane & ${WX-1}u;
//:end
//:for r in 0..ROWS
  let key$r = group.x * (WX * ROWS) + ${r}u * WX + lane.x;
  let k_at$r = at_k(group, min(key$r, params.tk - 1u));
  let v_at$r = at_v(group, min(key$r, params.tk - 1u));
//:if SCORED
  let own$r = min(key$r, params.tk - 1u);
//:end
//:if CAUSAL
  let first$r = first_query(key$r);
//:end
//:if DBIAS
  var dbias$r = 0.0;
//:end
//:for c in 0..D4
  let k${r}_$c = load_k(k_at$r, ${c}u) * params.scale;
  let v${r}_$c = load_v(v_at$r, ${c}u);
  var dk${r}_$c = vec4f(0.0);
  var dv${r}_$c = vec4f(0.0);
//:end
//:end

  let queries = bound(params.tq, group);
//:if CAUSAL
  for (var i = first_query(group.x * (WX * ROWS)); i < queries; i++) {
//:else
  for (var i = 0u; i < queries; i++) {
//:end
    let q_at = q_base + i * params.token_q;
    let do_at = do_base + i * params.token_do;
//:if PAIR
    let lse = pair_data[pair_base + i * params.token_pair];
    let delta = pair_data[pair_base + i * params.token_pair + 1u];
//:if GATE
    let gate = pair_data[pair_base + i * params.token_pair + 2u];
//:else
    let gate = 1.0;
//:end
//:else
    let lse = lse_data[lse_base + i];
    let delta = delta_data[delta_base + i];
//:end
//:if SUBGROUPS
//:for w in 0..WORDS
    let q_own$w = load_q(q_at, ${w*WX}u + part);
    let do_own$w = load_do(do_at, ${w*WX}u + part);
//:end
//:end
//:for r in 0..ROWS
    var s$r = vec2f(0.0);
    var dp$r = vec2f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let q$c = subgroupBroadcast(q_own${c/WX}, ${c%WX}u);
    let do$c = subgroupBroadcast(do_own${c/WX}, ${c%WX}u);
//:else
    let q$c = load_q(q_at, ${c}u);
    let do$c = load_do(do_at, ${c}u);
//:end
//:for r in 0..ROWS
    s$r = fma(k${r}_$c.xy, q$c.xy, s$r);
    dp$r = fma(v${r}_$c.xy, do$c.xy, dp$r);
    s$r = fma(k${r}_$c.zw, q$c.zw, s$r);
    dp$r = fma(v${r}_$c.zw, do$c.zw, dp$r);
//:end
//:end
//:for r in 0..ROWS
    var score$r = s$r.x + s$r.y;
//:if BIAS
    score$r = biased(score$r, gate * bias_of(at_bias(group, i), own$r));
//:end
//:if PAIR_MASK
    score$r = select(HIDDEN, score$r, admits(at_mask(group, i), own$r));
//:end
    var p$r = exp_f32(score$r - lse);
//:if SCORED
    p$r = select(p$r, 0.0, score$r <= HIDDEN);
//:end
//:if CAUSAL
    p$r = select(0.0, p$r, first$r <= i);
//:end
    var ds$r = p$r * (dp$r.x + dp$r.y - delta);
// What is hidden gets 0 beside NaN too, which 0 times delta is not.
//:if SCORED
    ds$r = select(ds$r, 0.0, score$r <= HIDDEN);
//:end
//:if CAUSAL
    ds$r = select(0.0, ds$r, first$r <= i);
//:end
//:end
//:if DBIAS
//:for r in 0..ROWS
    dbias$r += ds$r * gate;
//:end
//:else
//:for c in 0..D4
//:for r in 0..ROWS
    dk${r}_$c = fma(vec4f(ds$r), q$c, dk${r}_$c);
    dv${r}_$c = fma(vec4f(p$r), do$c, dv${r}_$c);
//:end
//:end
//:end
  }

//:for r in 0..ROWS
//:if DBIAS
//:if MASK
  if (key$r < params.tk && attends(group, key$r)) {
//:else
  if (key$r < params.tk) {
//:end
    dbias_data[at_dbias(group, key$r)] += dbias$r;
  }
//:else
  if (key$r < params.tk) {
    let dk_at = at_dk(group, key$r);
    let dv_at = at_dv(group, key$r);
//:if MASK
    // A hidden key's sums are void, perhaps infinite: its scores are no part of the log-sum-exp.
    let seen = attends(group, key$r);
//:for c in 0..D4
    dk${r}_$c = select(vec4f(0.0), dk${r}_$c, seen);
    dv${r}_$c = select(vec4f(0.0), dv${r}_$c, seen);
//:end
//:end
//:for c in 0..D4
    store_dk(dk_at, ${c}u, dk${r}_$c * params.scale);
    store_dv(dv_at, ${c}u, dv${r}_$c);
//:end
  }
//:end
//:end
}
