// An axis times a banded matrix, as average pooling and interpolation are: y[o, j, i] = sum over t
// of weights[j, t] x[o, first[j] + t, i]; or (BACKWARD) its adjoint, y[o, j, i] = sum over the rows
// k from low[j] to low[j] + count[j] - 1 of weights[k, j - first[k]] x[o, k, i]. One invocation per
// element of the result.
//
// `bands` holds first[j] for each row of the matrix, and low[j] and count[j] side by side for each
// column. Weights of 0 are skipped: what lies under them may be infinite.
//
// Constants: WG; E the element in memory, f32 or f16; BACKWARD.

struct Params {
  count: u32, // elements of the result
  size_x: u32, // length of the axis
  size_y: u32,
  rows: u32, // of the matrix
  taps: u32,
  most: u32, // rows of a column
  inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<$E>;
@group(0) @binding(2) var<storage, read_write> y: array<$E>;
@group(0) @binding(3) var<storage, read> bands: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;

//:include entry_point

fn invocation(at: u32) {
  let inner = params.inner;
  let j = at / inner % params.size_y;
  let outer = at / inner / params.size_y;
  let base = outer * params.size_x * inner + at % inner;
  var sum = 0.0;
//:if BACKWARD
  let low = bands[params.rows + 2u * j];
  let end = low + min(bands[params.rows + 2u * j + 1u], params.most);
  for (var k = low; k < end; k++) {
    let t = j - bands[k];
    // Columns before or behind the band of the row.
    if (t < params.taps) {
      let weight = weights[k * params.taps + t];
      if (weight != 0.0) {
        sum += weight * f32(x[base + k * inner]);
      }
    }
  }
//:else
  let first = bands[j];
  for (var t = 0u; t < params.taps; t++) {
    let weight = weights[j * params.taps + t];
    if (weight != 0.0) {
      sum += weight * f32(x[base + (first + t) * inner]);
    }
  }
//:end
  y[at] = $E(sum);
}
