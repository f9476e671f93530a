// o = softmax(scale q k^T) v per batch and head, without a score matrix in memory.
//
// Tile scheme: each lane owns ROWS query rows in registers (q, pre-scaled, and the unnormalised
// result) and walks over all keys, STEP at a time, with the online softmax: running maximum m,
// running sum l, earlier results rescaled by exp(m_old - m_new). Every K and V element that is
// loaded serves the ROWS rows of the lane. One f32 per row goes to `lse`: m + log l, the natural
// log of the sum of exponentials, which is all that backward needs. A row that sees no key gets
// zeros and lse near HIDDEN; backward gives hidden keys no weight whatever their exponential.
//
// Rows past the end are clamped on load and dropped on store.
//
// Constants: those of attention_bindings; ROWS, STEP; WX lanes per workgroup; SUBGROUPS (with VEC):
// the lanes, 8 or 16, load different vec4 of a K or V row at once, instead of all lanes loading the
// same ones. K is passed round by subgroupBroadcast; for the result it is the probabilities that
// are, and a lane owns the channels it loads of all WX ROWS queries. It needs subgroups of at least
// WX lanes. WORDS vec4 of a row per lane then.
//
// Chosen: ROWS * D <= 256 (128 without SUBGROUPS, where compiling takes longer) with ROWS <= 4,
// with 16 lanes half of both, as many as leave the fewest rows idle: a third of the time goes to
// the loads of K and V (kernels/README.md, Laboratory notebook, attention_forward).

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
  let q_at$r = at_q(group, min(row$r, params.tq - 1u));
//:if BIAS
  let bias_at$r = at_bias(group, min(row$r, params.tq - 1u));
//:if GATE
  let gate$r = f32(gate_data[at_gate(group, min(row$r, params.tq - 1u))]);
//:else
  let gate$r = 1.0;
//:end
//:end
//:if PAIR_MASK
  let mask_at$r = at_mask(group, min(row$r, params.tq - 1u));
//:end
//:if CAUSAL
  let reach$r = reach(row$r + 1u);
//:end
  var m$r = HIDDEN;
  var l$r = 0.0;
//:for c in 0..D4
  let q${r}_$c = load_q(q_at$r, ${c}u) * params.scale;
//:end
//:if SUBGROUPS
//:for i in 0..WX
//:for w in 0..WORDS
  var acc${r}_${i}_$w = vec4f(0.0);
//:end
//:end
//:else
//:for c in 0..D4
  var acc${r}_$c = vec4f(0.0);
//:end
//:end
//:end

//:if CAUSAL
  let keys = min(bound(params.tk, group), reach((group.x + 1u) * (WX * ROWS)));
//:else
  let keys = bound(params.tk, group);
//:end
  for (var j = 0u; j < keys; j += ${STEP}u) {
//:for u in 0..STEP
    let key$u = min(j + ${u}u, params.tk - 1u);
    let k_at$u = k_base + key$u * next_k();
    let v_at$u = v_base + key$u * next_v();
//:if MASK
    let seen$u = attends(group, key$u);
//:end
//:if SUBGROUPS
//:for w in 0..WORDS
    let k_own${u}_$w = load_k(k_at$u, ${w*WX}u + part);
    let v_own${u}_$w = load_v(v_at$u, ${w*WX}u + part);
//:end
//:end
//:for r in 0..ROWS
    var dot${r}_$u = vec2f(0.0);
//:end
//:for c in 0..D4
//:if SUBGROUPS
    let k${u}_$c = subgroupBroadcast(k_own${u}_${c/WX}, ${c%WX}u);
//:else
    let k${u}_$c = load_k(k_at$u, ${c}u);
//:end
//:for r in 0..ROWS
    dot${r}_$u = fma(q${r}_$c.xy, k${u}_$c.xy, dot${r}_$u);
    dot${r}_$u = fma(q${r}_$c.zw, k${u}_$c.zw, dot${r}_$u);
//:end
//:end
//:end
//:for r in 0..ROWS
    var top$r = m$r;
//:for u in 0..STEP
    var s${r}_$u = dot${r}_$u.x + dot${r}_$u.y;
//:if BIAS
    s${r}_$u = biased(s${r}_$u, gate$r * bias_of(bias_at$r, key$u));
//:end
//:if CAUSAL
    s${r}_$u = select(HIDDEN, s${r}_$u, j + ${u}u < reach$r);
//:end
//:if PAIR_MASK
    s${r}_$u = select(HIDDEN, s${r}_$u, admits(mask_at$r, key$u));
//:end
//:if MASK
    s${r}_$u = select(HIDDEN, s${r}_$u, seen$u);
//:end
//:if u > 0
    s${r}_$u = select(HIDDEN, s${r}_$u, j + ${u}u < params.tk);
//:end
    top$r = max(top$r, s${r}_$u);
//:end
    let shrink$r = exp_f32(m$r - top$r);
    m$r = top$r;
    l$r *= shrink$r;
//:for u in 0..STEP
    let p${r}_$u = exp_f32(s${r}_$u - top$r);
    l$r += p${r}_$u;
//:end
//:end
//:if SUBGROUPS
//:for r in 0..ROWS
//:for i in 0..WX
    let shrink${r}_$i = subgroupBroadcast(shrink$r, ${i}u);
//:for u in 0..STEP
    let p${r}_${u}_$i = vec4f(subgroupBroadcast(p${r}_$u, ${i}u));
//:end
//:for w in 0..WORDS
    var next${r}_${i}_$w = acc${r}_${i}_$w * shrink${r}_$i;
//:for u in 0..STEP
    next${r}_${i}_$w = fma(p${r}_${u}_$i, v_own${u}_$w, next${r}_${i}_$w);
//:end
    acc${r}_${i}_$w = next${r}_${i}_$w;
//:end
//:end
//:end
//:else
//:for c in 0..D4
//:for u in 0..STEP
    let v${u}_$c = load_v(v_at$u, ${c}u);
//:end
//:for r in 0..ROWS
    acc${r}_$c *= shrink$r;
//:for u in 0..STEP
    acc${r}_$c = fma(vec4f(p${r}_$u), v${u}_$c, acc${r}_$c);
//:end
//:end
//:end
//:end
  }

//:for r in 0..ROWS
//:if BLIND
  // Hidden keys have weight 1 until the first visible one shrinks them to 0; without one they are
  // all there is.
  let share$r = select(0.0, 1.0 / l$r, m$r > HIDDEN);
//:else
  let share$r = 1.0 / l$r;
//:end
//:if SUBGROUPS
//:for i in 0..WX
  let share${r}_$i = subgroupBroadcast(share$r, ${i}u);
  let token${r}_$i = group.x * (WX * ROWS) + ${r*WX+i}u;
//:for w in 0..WORDS
  if (token${r}_$i < params.tq && ${WX*w}u + part < ${D4}u) {
    store_o(at_o(group, token${r}_$i), ${WX*w}u + part, acc${r}_${i}_$w * share${r}_$i);
  }
//:end
//:end
//:end
  if (row$r < params.tq) {
//:if !SUBGROUPS
    let o_at = at_o(group, row$r);
//:for c in 0..D4
    store_o(o_at, ${c}u, acc${r}_$c * share$r);
//:end
//:end
//:if OFFSET
    lse_data[at_lse(group, row$r)] = select(HIDDEN, m$r + log_f32(l$r), m$r > HIDDEN);
//:else
    lse_data[at_lse(group, row$r)] = m$r + log_f32(l$r);
//:end
  }
//:end
}
