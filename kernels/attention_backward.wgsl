// All three gradients of attention in one pass, for adapters with few cores: 5 products of queries
// by keys by head size where attention_backward_q and attention_backward_kv make 7, as each of them
// makes the scores and do v^T again.
//
// Tile scheme: a workgroup is one subgroup of WX lanes, 8 or 16, and owns a head. It takes WX ROWS
// keys at a time and walks over all queries:
//   s, dp       scale q k, do v: a lane owns ROWS keys; subgroupBroadcast passes q and do round
//   p, ds       exp(s - lse), scale p (dp - delta)
//   dv, dk, dq  += p do, ds q, ds k: a lane owns channels 4 l to 4 l + 3 of every 4 WX; p and ds
//               are passed round
// k is held both ways, dk and dv in registers, dq in memory: the lane that adds to an element is
// the only one that reads or writes it, in the order of the keys, so that there are no atomics, no
// barriers, and the same bits every time.
//
// At first lse and delta = sum(do * o) of a query are put side by side into `pair`, by lane 0 and
// lane 1, which read them back with one load. Keys past the end are clamped on load, and have
// weight 0.
//
// Constants: those of attention_bindings, VEC being 1, SCORED and OFFSET 0; WX; ROWS; WORDS vec4 of
// a row per lane; TOTAL and TOTAL_DATA name the operand that dq is summed in and its buffer: dq
// itself, or with SUMS, where dq is f16, `sum` of f32. It needs subgroups of at least WX lanes.
//
// Chosen: with 8 lanes ROWS <= 6 with one word, ROWS * WORDS <= 4 with more, with 16 lanes ROWS <=
// 2 where D <= 32, else 1, as many as leave the fewest keys idle; more rows crowd the first-level
// cache, where registers spill to (kernels/README.md, Laboratory notebook, attention_backward).

//:include attention_bindings

@compute @workgroup_size(WX)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tq = bound(params.tq, group);
  let tk = bound(params.tk, group);
  let scale = params.scale;
//:for i in 0..OPERANDS
  let ${NAME$i}_base = at_${NAME$i}(group, 0u);
  let ${NAME$i}_token = next_${NAME$i}();
//:end

  // Brings the rows into the cache: 8 loads of 64 bytes each wait for memory at once, those below
  // one after the other.
  var touched = 0.0;
  for (var i = lane; i < tq * ${(D4+3)/4}u; i += ${WX}u) {
    let row = i / ${(D4+3)/4}u;
    let c = i % ${(D4+3)/4}u * 4u;
    touched += load_q(q_base + row * q_token, c).x;
    touched += load_o(o_base + row * o_token, c).x;
    touched += load_do(do_base + row * do_token, c).x;
    touched += f32(${TOTAL_DATA}[${TOTAL}_base + row * ${TOTAL}_token + c].x);
  }
  // Never so, but the loads must not seem to be for nothing.
  if (tq == 0u) {
    pair_data[0] = touched;
  }

  // The lanes whose channels there are.
//:for w in 0..WORDS
//:if WX*w + WX <= D4
  let has$w = true;
//:else
  let has$w = ${WX*w}u + lane < ${D4}u;
