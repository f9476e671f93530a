// Gathering rows (tokens) by index: y[b, i, :] = x[b, ids[b, i], :]. With indices that do not
// repeat it is its own adjoint through the inverse indices (tokens_inverse.wgsl): each row of dx is
// written once, with the row of dy that went there or with zeros.
//
// An index beyond the last token gives a row of params.missing.
//
// An invocation walks RUN vectors of the result in sequence, U at a time, as in elementwise.wgsl,
// so that the divisions and the index are paid once per row (kernels/README.md, Laboratory
// notebook, tokens).
//
// Constants: WG, W (4 when rows are multiples of 4), E, HALF (E is f16 and W is 4: two words), RUN,
// U (divides RUN and the vectors of a row).

//:include half

struct Params {
  count: u32, // vectors of the result
  rows_in: u32, // tokens of the source per batch
  rows_out: u32, // tokens of the result per batch
  width: u32, // vectors per token
  ids_stride: u32, // indices between batches
  offset_ids: u32,
  missing: f32, // 0 or NaN, which WGSL has no constant for
}

//:if HALF
alias V = vec2u;
//:else
//:if W == 4
alias V = vec4<$E>;
//:else
alias V = $E;
//:end
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<V>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = ((group.x + group.y * groups.x) * WG + lane) * RUN;
  if (first >= params.count) {
    return;
  }
  let width = params.width;
  let rows_in = params.rows_in;
  let rows_out = params.rows_out;
  let ids_stride = params.ids_stride;
  let offset_ids = params.offset_ids;
  let row = first / width;
  var column = first % width;
  var batch = row / rows_out;
  var token = row % rows_out;
//:if HALF
  let missing = half_bits(vec4f(params.missing));
//:else
  let missing = V($E(params.missing));
//:end
  var id = ids[offset_ids + batch * ids_stride + token];
  let end = min(first + RUN, params.count);
  for (var i = first; i < end; i += U) {
    if (column == width) {
      column = 0u;
      token++;
      if (token == rows_out) {
        token = 0u;
        batch++;
      }
      id = ids[offset_ids + batch * ids_stride + token];
    }
    let at = (batch * rows_in + min(id, rows_in - 1u)) * width + column;
//:for u in 0..U
    let v$u = select(missing, source[at + ${u}u], id < rows_in);
//:end
//:for u in 0..U
    result[i + ${u}u] = v$u;
//:end
    column += U;
  }
}
