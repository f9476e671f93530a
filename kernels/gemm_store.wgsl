  // The end of main in every matrix product: writes acc0_0 … (ROWS rows of VECS vec4, from `row` and `column` on)
  // to the matrix at c_base, dropping what lies past the edge. STORE rows (a divisor of ROWS) are unrolled; where that
  // is fewer than ROWS, a loop writes them and moves the others up: on lavapipe a load or a store takes as long to
  // compile as a dozen multiply-adds of vec4. ROWS 64, STORE 8 compiles in half the time of STORE 64 (with GELU in a
  // sixth) and runs as fast.
  // Groups of four rows lie DOWN rows apart, neighbouring vec4 of a row ACROSS columns; both are 4 in a closed tile.
//:if BIAS
//:for j in 0..VECS
//:if VEC
  let bias$j = vec4f(bias_data[(params.offset_bias + min(column + ${j*ACROSS}u, params.n - 4u)) / 4u]);
//:else
  let bias$j = vec4f(
//:for c in 0..4
    f32(bias_data[params.offset_bias + min(column + ${j*ACROSS+c}u, params.n - 1u)]),
//:end
  );
//:end
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
//:if VEC
    if (column + ${j*ACROSS}u < params.n) {
      let at = (c_base + (top + ${r/4*DOWN+r%4}u) * params.ldc + column + ${j*ACROSS}u) / 4u;
      var v = acc${r}_${j} * params.alpha;
//:if BIAS
      v += bias$j;
//:end
//:if RESIDUAL
      v += vec4f(residual_data[at - params.offset_c / 4u + params.offset_residual / 4u]);
//:end
//:if GELU
      pre_data[at - params.offset_c / 4u + params.offset_pre / 4u] = vec4<$E>(v);
      v = gelu_vec4(v);
//:end
//:if ACC
      v += vec4f(c_data[at]);
//:end
      c_data[at] = vec4<$E>(v);
    }
//:else
//:for c in 0..4
    if (column + ${j*ACROSS+c}u < params.n) {
      let at = c_base + (top + ${r/4*DOWN+r%4}u) * params.ldc + column + ${j*ACROSS+c}u;
      var v = acc${r}_${j}[$c] * params.alpha;
//:if BIAS
      v += bias$j[$c];
//:end
//:if RESIDUAL
      v += f32(residual_data[at - params.offset_c + params.offset_residual]);
//:end
//:if GELU
      pre_data[at - params.offset_c + params.offset_pre] = $E(v);
      v = gelu_f32(v);
//:end
//:if ACC
      v += f32(c_data[at]);
//:end
      c_data[at] = $E(v);
    }
//:end
//:end
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
