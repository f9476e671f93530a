// Padding one axis with values of the tensor itself, x as [outer, size, inner], and its adjoint.
//
//   y[o, j, i] = x[o, source(j), i] for j = 0 .. before + size + after - 1, with p = j - before and
//   MODE 0  reflect: source = |p| from the front, mirrored at size - 1 behind (margins below size,
//           each end not repeated)
//   MODE 1  replicate: source = clamp(p, 0, size - 1)
//   MODE 2  circular: source = p mod size (margins up to size)
//
// Forward takes an invocation per element of y. ADJOINT takes one per element of dx and adds, in
// this order, the place itself, then those of the margin before and of the margin behind that read
// it: one per margin at most. No atomics, the same bits every time. MODE 1, where an end gets a
// whole margin, has no ADJOINT here: reduce.wgsl sums margins.
//
// Constants: WG, E (element type; sums are f32), MODE, ADJOINT.

struct Params {
  count: u32, // invocations that do work
  size: u32,
  before: u32,
  total: u32, // before + size + after
  inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$E>;
@group(0) @binding(2) var<storage, read_write> result: array<$E>;

//:include entry_point

fn invocation(at: u32) {
  let i = at % params.inner;
  let last = params.size - 1u;
//:if ADJOINT
  let k = at / params.inner % params.size;
  let base = at / params.inner / params.size * params.total * params.inner + i;
  var sum = f32(source[base + (params.before + k) * params.inner]);
//:if MODE == 0
  let front = params.before - k;
  let in_front = k > 0u && k <= params.before;
  let back = params.before + 2u * last - k;
  let behind = k < last && back < params.total;
//:else
  let front = params.before + k - params.size;
  let in_front = params.before + k >= params.size;
  let back = params.before + k + params.size;
  let behind = back < params.total;
//:end
  if (in_front) {
    sum += f32(source[base + front * params.inner]);
  }
  if (behind) {
    sum += f32(source[base + back * params.inner]);
  }
  result[at] = $E(sum);
//:else
  let j = at / params.inner % params.total;
  let base = at / params.inner / params.total * params.size * params.inner + i;
//:if MODE == 0
  let p = select(j - params.before, params.before - j, j < params.before);
  let at_source = select(p, 2u * last - p, p > last);
//:end
//:if MODE == 1
  let at_source = min(max(j, params.before) - params.before, last);
//:end
//:if MODE == 2
  let at_source = (j + params.size - params.before) % params.size;
//:end
  result[at] = source[base + at_source * params.inner];
//:end
}
