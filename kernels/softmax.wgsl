// Softmax and log-softmax of rows of x / temperature, maximum subtracted, and their gradients from
// the output.
//
// The maximum is subtracted before dividing, so that the argument of exp is exact to its own
// rounding however large the logits are. softmax: dx = y (dy - sum(dy y)) / T; log-softmax: dx =
// (dy - exp(y) sum(dy)) / T.
//
// In a saturated row dy - sum(dy y) of the leading element is all rounding. The sum of y is 1, so
// dy may be shifted by any constant: by dy of the leading element, whose own term then vanishes and
// the rest keeps its digits (the row's gradient is right to 1e-6 where it was off by more than its
// size).
//
// Constants: those of include/rows.wgsl; BACKWARD, LOG, TENSOR (the temperature is the last binding
// instead of a parameter), ET (what it is stored as).

//:include rows

struct Params {
  rows: u32,
  temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
//:if BACKWARD
@group(0) @binding(1) var<storage, read> y: array<S>;
@group(0) @binding(2) var<storage, read> dy: array<S>;
@group(0) @binding(3) var<storage, read_write> dx: array<S>;
//:else
@group(0) @binding(1) var<storage, read> x: array<S>;
@group(0) @binding(2) var<storage, read_write> y: array<S>;
//:end
//:if TENSOR
@group(0) @binding(${3+BACKWARD}) var<storage, read> temperatures: array<$ET>;
//:end

fn load(at: u32) -> T {
//:if BACKWARD
  return wide(y[at]);
//:else
  return wide(x[at]);
//:end
}

//:if BACKWARD
// What the row sum adds up.
fn term(y: T, dy: T, shift: f32) -> T {
//:if LOG
  return dy;
//:else
  return y * (dy - shift);
//:end
}

fn gradient(y: T, dy: T, shift: f32, total: f32, scale: f32) -> T {
//:if LOG
  return (dy - exp_negative(y) * total) * scale;
//:else
  return y * ((dy - shift) - total) * scale;
//:end
}
//:end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let unclamped = (group.x + group.y * grid.x) * (WG / LANES) + local / LANES;
  let live = unclamped < params.rows;
  let row = min(unclamped, params.rows - 1u);
  let lane = local % LANES;
  let base = row * UNITS;
//:if TENSOR
  let scale = 1.0 / f32(temperatures[0]);
//:else
  let scale = 1.0 / params.temperature;
//:end
//:if BACKWARD
//:if KEEP
//:for u in 0..PER
  let y$u = load(base + lane + ${u*LANES}u);
  let g$u = wide(dy[base + lane + ${u*LANES}u]);
//:end
//:end
  var shift = 0.0;
//:if !LOG
  var top = T(0.0);
//:if KEEP
//:for u in 0..PER
  top = larger(top, y$u);
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    top = larger(top, load(base + k));
  }
//:end
  let leader = T(row_max1(vec4f(lane_max(top)), local).x);
  var lead = T(-3.0e38);
//:if KEEP
//:for u in 0..PER
  lead = larger(lead, select(T(-3.0e38), g$u, y$u == leader));
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    lead = larger(lead, select(T(-3.0e38), wide(dy[base + k]), load(base + k) == leader));
  }
//:end
  shift = row_max1(vec4f(lane_max(lead)), local).x;
//:end
  var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
  sum += term(y$u, g$u, shift);
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    sum += term(load(base + k), wide(dy[base + k]), shift);
  }
//:end
  let total = row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x;
  if (!live) {
    return;
  }
//:if KEEP
//:for u in 0..PER
  dx[base + lane + ${u*LANES}u] = narrow(gradient(y$u, g$u, shift, total, scale));
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    dx[base + k] = narrow(gradient(load(base + k), wide(dy[base + k]), shift, total, scale));
  }
//:end
//:else
  // Lanes beyond a short row start from its first element, which changes no maximum.
  var top = load(base + min(lane, UNITS - 1u));
//:if KEEP
//:for u in 0..PER
  let x$u = load(base + lane + ${u*LANES}u);
  top = larger(top, x$u);
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    top = larger(top, load(base + k));
  }
//:end
  let most = row_max1(vec4f(lane_max(top)), local).x;
  var sum = T(0.0);
//:if KEEP
//:for u in 0..PER
  let a$u = (x$u - most) * scale;
  let e$u = exp_negative(a$u);
  sum += e$u;
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    sum += exp_negative((load(base + k) - most) * scale);
  }
//:end
  let total = row_sum1(vec4f(lane_sum(sum), 0.0, 0.0, 0.0), local).x;
//:if LOG
  let log_total = log_f32(total);
//:else
  let share = 1.0 / total;
//:end
  if (!live) {
    return;
  }
//:if KEEP
//:for u in 0..PER
//:if LOG
  y[base + lane + ${u*LANES}u] = narrow(a$u - log_total);
//:else
  y[base + lane + ${u*LANES}u] = narrow(e$u * share);
//:end
//:end
//:else
  for (var k = lane; k < UNITS; k += LANES) {
    let a = (load(base + k) - most) * scale;
//:if LOG
    y[base + k] = narrow(a - log_total);
//:else
    y[base + k] = narrow(exp_negative(a) * share);
//:end
  }
//:end
//:end
}
