// The entry point of kernels whose invocations are independent: invocation(i) for i below
// params.count. A dispatch folded into two dimensions (more workgroups than the adapter allows
// along one) counts on along y.
//
// Constants: WG. Expects fn invocation(i: u32).

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.x + group.y * groups.x) * WG + lane;
  if (i < params.count) {
    invocation(i);
  }
}
