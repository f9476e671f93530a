// The reverse of ring_buffer_store.wgsl: row[:] = ring[places[index] mod rows, :], one invocation
// per element. The place is read from memory: which row a replay takes is known on the device
// alone.
//
// Constants: WG.

struct Params {
  count: u32, // elements of a row
  rows: u32,
  index: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ring: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<f32>;
@group(0) @binding(3) var<storage, read_write> row: array<f32>;

//:include entry_point

fn invocation(i: u32) {
  row[i] = ring[u32(places[params.index]) % params.rows * params.count + i];
}
