// Inverse of indices: inverse[b, ids[b, i]] = i; the launcher has filled it with a number that is
// no index. Indices beyond the last token name none; of those that repeat one remains.
//
// Constants: WG.

struct Params {
  count: u32, // indices of all batches
  picks: u32, // indices per batch
  tokens: u32,
  ids_stride: u32, // indices between batches
  offset_ids: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> inverse: array<u32>;

//:include entry_point

fn invocation(at: u32) {
  let batch = at / params.picks;
  let i = at % params.picks;
  let token = ids[params.offset_ids + batch * params.ids_stride + i];
  if (token < params.tokens) {
    inverse[batch * params.tokens + token] = i;
  }
}
