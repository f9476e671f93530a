// Gradients of gamma and beta of a layer normalisation, summed over blocks of rows: dgamma[b, k] =
// sum of dy * xhat, dbeta[b, k] = sum of dy over the rows of block b. reduce.wgsl adds the blocks.
//
// One invocation makes W neighbouring columns of one block; no atomics, so the order of additions
// is fixed.
//
// For rows that layernorm.wgsl cannot keep in registers, or too few for it to sum them up.
//
// Constants: WG, W, E (what x and dy are stored as), UNITS (width / W), CENTRE (else there is no
// beta).

//:if W == 4
alias T = vec4f;
alias S = vec4<$E>;
//:else
alias T = f32;
alias S = $E;
//:end

struct Params {
  count: u32, // blocks * UNITS
  rows: u32,
  block: u32, // rows per block
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<S>;
@group(0) @binding(2) var<storage, read> dy: array<S>;
@group(0) @binding(3) var<storage, read> stats: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dgamma: array<T>;
//:if CENTRE
@group(0) @binding(5) var<storage, read_write> dbeta: array<T>;
//:end

//:include entry_point

fn invocation(i: u32) {
  let k = i % UNITS;
  let first = i / UNITS * params.block;
  let end = min(params.rows, first + params.block);
  var sum_g = T(0.0);
  var sum_b = T(0.0);
  var row = first;
  for (; row + 3u < end; row += 4u) {
//:for u in 0..4
    let g$u = T(dy[(row + ${u}u) * UNITS + k]);
    let s$u = stats[row + ${u}u];
    sum_b += g$u;
    sum_g += g$u * (((T(x[(row + ${u}u) * UNITS + k]) - s$u.x) - s$u.y) * s$u.z);
//:end
  }
  for (; row < end; row++) {
    let g = T(dy[row * UNITS + k]);
    let s = stats[row];
    sum_b += g;
    sum_g += g * (((T(x[row * UNITS + k]) - s.x) - s.y) * s.z);
  }
  dgamma[i] = sum_g;
//:if CENTRE
  dbeta[i] = sum_b;
//:end
}
