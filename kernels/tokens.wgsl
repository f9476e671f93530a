// Gathering rows (tokens) by index: y[b, i, :] = x[b, ids[b, i], :], and its adjoint.
//
// MODE 0  gather: one invocation per vector of W elements of y.
// MODE 1  scatter for indices that are unique within a batch: dx[b, ids[b, i], :] = dy[b, i, :]; rows that no index
//         names are zeroed before. No two invocations write one place, so it is deterministic.
// MODE 2  gather-add for indices that may repeat: one invocation per vector of dx scans the batch's indices in order.
//         Slow (length of the index list per element) but deterministic without atomics.
//
// Constants: WG, W (4 when rows are multiples of 4), MODE.

struct Params {
  count: u32, // invocations that do work
  rows_in: u32, // tokens of x per batch
  rows_out: u32, // tokens of y per batch
  width: u32, // vectors per token
  ids_stride: u32, // indices between batches
  offset_ids: u32,
}

//:if W == 4
alias E = vec4f;
//:else
alias E = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<E>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<E>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * groups.x) * WG + lane;
  if (i >= params.count) {
    return;
  }
  let column = i % params.width;
  let row = i / params.width;
//:if MODE == 2
  let batch = row / params.rows_in;
  let token = row % params.rows_in;
  let first = params.offset_ids + batch * params.ids_stride;
  var sum = E(0.0);
  for (var j = 0u; j < params.rows_out; j++) {
    if (ids[first + j] == token) {
      sum += source[(batch * params.rows_out + j) * params.width + column];
    }
  }
  result[i] = sum;
//:else
  let batch = row / params.rows_out;
  let token = min(
    ids[params.offset_ids + batch * params.ids_stride + row % params.rows_out],
    params.rows_in - 1u,
  );
  let there = (batch * params.rows_in + token) * params.width + column;
//:if MODE == 0
  result[i] = source[there];
//:else
  result[there] = source[i];
//:end
//:end
}
