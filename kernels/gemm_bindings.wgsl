// Parameters and buffers of the matrix products, the same for every kernel family so that one launcher serves them.
//
// Constants: E (f32 or f16: what is stored; everything is computed in f32), VEC (buffers of vec4, else of scalars),
// BIAS, RESIDUAL, GELU.

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
  offset_pre: u32,
  batch_a: u32, // elements between neighbouring matrices
  batch_b: u32,
  batch_c: u32,
  alpha: f32,
}

//:if VEC
alias Item = vec4<$E>;
//:else
alias Item = $E;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a_data: array<Item>;
@group(0) @binding(2) var<storage, read> b_data: array<Item>;
@group(0) @binding(3) var<storage, read_write> c_data: array<Item>;
//:if BIAS
@group(0) @binding(4) var<storage, read> bias_data: array<Item>;
//:end
//:if RESIDUAL
@group(0) @binding(${4+BIAS}) var<storage, read> residual_data: array<Item>;
//:end
//:if GELU
@group(0) @binding(${4+BIAS+RESIDUAL}) var<storage, read_write> pre_data: array<Item>;
//:end
