// Plain elementwise map: one thread per element, one float at a time.
//
// Constants: INPUTS arrays x0, x1, … of T; EXPR of type TY in terms of x0[i], … and of the old
// y[i].

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
//:for n in 0..INPUTS
@group(0) @binding(${n+1}) var<storage, read> x$n: array<$T>;
//:end
@group(0) @binding(${INPUTS+1}) var<storage, read_write> y: array<$TY>;
//:include math

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let i = id.x + id.y * grid.x * 64u;
  if i >= params.count {
    return;
  }
  y[i] = $EXPR;
}