//:end
//:end

  for (var i = 0u; i < tq; i++) {
    var products = vec4f(0.0);
//:for w in 0..WORDS
    let do$w = load_do(do_base + i * do_token, ${WX*w}u + lane);
    products = fma(do$w, load_o(o_base + i * o_token, ${WX*w}u + lane), products);
//:end
    var delta = sum_of(products);
    delta += subgroupShuffleXor(delta, 1u);
    delta += subgroupShuffleXor(delta, 2u);
    delta += subgroupShuffleXor(delta, 4u);
//:if WX > 8
    delta += subgroupShuffleXor(delta, 8u);
//:end
    if (lane < 2u) {
      pair_data[pair_base + i * pair_token + lane] =
        select(lse_data[lse_base + i * lse_token], delta, lane == 1u);
    }
  }

  for (var first = 0u; first < tk; first += ${WX*ROWS}u) {
//:for r in 0..ROWS
    let key$r = first + ${WX*r}u + lane;
    let own$r = min(key$r, tk - 1u);
//:if MASK
    let seen$r = key$r < tk && attends(group, own$r);
//:else
    let seen$r = key$r < tk;
//:end
//:for c in 0..D4
    let k${r}_$c = load_k(k_base + own$r * k_token, ${c}u) * scale;
    let v${r}_$c = load_v(v_base + own$r * v_token, ${c}u);
//:end
//:for j in 0..WX
    let k_at${r}_$j = k_base + min(first + ${WX*r+j}u, tk - 1u) * k_token;
//:for w in 0..WORDS
    let k_own${r}_${j}_$w = load_k(k_at${r}_$j, ${WX*w}u + lane);
    var dk${r}_${j}_$w = vec4f(0.0);
    var dv${r}_${j}_$w = vec4f(0.0);
//:end
//:end
//:end

//:if CAUSAL
    for (var i = first; i < tq; i++) {
//:else
    for (var i = 0u; i < tq; i++) {
//:end
      let total_at = ${TOTAL}_base + i * ${TOTAL}_token;
      var pair = 0.0;
      if (lane < 2u) {
        pair = pair_data[pair_base + i * pair_token + lane];
      }
      let lse = subgroupBroadcast(pair, 0u);
      let delta = subgroupBroadcast(pair, 1u);
//:for w in 0..WORDS
      let q_own$w = load_q(q_base + i * q_token, ${WX*w}u + lane);
      let do_own$w = load_do(do_base + i * do_token, ${WX*w}u + lane);
//:end
//:for r in 0..ROWS
      var s$r = vec2f(0.0);
      var dp$r = vec2f(0.0);
//:end
//:for c in 0..D4
      let q$c = subgroupBroadcast(q_own${c/WX}, ${c%WX}u);
      let do$c = subgroupBroadcast(do_own${c/WX}, ${c%WX}u);
//:for r in 0..ROWS
      s$r = fma(k${r}_$c.xy, q$c.xy, s$r);
      dp$r = fma(v${r}_$c.xy, do$c.xy, dp$r);
      s$r = fma(k${r}_$c.zw, q$c.zw, s$r);
      dp$r = fma(v${r}_$c.zw, do$c.zw, dp$r);
//:end
//:end
//:for r in 0..ROWS
//:if CAUSAL
      let counts$r = seen$r && key$r <= i;
//:else
      let counts$r = seen$r;
//:end
      let p$r = select(0.0, exp_f32(s$r.x + s$r.y - lse), counts$r);
      // 0 times delta would be NaN where a query is.
      let ds$r = select(0.0, p$r * (dp$r.x + dp$r.y - delta) * scale, counts$r);
//:end
//:for w in 0..WORDS
      var dq$w = select(
        vec4f(${TOTAL_DATA}[total_at + min(${WX*w}u + lane, ${D4-1}u)]),
        vec4f(0.0),
        first == 0u,
      );
//:end
//:for r in 0..ROWS
//:for j in 0..WX
      let p${r}_$j = vec4f(subgroupBroadcast(p$r, ${j}u));
      let ds${r}_$j = vec4f(subgroupBroadcast(ds$r, ${j}u));
//:for w in 0..WORDS
      dv${r}_${j}_$w = fma(p${r}_$j, do_own$w, dv${r}_${j}_$w);
      dk${r}_${j}_$w = fma(ds${r}_$j, q_own$w, dk${r}_${j}_$w);
      dq$w = fma(ds${r}_$j, k_own${r}_${j}_$w, dq$w);
//:end
//:end
//:end
//:if SUMS
//:if CAUSAL
      let done = first + ${WX*ROWS}u > min(i, tk - 1u);
//:else
      let done = first + ${WX*ROWS}u >= tk;
//:end
//:end
//:for w in 0..WORDS
      if (has$w) {
        ${TOTAL_DATA}[total_at + ${WX*w}u + lane] = dq$w;
//:if SUMS
        if (done) {
          store_dq(dq_base + i * dq_token, ${WX*w}u + lane, dq$w);
        }
//:end
      }
//:end
    }

//:for r in 0..ROWS
//:for j in 0..WX
//:for w in 0..WORDS
    if (first + ${WX*r+j}u < tk && has$w) {
      store_dk(dk_base + (first + ${WX*r+j}u) * dk_token, ${WX*w}u + lane, dk${r}_${j}_$w);
      store_dv(dv_base + (first + ${WX*r+j}u) * dv_token, ${WX*w}u + lane, dv${r}_${j}_$w);
    }
//:end
//:end
//:end
  }
}
