// Adding rows by index: result[v, :] (+)= sum of source[order[j], :] over the run of j with
// sorted[j] = v.
//
// The indices come sorted (sort_rows.wgsl), with the order that sorts them. One invocation per
// vector of the result finds its run by binary search and adds it in order of position: no atomics,
// the same bits every time, and a cost that does not grow with rows x indices. An index beyond the
// last row is in nobody's run.
//
// Constants: WG, W (4 when rows are multiples of 4), E (f32 or f16; sums are f32), ADD (add to the
// result instead of overwriting it).

struct Params {
  count: u32, // invocations that do work
  picks: u32, // number of indices
  width: u32, // vectors per row
  first: u32, // index of the first row bound
}

//:if W == 4
alias V = vec4<$E>;
alias Sum = vec4f;
//:else
alias V = $E;
alias Sum = f32;
//:end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read> sorted: array<u32>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<V>;

//:include entry_point

fn invocation(i: u32) {
  let row = params.first + i / params.width;
  let column = i % params.width;
  var low = 0u;
  var high = params.picks;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (sorted[middle] < row) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  var sum = Sum(0.0);
  for (var j = low; j < params.picks; j++) {
    if (sorted[j] != row) {
      break;
    }
    sum += Sum(source[order[j] * params.width + column]);
  }
//:if ADD
  result[i] = V(Sum(result[i]) + sum);
//:else
  result[i] = V(sum);
//:end
}
