// Attention in tiles for GPUs: forward (PASS 0), the gradient of q (PASS 1), the gradients of k and
// v (PASS 2).
//
//   PASS  outer    scores by inner tokens            weights                       sums
//   0     queries  s = scale q k^T                    p = exp(s - max so far)       o = p v
//   1     queries  s, dp = do v^T                     ds = exp(s - lse) (dp - delta)
//                                                                                   dq = scale ds k
//   2     keys     s^T = scale k q^T, dp^T = v do^T   p = exp(s^T - lse),           dv = p do,
//                                                     ds = p (dp^T - delta)         dk = scale ds q
//
// with lse the log-sum-exp per row that PASS 0 leaves and delta = sum(do * o) per row that PASS 1
// leaves (Dao et al., FlashAttention, arXiv:2205.14135). Nothing is added by atomics: one lane sums
// an element in the order of the tokens.
//
// Tile scheme: a workgroup of 8 TY lanes owns 4 TY tokens and walks over the others 32 at a time.
// Lane (tx, ty) owns tokens ty, TY + ty, 2 TY + ty, 3 TY + ty. Of the 32 inner tokens it computes
// the scores of tx, 8 + tx, 16 + tx, 24 + tx: 4 x 4 products in registers out of chunks of 8 vec4
// of channels in workgroup memory. Their weights go to workgroup memory, one vec4 for the four
// tokens of a lane; then every lane sums vec4 8 c + tx of channels, for each chunk c, over all 32
// tokens. Both halves make 8 multiply-adds per vec4 that is loaded from workgroup memory. The
// maximum and the sum of the online softmax are combined between the 8 lanes of a ty in workgroup
// memory, so no subgroups are needed. Tokens past the end are clamped on load and get no weight;
// channels past the end are zeros.
//
// Constants: those of attention_bindings; PASS, TY (8 or 16), PAIR as in attention_backward_q; the
// roles of the operands: PRODUCTS of LEFT$s (of the outer tokens) by RIGHT$s, OUTPUTS of weights by
// FACTOR$o.
//
// For GPUs, where workgroup memory is cheap; none was measured (kernels/README.md, Laboratory
// notebook, attention_tiled).

//:include attention_bindings

const OUTER: u32 = ${TY*4}u;
const INNER: u32 = 32u;
const CHUNKS: u32 = ${(D4+7)/8}u;
// Rows of 8 vec4 lie 9 apart, and rows of TY weights TY + 1, so that lanes meet in different banks.
const PITCH: u32 = 9u;

// Chunk of the outer tokens; later the weights by inner token, one vec4 for the four tokens of a
// lane.
var<workgroup> left: array<vec4f, ${TY*36}>;
// Chunk of the inner tokens.
var<workgroup> right: array<vec4f, 288>;
//:if PASS < 2
var<workgroup> partial: array<vec4f, ${TY*8}>;
//:end

@compute @workgroup_size(${TY*8})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tx = lane & 7u;
  let ty = lane >> 3u;
//:if PASS == 2
  let outer = params.tk;
  let inner = bound(params.tq, group);
//:else
  let outer = params.tq;
  let inner = bound(params.tk, group);
//:end
  let first = group.x * OUTER;
//:for r in 0..4
  let own$r = first + ${r}u * ${TY}u + ty;
  let clamped$r = min(own$r, outer - 1u);
//:end
//:if CAUSAL
//:if PASS == 2
  let firsts = vec4u(
//:for r in 0..4
    first_query(own$r),
//:end
  );
//:else
  let reaches = vec4u(
//:for r in 0..4
    reach(own$r + 1u),
//:end
  );
//:end
//:end
//:if MASK && PASS == 2
  let attended = vec4<bool>(
//:for r in 0..4
    attends(group, clamped$r),
//:end
  );
//:end
//:for o in 0..OUTPUTS
//:for r in 0..4
//:for c in 0..(D4+7)/8
  var acc${o}_${r}_$c = vec4f(0.0);
//:end
//:end
//:end

//:if PASS == 0
  var top = vec4f(HIDDEN);
  var total = vec4f(0.0);
//:end
//:if GATE && PASS < 2
  let gates = vec4f(
//:for r in 0..4
//:if PASS == 0
    f32(gate_data[at_gate(group, clamped$r)]),
//:else
    pair_data[at_pair(group, clamped$r) + 2u],
//:end
//:end
  );
//:end
//:if DGATE
  var dgates = vec4f(0.0);
//:end
//:if PASS == 1
//:for r in 0..4
//:if PAIR
  let lse$r = pair_data[at_pair(group, clamped$r)];
  let delta$r = pair_data[at_pair(group, clamped$r) + 1u];
