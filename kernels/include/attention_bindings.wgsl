// Parameters, buffers and access of the attention kernels, the same for all of them so that one
// launcher serves them.
//
// An operand is read as (batch, head, token) with strides and an offset, so that the three parts of
// a fused qkv tensor are three operands in one buffer, and so are their gradients. Operands in
// order: READS that are only read and then up to WIDE those that are written, all of D elements per
// token; from WIDE to OPERANDS statistics: a few scalars per token, or f32 sums of D elements. Per
// operand i: NAME$i, DATA$i (its buffer), BATCH$i, the batch of it that the batch `group.z` reads
// (of what repeats over batches, their remainder), and HEAD$i, the head that the query head
// `group.y` reads: with grouped queries several of them read one of k and v. Per buffer, of which
// there are BUFFERS: BUFFER$i, ACCESS$i, TYPE$i. The first IMAGES of them are textures, a row per
// token and a texel per vec4, which all READS are in then: offsets and heads count texels, batches
// rows.
//
// Which keys a query sees, and what is added to its scores: CAUSAL, keys below `reach(query + 1)`:
// up to the query itself, or with OFFSET `shift` further (fewer if negative). MASK, keys whose
// statistic `mask`, per batch and key, is not 0. PAIR_MASK, a mask per query and key. BIAS, a
// statistic `bias` per query and key that is added to scale q k; -inf hides. GATE, a factor of the
// bias per query: a statistic `gate` forward, and the third of `pair` backward, whose place its
// gradient takes with DGATE. Of PAIR_MASK and BIAS neighbouring keys lie `key_mask` and `key_bias`
// apart. SCORED: PAIR_MASK or BIAS. BLIND: there may be queries that see no key.
//
// E is the scalar in memory, f32 or f16; what is loaded becomes f32. VEC: buffers of vec4 (D,
// strides and offsets are multiples of 4; offsets and strides then count vec4), else of single
// elements, the last vec4 padded by zeros.

//:include math

struct Params {
  tq: u32,
  tk: u32,
  scale: f32,
//:if OFFSET
  shift: i32,
//:end
//:if PAIR_MASK
  key_mask: u32,
//:end
//:if BIAS
  key_bias: u32,
//:end
//:if DBIAS
  key_dbias: u32,
//:end
//:for i in 0..OPERANDS
  offset_${NAME$i}: u32,
  batch_${NAME$i}: u32,
  head_${NAME$i}: u32,
  token_${NAME$i}: u32,
//:end
}

//:if VEC
alias Element = vec4<$E>;
//:else
alias Element = $E;
//:end

@group(0) @binding(0) var<uniform> params: Params;
//:for i in 0..IMAGES
@group(0) @binding(${i+1}) var ${BUFFER$i}: texture_storage_2d<rgba32float, read>;
//:end
//:for i in IMAGES..BUFFERS
@group(0) @binding(${i+1}) var<storage, ${ACCESS$i}> ${BUFFER$i}: array<${TYPE$i}>;
//:end

// A length that loops end at. Where uniforms alone say that a loop is short enough to be unrolled,
// lavapipe compiles the kernel anew at each dispatch and keeps the code (kernels/README.md,
// Laboratory notebook, attention_backward). Batches beyond the limit of a grid do not exist, which
// compilers do not know.
fn bound(length: u32, group: vec3u) -> u32 {
  return select(length, 0u, group.z > 65535u);
}

// Stands for -inf, which WGSL constants cannot hold; its exponential is 0.
const HIDDEN: f32 = -3.0e38;

// Where a token of a head begins in its buffer, and how far the next one lies; `group` is the
// workgroup: head along y, batch along z.
//:for i in 0..READS*(IMAGES>0)
fn at_${NAME$i}(group: vec3u, token: u32) -> vec2u {
  return vec2u(
    params.offset_${NAME$i} + ${HEAD$i} * params.head_${NAME$i},
    group.z * params.batch_${NAME$i} + token,
  );
}

fn next_${NAME$i}() -> vec2u {
  return vec2u(0u, 1u);
}
//:end
//:for i in READS*(IMAGES>0)..OPERANDS
fn next_${NAME$i}() -> u32 {
  return params.token_${NAME$i};
}

fn at_${NAME$i}(group: vec3u, token: u32) -> u32 {
  return params.offset_${NAME$i} + ${BATCH$i} * params.batch_${NAME$i} +
    ${HEAD$i} * params.head_${NAME$i} + token * params.token_${NAME$i};
}
//:end

// Channels 4 c to 4 c + 3 of the token at `at`, zeros from channel D on.
//:for i in 0..READS*(IMAGES>0)
fn load_${NAME$i}(at: vec2u, c: u32) -> vec4f {
  let x = textureLoad(${DATA$i}, vec2u(at.x + min(c, ${D4-1}u), at.y));
  return select(vec4f(0.0), x, c < ${D4}u);
}
//:end
//:for i in READS*(IMAGES>0)..READS
fn load_${NAME$i}(at: u32, c: u32) -> vec4f {
//:if VEC
  return select(vec4f(0.0), vec4f(${DATA$i}[at + min(c, ${D4-1}u)]), c < ${D4}u);
//:else
  return vec4f(
//:for j in 0..4
    select(0.0, f32(${DATA$i}[at + min(c * 4u + ${j}u, ${D-1}u)]), c * 4u + ${j}u < D),
//:end
  );
//:end
}
//:end
//:for i in READS..WIDE
fn store_${NAME$i}(at: u32, c: u32, x: vec4f) {
//:if VEC
  ${DATA$i}[at + c] = Element(x);
//:else
//:for j in 0..4
  if (c * 4u + ${j}u < D) {
    ${DATA$i}[at + c * 4u + ${j}u] = Element(x[$j]);
  }
//:end
//:end
}
//:end

//:if MASK
// Whether a key takes part: the statistic `mask`, per batch and key, is not 0.
fn attends(group: vec3u, key: u32) -> bool {
  return bool(mask_data[at_mask(group, key)]);
}
//:end

//:if PAIR_MASK
// Whether a query, whose row of the mask begins at `at`, may see a key.
fn admits(at: u32, key: u32) -> bool {
  return bool(mask_data[at + key * params.key_mask]);
}
//:end

//:if BIAS
// What the query's row of the bias, which begins at `at`, has for a key.
fn bias_of(at: u32, key: u32) -> f32 {
  return f32(bias_data[at + key * params.key_bias]);
}

// A score with what is added to it.
fn biased(score: f32, added: f32) -> f32 {
  let sum = score + added;
  return select(sum, HIDDEN, sum < HIDDEN);
}

// The gradient of a gate with what a pair adds to it: its score's gradient, and its bias. What is
// hidden adds nothing, be its bias -inf.
fn gate_sum(sum: f32, ds: f32, bias: f32) -> f32 {
  return select(fma(ds, bias, sum), sum, ds == 0.0);
}
//:end

//:if CAUSAL
//:if OFFSET
// How many keys the first `queries` queries see.
fn reach(queries: u32) -> u32 {
  return u32(max(i32(queries) + params.shift, 0));
}

// The first query that sees a key.
fn first_query(key: u32) -> u32 {
  return u32(max(i32(key) - params.shift, 0));
}
//:else
fn reach(queries: u32) -> u32 {
  return queries;
}

fn first_query(key: u32) -> u32 {
  return key;
}
//:end
//:end

fn sum_of(x: vec4f) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}
