// One row of a ring: ring[place mod rows, :] = row[:], one invocation per element.
//
// The place is read from memory, so that a captured plan writes another row at every replay. It
// comes as a float, like all values that change from step to step: whole numbers up to 2^24.
//
// Constants: WG.

struct Params {
  width: u32,
  rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> row: array<f32>;
@group(0) @binding(2) var<storage, read> place: array<f32>;
@group(0) @binding(3) var<storage, read_write> ring: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.width) {
    ring[u32(place[0]) % params.rows * params.width + id.x] = row[id.x];
  }
}
