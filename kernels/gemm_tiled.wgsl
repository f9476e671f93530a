// C = alpha * op(A) * op(B) (+ bias) (+ residual), or C += …, as gemm.wgsl, in tiles of shared
// memory: for GPUs.
//
// Tile scheme: 256 invocations own 16 ROWS rows x 64 VECS columns of C, each ROWS rows x VECS vec4
// of columns, both in groups of four that lie 64 apart, so that neighbouring lanes read
// neighbouring vec4 of shared memory and store neighbouring vec4 of C. 32 neighbouring invocations
// form 4 rows of 8, so that their reads of A and of B meet in few distinct vec4.
//
// Per slice of BK steps of K, each invocation loads one block of 4 x 4 elements of A or of B (the
// first ones of A, the next of B), turns it round in registers where the operand is stored along K,
// and writes it as 4 vec4: a tile holds [step of K][row or column]. The block of the next slice is
// loaded before the multiply-adds of the current one, which hide its latency. Two barriers per
// slice.
//
//   tile        ROWS VECS BK   shared   blocks of A + B
//   128 x 128      8    2 16   16 KiB   128 + 128
//   128 x 64       8    1 16   12 KiB   128 +  64
//   64 x 64        4    1 32   16 KiB   128 + 128
//
// naga clamps every dynamic index of shared memory: the first index of a tile is a constant where
// it is read, so the clamp of the second is the same for all steps of K. Lanes pair two blocks
// along K (32 B of a row) with blocks of neighbouring rows: whole sectors from memory, and writes
// to shared memory that meet in a bank at most twice.
//
// Every element of C is summed over k in the same order as in gemm.wgsl, so that all variants give
// the same bits.
//
// Edges: rows and columns past the edge are clamped on load and dropped on store, as in gemm.wgsl;
// steps past the end of K are zero in both operands (TAIL: they may lie within a group of four).
//
// Constants: E, TA, TB, VA, VB, VC, TAIL, BLOCKED, BIAS, GELU, FACTOR, RESIDUAL, PARTIAL, ACC as in
// gemm.wgsl; ROWS, VECS, BK as in the table; STORE = ROWS, DOWN = ACROSS = 64 for gemm_store.wgsl;
// SUMS is not served.
//
// The speed on a GPU is unmeasured; the scheme is distilled from others' reports
// (kernels/README.md, Laboratory notebook, gemm_tiled).

//:include gemm_bindings

var<workgroup> a_tile: array<array<vec4f, ${ROWS*4}>, BK>;
var<workgroup> b_tile: array<array<vec4f, ${VECS*16}>, BK>;

const A_BLOCKS: u32 = ${ROWS*BK}u;
const B_BLOCKS: u32 = ${VECS*4*BK}u;

// A block from k on, one column per step of K, from its four vectors as stored.
fn block_a(at: vec4u, k: u32) -> mat4x4f {
//:if TA
//:for i in 0..4
  var x$i = vec4f(0.0);
  if (k + ${i}u < params.k) {
    x$i = load_a(at[$i]);
  }
//:end
  return mat4x4f(x0, x1, x2, x3);
//:else
  if (k >= params.k) {
    return mat4x4f();
  }
//:for i in 0..4
  var x$i = load_a(at[$i]);
//:if TAIL
  x$i = select(vec4f(0.0), x$i, k + vec4u(0u, 1u, 2u, 3u) < vec4u(params.k));
//:end
//:end
  return transpose(mat4x4f(x0, x1, x2, x3));
//:end
}

fn block_b(at: vec4u, k: u32) -> mat4x4f {
//:if !TB
//:for i in 0..4
  var x$i = vec4f(0.0);
  if (k + ${i}u < params.k) {
    x$i = load_b(at[$i]);
  }
//:end
  return mat4x4f(x0, x1, x2, x3);
//:else
  if (k >= params.k) {
    return mat4x4f();
  }
//:for i in 0..4
  var x$i = load_b(at[$i]);
//:if TAIL
  x$i = select(vec4f(0.0), x$i, k + vec4u(0u, 1u, 2u, 3u) < vec4u(params.k));
//:end
//:end
  return transpose(mat4x4f(x0, x1, x2, x3));
//:end
}

