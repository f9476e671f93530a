// One row of a ring: ring[place mod rows, :] = row[:], one invocation per element.
//
// The place is read from memory, so that a captured plan writes another row at every replay. It
// comes as a float, like all values that change from step to step: whole numbers up to 2^24.
//
// Constants: WG.

struct Params {
  count: u32, // elements of a row
  rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> row: array<f32>;
@group(0) @binding(2) var<storage, read> place: array<f32>;
@group(0) @binding(3) var<storage, read_write> ring: array<f32>;

//:include entry_point

fn invocation(i: u32) {
  ring[u32(place[0]) % params.rows * params.count + i] = row[i];
}
