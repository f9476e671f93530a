// Parameters and buffers of the matrix products, the same for every variant so that one launcher
// serves them.
//
// Each operand is an array of items of VA, VB or VC elements (4, 2 or 1), VC being that of C, bias,
// residual, slope and partial: the most that divides its row's length and all its offsets and
// distances. Kernels load four neighbours at a time, as 4 / VA items. They do so up to the edge of
// a matrix: then the last three elements may lie behind it, in the next row or, as items are whole,
// out of bounds, which WebGPU allows to read. What comes of them is dropped.
//
// Constants: E (f32 or f16: what is stored; everything is computed in f32), EC (that of C: f32
// where it holds a partial sum of f16 products), VA, VB, VC, BIAS, RESIDUAL, GELU, FACTOR, PARTIAL,
// SUMS; IMAGES (A and B are textures of four elements per texel, which lavapipe reads three times
// as fast).
//
// Items of 2 or 1 cost a tenth on lavapipe (kernels/README.md, Laboratory notebook, gemm).

//:if GELU
//:include math
//:end

struct Params {
  m: u32,
  n: u32,
  k: u32,
  lda: u32,
  ldb: u32,
  ldc: u32,
  offset_a: u32,
  offset_b: u32,
  offset_c: u32,
  offset_bias: u32,
  offset_residual: u32,
  offset_slope: u32,
  offset_partial: u32,
  offset_sums: u32,
  batch_a: u32, // elements between neighbouring matrices
  batch_b: u32,
  batch_c: u32,
  alpha: f32,
}

//:if VA == 1
alias ItemA = $E;
alias WideA = f32;
//:else
alias ItemA = vec${VA}<$E>;
alias WideA = vec${VA}f;
//:end
//:if VB == 1
alias ItemB = $E;
alias WideB = f32;
//:else
alias ItemB = vec${VB}<$E>;
alias WideB = vec${VB}f;
//:end
//:if VC == 1
alias ItemC = $EC;
alias WideC = f32;
//:else
alias ItemC = vec${VC}<$EC>;
alias WideC = vec${VC}f;
//:end

@group(0) @binding(0) var<uniform> params: Params;
//:if IMAGES
@group(0) @binding(1) var a_data: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var b_data: texture_storage_2d<rgba32float, read>;
//:else
@group(0) @binding(1) var<storage, read> a_data: array<ItemA>;
@group(0) @binding(2) var<storage, read> b_data: array<ItemB>;
//:end
@group(0) @binding(3) var<storage, read_write> c_data: array<ItemC>;
//:if BIAS
@group(0) @binding(4) var<storage, read> bias_data: array<ItemC>;
//:end
//:if RESIDUAL
@group(0) @binding(${4+BIAS}) var<storage, read> residual_data: array<ItemC>;
//:end
//:if GELU
@group(0) @binding(${4+BIAS+RESIDUAL}) var<storage, read_write> slope_data: array<ItemC>;
//:end
//:if FACTOR
@group(0) @binding(${4+BIAS+RESIDUAL}) var<storage, read> slope_data: array<ItemC>;
//:end
//:if PARTIAL
@group(0) @binding(${4+BIAS+RESIDUAL+GELU+FACTOR}) var<storage, read> partial_data: array<WideC>;
//:end
//:if SUMS
@group(0) @binding(${4+BIAS+RESIDUAL+GELU+FACTOR+PARTIAL}) var<storage, read_write> sums_data:
  array<$E>;
//:end

//:if IMAGES
// Four elements: the texel of this column and row.
fn load_a(at: vec2u) -> vec4f {
  return textureLoad(a_data, at);
}

fn load_b(at: vec2u) -> vec4f {
  return textureLoad(b_data, at);
}
//:else
// Four elements, from the item `at` on.
fn load_a(at: u32) -> vec4f {
  return vec4f(
//:for i in 0..4/VA
    WideA(a_data[at + ${i}u]),
//:end
  );
}

fn load_b(at: u32) -> vec4f {
  return vec4f(
//:for i in 0..4/VB
    WideB(b_data[at + ${i}u]),
//:end
  );
}
//:end
