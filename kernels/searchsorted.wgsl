// Places of values in sorted rows: how many elements of a row are less than a value or, with RIGHT,
// not greater; by halving. One invocation per value.
//
// Constants: WG, E (element type; FLOAT and SIGNED tell which), RIGHT.

struct Params {
  count: u32, // values
  width: u32, // elements per sorted row
  each: u32, // values per row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sorted: array<$E>;
@group(0) @binding(2) var<storage, read> values: array<$E>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;

//:include order
//:include entry_point

fn invocation(i: u32) {
  let base = i / params.each * params.width;
  let key = order_key(values[i]);
  var low = 0u;
  var high = params.width;
  while (low < high) {
    let middle = (low + high) / 2u;
    let other = order_key(sorted[base + middle]);
//:if RIGHT
    let before = other <= key;
//:else
    let before = other < key;
//:end
    low = select(low, middle + 1u, before);
    high = select(middle, high, before);
  }
  places[i] = low;
}
