// Elementwise maps over broadcast operands, or chains of maps: out[i] = RESULT(x0[i], x1[i], …, o).
//
// Operands and output are walked with strides over RANK merged axes (a stride of 0 repeats an
// axis), so that broadcasting, transposes and slices need no copies; a dense output is addressed
// directly. A unit is W neighbouring elements: W = 4 when the innermost axis allows vector loads or
// a splat for every operand, else 1.
//
// RUN = 1: one unit per invocation, neighbours side by side. RUN > 1, for large arrays on software
// adapters: each invocation walks RUN units in sequence, U at a time, so that its coordinates are
// divided out once, and the loads of 8 lanes are 8 streams of a page or more that the processor
// fetches ahead: half as fast again (kernels/README.md, Laboratory notebook, elementwise).
//
// Constants: WG, W, RANK, RUN, U (divides RUN and the units of the innermost axis; 1 with RUN = 1);
// INPUTS operands in BUFFERS buffers, fewer where operands of a plan overlap; Ti (of buffer i) and
// TO are the types in memory of a unit (f16 with W = 4: two words), LOADi and STORE convert them;
// TC and TV are the types of operand 0 and of the output in registers (f16 becomes f32), S the
// scalar of TC, Bits the u32 or vec4u of as many; FUNCTIONS and MODULO say how many calls of
// include/functions.wgsl and modulo.wgsl there are; READ_OUT loads the old output as o; STRIDED_OUT
// walks outputs with strides. STATEMENTS over x0, x1, … end in RESULT; STEPS are functions that
// they call, FIELDS and HOISTED their parameters (engine/launch/elementwise.ts). EXPR only names
// the launch.

//:include math
//:if FUNCTIONS
//:include functions
//:end
//:include half

struct Params {
  count: u32, // units
  alpha: f32,
  beta: f32,
  offset_out: u32, // elements before the output within its window
  $FIELDS
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
//:for i in 0..BUFFERS
@group(0) @binding(${i+1}) var<storage, read> in$i: array<${T$i}>;
//:end
@group(0) @binding(${BUFFERS+1}) var<storage, read_write> result: array<$TO>;

alias S = $S;
alias T = $TC;
alias TV = $TV;
alias Bits = $TU;
//:if MODULO
//:include modulo
//:end

$STEPS


@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = ((group.x + group.y * groups.x) * WG + lane) * RUN;
  if (first >= params.count) {
    return;
  }
  // Innermost axis first; its coordinate counts units.
  var rest = first;
//:for q in 0..RANK
//:if q == RANK - 1
  var c${RANK-1-q} = rest;
//:else
  var c${RANK-1-q} = rest % params.d${RANK-1-q};
  rest = rest / params.d${RANK-1-q};
//:end
//:end
  // Parameters are loads too: once, not in every round.
  let alpha = params.alpha;
  let beta = params.beta;
  let offset_out = params.offset_out;
  $HOISTED
//:for r in 0..RANK
  let d$r = params.d$r;
//:if STRIDED_OUT
  let s_out_$r = params.s_out_$r;
//:end
//:end
//:for i in 0..INPUTS
  let offset_$i = params.offset_$i;
//:for r in 0..RANK
  let s${i}_${r} = params.s${i}_${r};
//:end
//:end
//:if RUN > 1
  let end = min(first + RUN, params.count);
  for (var i = first; i < end; i += U) {
//:else
  {
    let i = first;
//:end
//:for i in 0..INPUTS
    let at$i = (offset_$i
//:for r in 0..RANK
//:if r == RANK - 1
      + c$r * s${i}_${r} * W
//:else
      + c$r * s${i}_${r}
//:end
//:end
    );
//:end
//:if STRIDED_OUT
    let to = (offset_out
//:for r in 0..RANK
//:if r == RANK - 1
      + c$r * s_out_$r * W
//:else
      + c$r * s_out_$r
//:end
//:end
    ) / W;
//:else
    let to = offset_out / W + i;
//:end
//:for u in 0..U
    var y$u: TV;
    {
//:for i in 0..INPUTS
//:if W == 4
      let k$i = at$i / 4u + ${u}u;
//:else
      let k$i = at$i + ${u}u * s${i}_${RANK-1};
//:end
      let x$i = ${LOAD$i};
//:end
//:if STRIDED_OUT && W == 1
      let k = to + ${u}u * s_out_${RANK-1};
//:else
      let k = to + ${u}u;
//:end
//:if READ_OUT
      let o = $LOAD_OUT;
//:end
      $STATEMENTS
      y$u = $RESULT;
    }
//:end
//:for u in 0..U
//:if STRIDED_OUT && W == 1
    result[to + ${u}u * s_out_${RANK-1}] = $STORE(y$u);
//:else
    result[to + ${u}u] = $STORE(y$u);
//:end
//:end
//:if RUN > 1
    c${RANK-1} += U;
//:for q in 0..RANK-1
    if (c${RANK-1-q} == d${RANK-1-q}) {
      c${RANK-1-q} = 0u;
      c${RANK-2-q}++;
    }
//:end
//:end
  }
}