// Which block of a slice an invocation loads: x counts rows or columns of C, of which there are
// `width` blocks, y steps of K.
fn along_k(index: u32, width: u32) -> vec2u {
  return vec2u(index / 2u % width, index % 2u + index / (2u * width) * 2u);
}

fn across_k(index: u32, width: u32) -> vec2u {
  return vec2u(index % width, index / width);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let x = lane % 8u + lane / 32u % 2u * 8u;
  let y = lane / 8u % 4u + lane / 64u * 4u;
  let row = group.y * ${ROWS*16}u + y * 4u;
  let column = group.x * ${VECS*64}u + x * 4u;
  let c_start = group.z * params.batch_c;
//:for r in 0..ROWS
//:for j in 0..VECS
  var acc${r}_$j = vec4f(0.0);
//:end
//:end

  // Where the block of this invocation starts, that is its four vectors, and the way to the next
  // slice, in items.
  let corners = vec4u(0u, 1u, 2u, 3u);
  var block = vec2u(0u);
  var at = vec4u(0u);
  var stride = 0u;
  if (lane < A_BLOCKS) {
    let base = params.offset_a + group.z * params.batch_a;
//:if TA
    block = across_k(lane, ${ROWS*4}u);
    let first = min(group.y * ${ROWS*16}u + block.x * 4u, (params.m - 1u) / 4u * 4u);
    at = (base + first + (block.y * 4u + corners) * params.lda) / VA;
    stride = BK * params.lda / VA;
//:else
    block = along_k(lane, ${ROWS*4}u);
    let first = group.y * ${ROWS*16}u + block.x * 4u;
    at = (base + min(first + corners, vec4u(params.m - 1u)) * params.lda + block.y * 4u) / VA;
    stride = ${BK/VA}u;
//:end
  } else if (lane < A_BLOCKS + B_BLOCKS) {
    let base = params.offset_b + group.z * params.batch_b;
//:if TB
    block = along_k(lane - A_BLOCKS, ${VECS*16}u);
    let first = group.x * ${VECS*64}u + block.x * 4u;
    at = (base + min(first + corners, vec4u(params.n - 1u)) * params.ldb + block.y * 4u) / VB;
    stride = ${BK/VB}u;
//:else
    block = across_k(lane - A_BLOCKS, ${VECS*16}u);
    let first = min(group.x * ${VECS*64}u + block.x * 4u, (params.n - 1u) / 4u * 4u);
    at = (base + first + (block.y * 4u + corners) * params.ldb) / VB;
    stride = BK * params.ldb / VB;
//:end
  }

  let step = block.y * 4u;
  var next = mat4x4f();
  if (lane < A_BLOCKS) {
    next = block_a(at, step);
  } else if (lane < A_BLOCKS + B_BLOCKS) {
    next = block_b(at, step);
  }
//:if BLOCKED
//:include gemm_blocks
  let until = min(start + 128u, params.k);
  for (var k = start; k < until; k += BK) {
//:else
  for (var k = 0u; k < params.k; k += BK) {
//:end
    if (lane < A_BLOCKS) {
//:for q in 0..4
      a_tile[step + ${q}u][block.x] = next[$q];
//:end
    } else if (lane < A_BLOCKS + B_BLOCKS) {
//:for q in 0..4
      b_tile[step + ${q}u][block.x] = next[$q];
//:end
    }
    workgroupBarrier();
    at += stride;
    if (lane < A_BLOCKS) {
      next = block_a(at, k + BK + step);
    } else if (lane < A_BLOCKS + B_BLOCKS) {
      next = block_b(at, k + BK + step);
    }
//:for q in 0..BK
//:for i in 0..ROWS/4
    let a${q}_$i = a_tile[$q][y + ${i*16}u];
//:end
//:for j in 0..VECS
    let b${q}_$j = b_tile[$q][x + ${j*16}u];
//:end
//:for r in 0..ROWS
//:for j in 0..VECS
    acc${r}_$j = fma(vec4f(a${q}_${r/4}[${r%4}]), b${q}_$j, acc${r}_$j);
//:end
//:end
//:end
    workgroupBarrier();
  }
//:if BLOCKED
  }
//:end

//:include gemm_store
}
