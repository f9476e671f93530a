// Reading by index, and what goes with it. One invocation per (vector of W) elements of the result.
//
// MODE 0  one-hot: y[i, c] = 1 where ids[i] = c, else 0.
// MODE 1  pick along rows: y[r, j] = x[r, ids[r, j]].
// MODE 2  rows of a table: y[i, :] = table[ids[i], :].
//
// Rows of y (0), rows of x (1) or the table (2) may come in pieces: only what params.first ..
// params.first + params.size names is written.
//
// An index beyond the end gives params.missing (NaN; integers 0) in modes 1 and 2 (2: with the
// first piece); in mode 0 it is nowhere. It is a parameter because WGSL has no constant for NaN.
//
// Constants: WG, W (4 only in mode 2), MODE, E (element type of what is read).

struct Params {
  count: u32, // invocations that do work
  size: u32, // classes, elements per row of x, or rows of the table, in the piece
  picks: u32, // indices per row
  width: u32, // vectors per row of the table
  first: u32, // where the piece begins
  rows: u32, // elements per row of x, or rows of the table, in all
  missing: f32,
  // Elements before the first one of each operand.
  offset_ids: u32,
  offset_result: u32,
  offset_source: u32,
}

//:if W == 4
alias V = vec4<$E>;
//:else
alias V = $E;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;
//:if MODE > 0
@group(0) @binding(3) var<storage, read> source: array<V>;
//:end

//:include entry_point

fn invocation(i: u32) {
//:if MODE == 0
  let id = ids[params.offset_ids + i / params.size];
  result[params.offset_result + i] = select(V(0.0), V(1.0), id == params.first + i % params.size);
//:end
//:if MODE == 1
  let id = ids[params.offset_ids + i];
  let to = params.offset_result + i;
  if (id >= params.first && id - params.first < params.size) {
    let at = i / params.picks * params.size + (id - params.first);
    result[to] = source[params.offset_source + at];
  } else if (params.first == 0u && id >= params.rows) {
    result[to] = V($E(params.missing));
  }
//:end
//:if MODE == 2
  let id = ids[i / params.width];
  if (id >= params.first && id - params.first < params.size) {
    result[i] = source[(id - params.first) * params.width + i % params.width];
  } else if (params.first == 0u && id >= params.rows) {
    result[i] = V($E(params.missing));
  }
//:end
}
