// Parameters, buffers and access of the attention kernels, the same for all of them so that one
// launcher serves them.
//
// An operand is read as (batch, head, token) with strides and an offset, so that the three parts of
// a fused qkv tensor are three operands in one buffer. Operands in order: READS that are only read
// and then up to WIDE those that are written, all of D elements per token; from WIDE to OPERANDS
// statistics: a few scalars per token, or f32 sums of D elements. Per operand i: NAME$i, BUFFER$i,
// and for statistics ACCESS$i and TYPE$i. SHARED is how many written operands, the last ones, lie
// in the buffer of the first (gradients of a fused tensor): WebGPU does not let a buffer be bound
// for writing twice.
//
// E is the scalar in memory, f32 or f16; what is loaded becomes f32. VEC: buffers of vec4 (D,
// strides and offsets are multiples of 4; offsets and strides then count vec4), else of single
// elements, the last vec4 padded by zeros.

//:include math

struct Params {
  tq: u32,
  tk: u32,
  scale: f32,
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
//:for i in 0..READS
@group(0) @binding(${i+1}) var<storage, read> ${NAME$i}_data: array<Element>;
//:end
//:for i in READS..WIDE-SHARED
@group(0) @binding(${i+1}) var<storage, read_write> ${NAME$i}_data: array<Element>;
//:end
//:for i in WIDE..OPERANDS
@group(0) @binding(${i+1-SHARED}) var<storage, ${ACCESS$i}> ${NAME$i}_data: array<${TYPE$i}>;
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

// Where a token of a head begins in its buffer; `group` is the workgroup: head along y, batch along
// z.
//:for i in 0..OPERANDS
fn at_${NAME$i}(group: vec3u, token: u32) -> u32 {
  return params.offset_${NAME$i} + group.z * params.batch_${NAME$i} +
    group.y * params.head_${NAME$i} + token * params.token_${NAME$i};
}
//:end

// Channels 4 c to 4 c + 3 of the token at `at`, zeros from channel D on.
//:for i in 0..READS
fn load_${NAME$i}(at: u32, c: u32) -> vec4f {
//:if VEC
  return select(vec4f(0.0), vec4f(${BUFFER$i}[at + min(c, ${D4-1}u)]), c < ${D4}u);
//:else
  return vec4f(
//:for j in 0..4
    select(0.0, f32(${BUFFER$i}[at + min(c * 4u + ${j}u, ${D-1}u)]), c * 4u + ${j}u < D),
//:end
  );
//:end
}
//:end
//:for i in READS..WIDE
fn store_${NAME$i}(at: u32, c: u32, x: vec4f) {
//:if VEC
  ${BUFFER$i}[at + c] = Element(x);
//:else
//:for j in 0..4
  if (c * 4u + ${j}u < D) {
    ${BUFFER$i}[at + c * 4u + ${j}u] = Element(x[$j]);
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

fn sum_of(x: vec4f) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}
