  // The head of the loop over K in every matrix product with BLOCKED: opens a loop over blocks of
  // 128 steps, from `start` on, which the kernel walks through and closes. What the blocks before
  // came to lies in sum0_0 …; gemm_store adds the last one. Sums of sums round less: 1e-6 where
  // one long sum of equal terms is off by 1e-3 (kernels/README.md, Sums of products).
//:for r in 0..ROWS
//:for j in 0..VECS
  var sum${r}_$j = vec4f(0.0);
//:end
//:end
  for (var start = 0u; start < params.k; start += 128u) {
//:for r in 0..ROWS
//:for j in 0..VECS
    sum${r}_$j += acc${r}_$j;
    acc${r}_$j = vec4f(0.0);
//:end
//:end
