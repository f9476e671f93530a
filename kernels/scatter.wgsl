// Folding rows by index, in each batch: result[b, v, :] is made of source[b, order[b, j], :] over
// the run of j with sorted[b, j] = v.
//
// The indices come sorted (sort_rows.wgsl), with the order that sorts them; a long list comes in
// parts, one dispatch each. One invocation per vector of the result finds its run by binary search
// and folds it in order of position: no atomics, the same bits every time, and a cost that does not
// grow with rows x indices. An index beyond the last row is in nobody's run.
//
// FOLD 0  the sum, 0 where the run is empty
// FOLD 1  the last one; what the result holds where the run is empty
// FOLD 2  the largest of the run and what the result holds, NaN where one is; W is 1
//
// Constants: WG, W (4 when rows are multiples of 4), E (element type), S (what is computed with:
// f32 for f16; FLOAT tells which), EO (what the result is stored as), FOLD, ADD (add sums to what
// the result holds instead of overwriting it).

struct Params {
  count: u32, // invocations that do work
  picks: u32, // indices per batch that are bound
  stride: u32, // vectors of the source per batch
  width: u32, // vectors per row
  first: u32, // index of the first row bound
  rows: u32, // rows bound per batch
  offset_source: u32, // vectors before the source within its window
  offset_sorted: u32, // indices before these within their windows
  offset_result: u32, // vectors before the result within its window
}

//:if W == 4
alias V = vec4<$E>;
alias Out = vec4<$EO>;
alias Sum = vec4<$S>;
//:else
alias V = $E;
alias Out = $EO;
alias Sum = $S;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read> sorted: array<u32>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<Out>;

//:if FOLD == 2
//:if FLOAT
//:include math
//:end
fn larger(x: Sum, y: Sum) -> Sum {
//:if FLOAT
  return select(select(max(x, y), y, is_nan_f32(y)), x, is_nan_f32(x));
//:else
  return max(x, y);
//:end
}
//:end

//:include entry_point

fn invocation(i: u32) {
  let row = params.first + i / params.width % params.rows;
  let column = i % params.width;
  let batch = i / params.width / params.rows;
  let begin = params.offset_sorted + batch * params.picks;
  let end = begin + params.picks;
  let base = params.offset_source + batch * params.stride + column;
  var low = begin;
  var high = end;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (sorted[middle] < row) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  let at = params.offset_result + i;
//:if FOLD == 0
  var folded = Sum(0);
//:else
  var folded = Sum(result[at]);
//:end
  for (var j = low; j < end; j++) {
    if (sorted[j] != row) {
      break;
    }
    let value = Sum(source[base + order[j] * params.width]);
//:if FOLD == 0
    folded += value;
//:end
//:if FOLD == 1
    folded = value;
//:end
//:if FOLD == 2
    folded = larger(folded, value);
//:end
  }
//:if ADD
  folded = Sum(result[at]) + folded;
//:end
  result[at] = Out(folded);
}
