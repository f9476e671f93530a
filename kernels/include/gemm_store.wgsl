  // The end of main in every matrix product: writes acc0_0 … (ROWS rows of VECS vec4, from `row`
  // and `column` on) to the matrix that lies c_start after the first element of C, dropping what
  // lies past the edge. STORE rows (a divisor of ROWS) are unrolled; where that is fewer than ROWS,
  // a loop writes them and moves the others up, which compiles faster (kernels/README.md,
  // Laboratory notebook, gemm). Groups of four rows lie DOWN rows apart, neighbouring vec4 of a row
  // ACROSS columns; both are 4 in a closed tile.
//:if BLOCKED
//:for r in 0..ROWS
//:for j in 0..VECS
  acc${r}_$j += sum${r}_$j;
//:end
//:end
//:end
//:if BIAS
//:for j in 0..VECS
  let bias_at$j = (params.offset_bias + min(column + ${j*ACROSS}u, (params.n - 1u) / 4u * 4u)) / VC;
  let bias$j = vec4f(
//:for i in 0..4/VC
    WideC(bias_data[bias_at$j + ${i}u]),
//:end
  );
//:end
//:end
//:if STORE < ROWS
  for (var done = 0u; done < min(${ROWS}u, params.m - row); done += ${STORE}u) {
    let top = row + done;
//:else
  let top = row;
//:end
//:for r in 0..STORE
  if (top + ${r/4*DOWN+r%4}u < params.m) {
//:for j in 0..VECS
    if (column + ${j*ACROSS}u < params.n) {
      // Items from the first of C, residual or slope on.
      let at = (c_start + (top + ${r/4*DOWN+r%4}u) * params.ldc + column + ${j*ACROSS}u) / VC;
      var v = acc${r}_${j} * params.alpha;
//:if PARTIAL
      v += vec4f(
//:for i in 0..4/VC
        partial_data[params.offset_partial / VC + at + ${i}u],
//:end
      );
//:end
//:if BIAS
      v += bias$j;
//:end
//:if RESIDUAL
      v += vec4f(
//:for i in 0..4/VC
        WideC(residual_data[params.offset_residual / VC + at + ${i}u]),
//:end
      );
//:end
//:if GELU
      // They share an exponential and a polynomial.
      let slope = gelu_grad_vec4(v);
      v = gelu_vec4(v);
//:end
//:if FACTOR
      v *= vec4f(
//:for i in 0..4/VC
        WideC(slope_data[params.offset_slope / VC + at + ${i}u]),
//:end
      );
//:end
//:if ACC
      v += vec4f(
//:for i in 0..4/VC
        WideC(c_data[params.offset_c / VC + at + ${i}u]),
//:end
      );
//:end
//:for i in 0..4/VC
      if (column + ${j*ACROSS+i*VC}u < params.n) {
//:if GELU
        slope_data[params.offset_slope / VC + at + ${i}u] = ItemC(
//:for e in i*VC..i*VC+VC
          $EC(slope[$e]),
//:end
        );
//:end
        c_data[params.offset_c / VC + at + ${i}u] = ItemC(
//:for e in i*VC..i*VC+VC
          $EC(v[$e]),
//:end
        );
      }
//:end
    }
//:end
  }
//:end
//:if STORE < ROWS
//:for r in 0..ROWS-STORE
//:for j in 0..VECS
    acc${r}_$j = acc${r+STORE}_$j;
//:end
//:end
  }
//:end
