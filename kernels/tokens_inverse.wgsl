// Inverse of indices: inverse[b, ids[b, i]] = i, and 0xffffffff for tokens that no index names.
// Indices beyond the last token name none; of those that repeat one remains.
//
// One workgroup per batch, so that a barrier between the two loops orders them.
//
// Constants: WG.

struct Params {
  batches: u32,
  picks: u32, // indices per batch
  tokens: u32,
  ids_stride: u32, // indices between batches
  offset_ids: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> inverse: array<u32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let batch = group.x + group.y * groups.x;
  let live = batch < params.batches;
  let row = batch * params.tokens;
  for (var t = lane; live && t < params.tokens; t += WG) {
    inverse[row + t] = 0xffffffffu;
  }
  storageBarrier();
  for (var i = lane; live && i < params.picks; i += WG) {
    let token = ids[params.offset_ids + batch * params.ids_stride + i];
    if (token < params.tokens) {
      inverse[row + token] = i;
    }
  }
}
