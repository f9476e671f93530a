// Elementwise maps over up to three broadcast operands: out[i] = EXPR(a, b, c, o).
//
// Operands and output are walked with strides over RANK merged axes (a stride of 0 repeats an axis), so
// that broadcasting, transposes and slices need no copies; a dense output is addressed directly. One invocation makes W neighbouring elements: W = 4
// when the innermost axis allows vector loads or a splat for every operand, else 1. There is no loop and no shared
// memory: the kernel is bound by loads (on lavapipe a vec4 load costs 17 ns per 8 lanes, an f32 load 10 to 12).
//
// Constants: WG, W, RANK, INPUTS; SPLATi says that operand i repeats along the innermost axis; Ti and TO are its
// element types in memory, TC and TV those of operand 0 and of the output in registers (f16 becomes f32), S the
// scalar of TC;
// V is "vec4" or "f32" (suffix of math functions); READ_OUT loads the old output as o;
// STRIDED_OUT walks the output with strides.

//:include math

struct Params {
  count: u32, // invocations that do work
  alpha: f32,
  beta: f32,
  offset_out: u32, // elements before the output within its window
//:for r in 0..RANK
  d$r: u32,
//:if STRIDED_OUT
  s_out_$r: u32,
//:end
//:end
//:for i in 0..INPUTS
  offset_$i: u32,
//:for r in 0..RANK
  s${i}_${r}: u32,
//:end
//:end
}

@group(0) @binding(0) var<uniform> params: Params;
//:for i in 0..INPUTS
@group(0) @binding(${i+1}) var<storage, read> in$i: array<${T$i}>;
//:end
@group(0) @binding(${INPUTS+1}) var<storage, read_write> result: array<$TO>;

alias S = $S;
alias T = $TC;
alias TV = $TV;

//:include each

fn each(i: u32) {
  // Innermost axis first; its coordinate counts groups of W elements.
  var rest = i;
//:for q in 0..RANK
//:if q == RANK - 1
  let c${RANK-1-q} = rest;
//:else
  let c${RANK-1-q} = rest % params.d${RANK-1-q};
  rest = rest / params.d${RANK-1-q};
//:end
//:end
//:for i in 0..INPUTS
  let at$i = params.offset_$i
//:for r in 0..RANK
//:if r == RANK - 1
    + c$r * params.s${i}_${r} * W
//:else
    + c$r * params.s${i}_${r}
//:end
//:end
  ;
//:end
//:if INPUTS > 0
//:if SPLAT0
  let a = T(S(in0[at0]));
//:else
  let a = T(in0[at0 / W]);
//:end
//:end
//:if INPUTS > 1
//:if SPLAT1
  let b = T(S(in1[at1]));
//:else
  let b = T(in1[at1 / W]);
//:end
//:end
//:if INPUTS > 2
//:if SPLAT2
  let c = T(S(in2[at2]));
//:else
  let c = T(in2[at2 / W]);
//:end
//:end
//:if STRIDED_OUT
  let at = (params.offset_out
//:for r in 0..RANK
//:if r == RANK - 1
    + c$r * params.s_out_$r * W
//:else
    + c$r * params.s_out_$r
//:end
//:end
  ) / W;
//:else
  let at = params.offset_out / W + i;
//:end
//:if READ_OUT
  let o = TV(result[at]);
//:end
  result[at] = $TO($EXPR);
}
