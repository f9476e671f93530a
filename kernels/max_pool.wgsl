// Maxima of windows along an axis [outer, size, inner], and where they lie: window j takes the
// `window` elements begin + t dilation, begin = j stride - before, that are within the axis; with
// ADAPTIVE those from floor(j size / windows) to ceil((j + 1) size / windows). The first of equal
// maxima counts, and the first NaN before all.
//
// BACKWARD: the adjoint, for gradients `x` of the windows: each element gets those of the windows
// whose maximum it is. One invocation per element of the result.
//
// Constants: WG; E the element in memory, f32 or f16; ADAPTIVE; BACKWARD.

struct Params {
  count: u32, // elements of the result
  size: u32,
  windows: u32,
  window: u32,
  stride: u32,
  before: u32,
  dilation: u32,
  inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<$E>;
@group(0) @binding(2) var<storage, read_write> y: array<$E>;
//:if BACKWARD
@group(0) @binding(3) var<storage, read> places: array<u32>;
//:else
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
//:end

//:include math
//:include entry_point

fn invocation(at: u32) {
  let inner = params.inner;
  let size = params.size;
  let windows = params.windows;
//:if BACKWARD
  let i = at / inner % size;
  let base = at / inner / size * windows * inner + at % inner;
//:if ADAPTIVE
  let low = i * windows / size;
  let end = ((i + 1u) * windows + size - 1u) / size;
//:else
  // The windows that begin at most their extent before the element and not behind it.
  let reach = params.dilation * (params.window - 1u);
  let padded = i + params.before;
  let low = (max(padded, reach) - reach + params.stride - 1u) / params.stride;
  let end = min(padded / params.stride + 1u, windows);
//:end
  var sum = 0.0;
  for (var j = low; j < end; j++) {
    if (places[base + j * inner] == i) {
      sum += f32(x[base + j * inner]);
    }
  }
  y[at] = $E(sum);
//:else
  let j = at / inner % windows;
  let base = at / inner / windows * size * inner + at % inner;
//:if ADAPTIVE
  let begin = j * size / windows;
  let end = ((j + 1u) * size + windows - 1u) / windows;
  let step = 1u;
//:else
  let step = params.dilation;
  let start = j * params.stride;
  // What lies before the axis is left out.
  let hidden = (max(start, params.before) - start + params.dilation - 1u) / params.dilation;
  let begin = start + hidden * step - params.before;
  let end = min(begin + (params.window - hidden) * step, size);
//:end
  var top = f32(x[base + begin * inner]);
  var place = begin;
  for (var k = begin + step; k < end; k += step) {
    let value = f32(x[base + k * inner]);
    if (!is_nan_f32(top) && (value > top || is_nan_f32(value))) {
      top = value;
      place = k;
    }
  }
  y[at] = $E(top);
  places[at] = place;
//:end
}
