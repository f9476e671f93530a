// Cross entropy between a centred, sharpened teacher and a student, row by row (Caron et al., DINO,
// arXiv:2104.14294): p = softmax((teacher - centre) / Tt), loss = -sum p log softmax(student / Ts).
//
// Forward reads both rows once and writes p; two rounds through shared memory (the two maxima; then
// the two sums of exponentials and sum of e (top - student) / Ts, from which the loss follows). It
// saves (top, sum) of the student per row instead of its softmax: exp((s - top) / Ts) / sum is
// exact to its own rounding, while exp(s - lse) would lose |lse| ulp. Backward is elementwise: ds =
// dloss (q - p) / Ts.
//
// Constants: those of include/rows.wgsl; BACKWARD.

//:include rows

struct Params {
  rows: u32,
  student_temperature: f32,
  repeat: u32, // rows per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> student: array<T>;
//:if BACKWARD
@group(0) @binding(2) var<storage, read> probabilities: array<T>;
@group(0) @binding(3) var<storage, read> stats: array<vec2f>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dstudent: array<T>;
//:else
@group(0) @binding(2) var<storage, read> teacher: array<T>;
@group(0) @binding(3) var<storage, read> centre: array<T>;
@group(0) @binding(4) var<storage, read> temperatures: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> probabilities: array<T>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2f>;
//:end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let team = (group.x + group.y * grid.x) * (WG / LANES) + local / LANES;
  let lane = local % LANES;
  let student_scale = 1.0 / params.student_temperature;
//:if !BACKWARD
  let teacher_scale = 1.0 / temperatures[0];
//:if KEEP
//:for u in 0..PER
  let centre$u = centre[lane + ${u*LANES}u];
//:end
//:end
//:end
  for (var i = 0u; i < params.repeat; i++) {
    // Rows past the end repeat the last one and store nothing: all invocations reach the barriers.
    let unclamped = team * params.repeat + i;
    let live = unclamped < params.rows;
    let row = min(unclamped, params.rows - 1u);
    let base = row * UNITS;
//:if BACKWARD
    if (live) {
      let s = stats[row];
      let scale = dloss[row] * student_scale;
      let share = 1.0 / s.y;
//:if KEEP
//:for u in 0..PER
      dstudent[base + lane + ${u*LANES}u] = scale *
        (exp_negative((student[base + lane + ${u*LANES}u] - s.x) * student_scale) * share -
          probabilities[base + lane + ${u*LANES}u]);
//:end
//:else
      for (var k = lane; k < UNITS; k += LANES) {
        dstudent[base + k] = scale *
          (exp_negative((student[base + k] - s.x) * student_scale) * share -
            probabilities[base + k]);
      }
//:end
    }
//:else
    // Lanes beyond a short row start from its first element, which changes no maximum.
    let first = min(lane, UNITS - 1u);
    var top_s = student[base + first];
    var top_t = teacher[base + first] - centre[first];
//:if KEEP
//:for u in 0..PER
    let s$u = student[base + lane + ${u*LANES}u];
    let t$u = teacher[base + lane + ${u*LANES}u] - centre$u;
    top_s = max(top_s, s$u);
    top_t = max(top_t, t$u);
//:end
//:else
    for (var k = lane; k < UNITS; k += LANES) {
      top_s = max(top_s, student[base + k]);
      top_t = max(top_t, teacher[base + k] - centre[k]);
    }
//:end
    let top = row_max2(vec4f(lane_max(top_s), lane_max(top_t), 0.0, 0.0), local);
    var sum_s = T(0.0);
    var sum_t = T(0.0);
    var sum_ts = T(0.0);
//:if KEEP
//:for u in 0..PER
    let b$u = (s$u - top.x) * student_scale;
    let e$u = exp_negative((t$u - top.y) * teacher_scale);
    sum_s += exp_negative(b$u);
    sum_t += e$u;
    sum_ts += e$u * b$u;
//:end
//:else
    for (var k = lane; k < UNITS; k += LANES) {
      let b = (student[base + k] - top.x) * student_scale;
      let e = exp_negative((teacher[base + k] - centre[k] - top.y) * teacher_scale);
      sum_s += exp_negative(b);
      sum_t += e;
      sum_ts += e * b;
    }
//:end
    let sums = row_sum3(vec4f(lane_sum(sum_s), lane_sum(sum_t), lane_sum(sum_ts), 0.0), local);
    if (live) {
      let share = 1.0 / sums.y;
      if (lane == 0u) {
        loss[row] = log_f32(sums.x) - sums.z / sums.y;
        stats[row] = vec2f(top.x, sums.x);
      }
//:if KEEP
//:for u in 0..PER
      probabilities[base + lane + ${u*LANES}u] = e$u * share;
//:end
//:else
      for (var k = lane; k < UNITS; k += LANES) {
        probabilities[base + k] =
          exp_negative((teacher[base + k] - centre[k] - top.y) * teacher_scale) * share;
      }
//:end
    }
//:end
  }
}
