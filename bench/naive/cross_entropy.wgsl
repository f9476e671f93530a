// Plain cross entropy of a student against a centred teacher, with the gradient for dloss = 1: one
// thread per row.
//
//   p = softmax((teacher - centre) / Tt), q = softmax(student / Ts)
//   loss = -sum p log q, dstudent = (q - p) / Ts

struct Params {
  count: u32,
  width: u32,
  student_temperature: f32,
  teacher_temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> student: array<f32>;
@group(0) @binding(2) var<storage, read> teacher: array<f32>;
@group(0) @binding(3) var<storage, read> centre: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> probabilities: array<f32>;
@group(0) @binding(6) var<storage, read_write> dstudent: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  let first = i * params.width;
  let ts = params.student_temperature;
  let tt = params.teacher_temperature;
  var most = vec2f(student[first], teacher[first] - centre[0]);
  for (var c = 1u; c < params.width; c++) {
    most = max(most, vec2f(student[first + c], teacher[first + c] - centre[c]));
  }
  var sum = vec2f(0.0);
  for (var c = 0u; c < params.width; c++) {
    sum += exp((vec2f(student[first + c], teacher[first + c] - centre[c]) - most) / vec2f(ts, tt));
  }
  var total = 0.0;
  for (var c = 0u; c < params.width; c++) {
    let z = (student[first + c] - most.x) / ts;
    let p = exp((teacher[first + c] - centre[c] - most.y) / tt) / sum.y;
    probabilities[first + c] = p;
    dstudent[first + c] = (exp(z) / sum.x - p) / ts;
    total -= p * (z - log(sum.x));
  }
  loss[i] = total;
}
