// Gathering rows (tokens) by index: y[b, i, :] = x[b, ids[b, i], :], and its adjoint.
//
// MODE 0  gather: one invocation per vector of W elements of y.
// MODE 1  scatter for indices that are unique within a batch: dx[b, ids[b, i], :] = dy[b, i, :]; rows that no index
//         names are zeroed before. No two invocations write one place, so it is deterministic.
// MODE 2  gather-add for indices that may repeat: one invocation per vector of dx scans the batch's indices in order.
//         Slow (length of the index list per element) but deterministic without atomics.
//
// An index beyond the last token gives a row of params.missing and passes no gradient.
//
// Constants: WG, W (4 when rows are multiples of 4), MODE, E (f32 or f16; sums are f32).

struct Params {
  count: u32, // invocations that do work
  rows_in: u32, // tokens of x per batch
  rows_out: u32, // tokens of y per batch
  width: u32, // vectors per token
  ids_stride: u32, // indices between batches
  offset_ids: u32,
  missing: f32, // NaN, which WGSL has no constant for
}

//:if W == 4
alias V = vec4<$E>;
alias Sum = vec4f;
//:else
alias V = $E;
alias Sum = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<V>;

//:include each

fn each(i: u32) {
  let column = i % params.width;
  let row = i / params.width;
//:if MODE == 2
  let batch = row / params.rows_in;
  let token = row % params.rows_in;
  let first = params.offset_ids + batch * params.ids_stride;
  var sum = Sum(0.0);
  for (var j = 0u; j < params.rows_out; j++) {
    if (ids[first + j] == token) {
      sum += Sum(source[(batch * params.rows_out + j) * params.width + column]);
    }
  }
  result[i] = V(sum);
//:else
  let batch = row / params.rows_out;
  let token = ids[params.offset_ids + batch * params.ids_stride + row % params.rows_out];
  if (token >= params.rows_in) {
//:if MODE == 0
    result[i] = V($E(params.missing));
//:end
    return;
  }
  let there = (batch * params.rows_in + token) * params.width + column;
//:if MODE == 0
  result[i] = source[there];
//:else
  result[there] = source[i];
//:end
//:end
}