//:else
  let lse$r = lse_data[at_lse(group, clamped$r)];
  let do_at$r = at_do(group, clamped$r);
  let o_at$r = at_o(group, clamped$r);
  var sum$r = 0.0;
//:for c in 0..(D4+7)/8
  sum$r += dot(load_do(do_at$r, ${c*8}u + tx), load_o(o_at$r, ${c*8}u + tx));
//:end
//:end
//:end
//:if PAIR
  let delta = vec4f(delta0, delta1, delta2, delta3);
//:else
  partial[lane] = vec4f(sum0, sum1, sum2, sum3);
  workgroupBarrier();
  var delta = vec4f(0.0);
//:for i in 0..8
  delta += partial[ty * 8u + ${i}u];
//:end
//:end
  let lse = vec4f(lse0, lse1, lse2, lse3);
//:end

//:if CAUSAL && PASS == 2
  for (var j = first_query(first); j < inner; j += INNER) {
//:else
//:if CAUSAL
  let end = min(inner, reach(first + OUTER));
//:else
  let end = inner;
//:end
  for (var j = 0u; j < end; j += INNER) {
//:end
//:for s in 0..PRODUCTS
//:for u in 0..4
    var x${s}_$u = vec4f(0.0);
//:end
    for (var c = 0u; c < CHUNKS; c++) {
      workgroupBarrier();
//:for i in 0..4
      left[(${i*TY}u + ty) * PITCH + tx] =
        load_${LEFT$s}(at_${LEFT$s}(group, clamped$i), c * 8u + tx);
//:end
//:for i in 0..32/TY
      right[(${i*TY}u + ty) * PITCH + tx] =
        load_${RIGHT$s}(at_${RIGHT$s}(group, min(j + ${i*TY}u + ty, inner - 1u)), c * 8u + tx);
//:end
      workgroupBarrier();
      for (var i = 0u; i < 8u; i += 2u) {
//:for w in 0..2
//:for r in 0..4
        let a${r}_$w = left[(${r*TY}u + ty) * PITCH + i + ${w}u];
//:end
//:for u in 0..4
        let b${u}_$w = right[(${u*8}u + tx) * PITCH + i + ${w}u];
        x${s}_$u += vec4f(
//:for r in 0..4
          dot(a${r}_$w, b${u}_$w),
//:end
        );
//:end
//:end
      }
    }
//:end

//:for u in 0..4
    let token$u = j + ${u*8}u + tx;
//:if CAUSAL && PASS == 2
    var seen$u = vec4<bool>(token$u < inner) & (firsts <= vec4u(token$u));
//:else
//:if CAUSAL
    var seen$u = vec4<bool>(token$u < inner) & (vec4u(token$u) < reaches);
//:else
    var seen$u = vec4<bool>(token$u < inner);
//:end
//:end
//:if MASK && PASS == 2
    seen$u &= attended;
//:end
//:if MASK && PASS < 2
    seen$u &= vec4<bool>(attends(group, min(token$u, inner - 1u)));
//:end
//:end
//:for u in 0..4
    var score$u = x0_$u * params.scale;
//:if SCORED
    let inner$u = min(token$u, inner - 1u);
//:if BIAS
    let bias$u = vec4f(
//:for r in 0..4
//:if PASS == 2
      bias_of(at_bias(group, inner$u), clamped$r),
//:else
      bias_of(at_bias(group, clamped$r), inner$u),
//:end
//:end
    );
//:if GATE
//:if PASS == 2
    let gates$u = vec4f(pair_data[at_pair(group, inner$u) + 2u]);
//:else
    let gates$u = gates;
//:end
    let added$u = gates$u * bias$u;
//:else
    let added$u = bias$u;
//:end
    score$u = vec4f(
//:for r in 0..4
      biased(score$u[$r], added$u[$r]),
//:end
    );
    seen$u &= !(score$u <= vec4f(HIDDEN));
//:end
//:if PAIR_MASK
    seen$u &= vec4<bool>(
//:for r in 0..4
//:if PASS == 2
      admits(at_mask(group, inner$u), clamped$r),
//:else
      admits(at_mask(group, clamped$r), inner$u),
//:end
//:end
    );
//:end
//:end
//:end
//:if PASS == 0
//:for u in 0..4
    let s$u = select(vec4f(HIDDEN), score$u, seen$u);
//:end
    partial[lane] = max(max(s0, s1), max(s2, s3));
    workgroupBarrier();
    var risen = top;
//:for i in 0..8
    risen = max(risen, partial[ty * 8u + ${i}u]);
//:end
    let shrink = exp_vec4(top - risen);
    top = risen;
//:for u in 0..4
    let weight0_$u = exp_vec4(s$u - top);
//:end
    total = total * shrink + ((weight0_0 + weight0_1) + (weight0_2 + weight0_3));
//:for r in 0..4
//:for c in 0..(D4+7)/8
    acc0_${r}_$c *= shrink[$r];
//:end
//:end
//:end
//:if PASS == 1
//:for u in 0..4
    let p$u = exp_vec4(score$u - lse);
    let weight0_$u = select(vec4f(0.0), p$u * (x1_$u - delta), seen$u);
//:if DGATE
    dgates = vec4f(
//:for r in 0..4
      gate_sum(dgates[$r], weight0_$u[$r], bias$u[$r]),
//:end
    );
//:end
//:end
//:end
//:if PASS == 2
//:for u in 0..4
    let row$u = min(token$u, inner - 1u);
//:if PAIR
    let p$u = exp_vec4(score$u - pair_data[at_pair(group, row$u)]);
    let weight0_$u = select(vec4f(0.0), p$u, seen$u);
    let delta$u = pair_data[at_pair(group, row$u) + 1u];
//:else
    let p$u = exp_vec4(score$u - lse_data[at_lse(group, row$u)]);
    let weight0_$u = select(vec4f(0.0), p$u, seen$u);
    let delta$u = delta_data[at_delta(group, row$u)];
//:end
    let weight1_$u = select(vec4f(0.0), weight0_$u * (x1_$u - delta$u), seen$u);
//:end
//:end

//:for o in 0..OUTPUTS
//:if PASS > 0
    workgroupBarrier();
//:end
//:for u in 0..4
    left[(${u*8}u + tx) * ${TY+1}u + ty] = weight${o}_$u;
//:end
//:for c in 0..(D4+7)/8
//:if c > 0
    workgroupBarrier();
//:end
//:for i in 0..32/TY
    right[(${i*TY}u + ty) * PITCH + tx] =
      load_${FACTOR$o}(at_${FACTOR$o}(group, min(j + ${i*TY}u + ty, inner - 1u)), ${c*8}u + tx);
//:end
    workgroupBarrier();
    for (var i = 0u; i < INNER; i += 4u) {
//:for w in 0..4
      let weight${o}_${c}_$w = left[(i + ${w}u) * ${TY+1}u + ty];
      let factor${o}_${c}_$w = right[(i + ${w}u) * PITCH + tx];
//:for r in 0..4
      acc${o}_${r}_$c = fma(vec4f(weight${o}_${c}_$w[$r]), factor${o}_${c}_$w, acc${o}_${r}_$c);
//:end
//:end
    }
//:end
//:end
  }

//:if DGATE
  partial[lane] = dgates;
  workgroupBarrier();
  dgates = vec4f(0.0);
//:for i in 0..8
  dgates += partial[ty * 8u + ${i}u];
//:end
//:end
//:if PASS == 0
  partial[lane] = total;
  workgroupBarrier();
  total = vec4f(0.0);
//:for i in 0..8
  total += partial[ty * 8u + ${i}u];
//:end
//:if BLIND
  // Hidden keys have weight 1 until the first visible one shrinks them to 0; without one they are
  // all there is.
  let share = select(vec4f(0.0), 1.0 / total, top > vec4f(HIDDEN));
//:else
  let share = 1.0 / total;
//:end
//:if OFFSET
  let lse = select(vec4f(HIDDEN), top + log_vec4(total), top > vec4f(HIDDEN));
//:else
  let lse = top + log_vec4(total);
//:end
//:end
//:for r in 0..4
  if (own$r < outer) {
//:if PASS == 0
    let factor = share[$r];
//:else
    let factor = params.scale;
//:end
//:for o in 0..OUTPUTS
    let at$o = at_${OUTPUT$o}(group, own$r);
//:for c in 0..(D4+7)/8
//:if PASS == 2 && o == 0
    let result${o}_$c = acc${o}_${r}_$c;
//:else
    let result${o}_$c = acc${o}_${r}_$c * factor;
//:end
    if (${c*8}u + tx < ${D4}u) {
      store_${OUTPUT$o}(at$o, ${c*8}u + tx, result${o}_$c);
    }
//:end
//:end
//:if PASS == 0
    if (tx == 0u) {
      lse_data[at_lse(group, own$r)] = lse[$r];
    }
//:end
//:if PASS == 1 && !PAIR
    if (tx == 0u) {
      delta_data[at_delta(group, own$r)] = delta[$r];
    }
//:end
//:if DGATE
    if (tx == 0u) {
      pair_data[at_pair(group, own$r) + 2u] = dgates[$r];
    }
//:end
  }
//:end
}
