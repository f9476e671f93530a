/**
 * Ops against PyTorch (tests/golden/vit_ops): values and gradients of the float64 run, rounded to float32.
 *
 * Tolerances are 8 times what PyTorch's own float32 run differs from its float64 run (golden/README.md): relative to
 * the largest element 1.8e-6, relative L2 1.6e-6; LayerNorm with a row at an offset of 1000 2.7e-5 and 2.1e-5. Rows
 * that span many orders of magnitude are compared row by row.
 */
import { assert } from "@std/assert";
import { type Device, openDevice } from "../../engine/device.ts";
import { gelu } from "../../engine/ops/elementwise.ts";
import { layerNorm } from "../../engine/ops/layernorm.ts";
import { centredCrossEntropy, cosineLoss, l2Normalize } from "../../engine/ops/loss.ts";
import { logSoftmax, softmax } from "../../engine/ops/softmax.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { readSafetensors } from "../../model/formats/safetensors.ts";

const golden = new URL("../golden/", import.meta.url);
const { tensors } = readSafetensors(Deno.readFileSync(new URL("vit_ops.safetensors", golden)));
const { cases } = JSON.parse(Deno.readTextFileSync(new URL("vit_ops.json", golden)));

const FACTOR = 8;
const PLAIN = { max: 1.8e-6, l2: 1.6e-6 };
const OFFSET_ROWS = { max: 2.7e-5, l2: 2.1e-5 };

interface Case {
  /** Name in the golden file. */
  readonly name: string;
  /** Inputs with gradients, as named in the file. */
  readonly inputs: readonly string[];
  /** The op; further outputs by their names. */
  readonly run: (inputs: Tensor[], device: Device) => { y: Tensor; [also: string]: Tensor };
  readonly tolerance?: typeof PLAIN;
  /** Results of which each row is compared by itself. */
  readonly byRow?: readonly string[];
}

function stored(name: string): { data: Float32Array; shape: readonly number[] } {
  const found = tensors.get(name);
  if (!found) throw new Error(`vit_ops.safetensors has no ${name}`);
  return { data: found.data as Float32Array, shape: found.shape };
}

const norm: Case["run"] = ([x, weight, bias]) => ({
  y: layerNorm(x, weight, bias, cases.layernorm0.eps),
});

const CASES: readonly Case[] = [
  {
    name: "layernorm0",
    inputs: ["x", "weight", "bias"],
    run: norm,
    tolerance: OFFSET_ROWS,
    byRow: ["y", "d_x"],
  },
  {
    name: "layernorm1",
    inputs: ["x", "weight", "bias"],
    run: norm,
    tolerance: OFFSET_ROWS,
    byRow: ["y", "d_x"],
  },
  { name: "gelu", inputs: ["x"], run: ([x]) => ({ y: gelu(x) }) },
  ...[0.04, 0.07, 0.1].map((temperature) => ({
    name: `softmax_t${temperature}`,
    inputs: ["x"],
    run: ([x]: Tensor[]) => ({ y: softmax(x, { temperature }) }),
    // Not d_x: y (dy - sum dy y) of a saturated row is the rounding of dy, in PyTorch as well.
    byRow: ["y"],
  })),
  {
    name: "log_softmax_t0.1",
    inputs: ["x"],
    run: ([x], device) => ({ y: logSoftmax(x, { temperature: device.tensor([0.1]) }) }),
    byRow: ["y", "d_x"],
  },
  {
    name: "l2normalize",
    inputs: ["x"],
    run: ([x]) => ({ y: l2Normalize(x) }),
    byRow: ["y", "d_x"],
  },
  {
    name: "cosine_loss",
    inputs: ["target", "pred"],
    run: ([target, prediction]) => ({ y: cosineLoss(prediction, target) }),
  },
  {
    name: "cls_loss",
    inputs: ["student_logits"],
    run([student], device) {
      const [teacher, centre] = ["teacher_logits", "center"].map((part) => {
        const { data, shape } = stored(`cls_loss.${part}`);
        return device.tensor(data, shape);
      });
      const { loss, probabilities } = centredCrossEntropy(student, teacher, centre, {
        studentTemperature: cases.cls_loss.student_temp,
        teacherTemperature: device.tensor([cases.cls_loss.teacher_temp]),
      });
      return { y: loss, teacher_probs: probabilities };
    },
    byRow: ["teacher_probs", "d_student_logits"],
  },
];

function compare(
  name: string,
  actual: ArrayLike<number>,
  { name: prefix, tolerance = PLAIN, byRow }: Case,
): string {
  const { data, shape } = stored(name);
  const rows = byRow?.some((result) => name === `${prefix}.${result}`);
  const width = rows && shape.length > 1 ? shape[shape.length - 1] : data.length;
  let [worstMax, worstL2] = [0, 0];
  for (let at = 0; at < data.length; at += width) {
    let [largest, difference, l2, l2Difference] = [0, 0, 0, 0];
    for (let i = at; i < at + width; i++) {
      largest = Math.max(largest, Math.abs(data[i]));
      difference = Math.max(difference, Math.abs(actual[i] - data[i]));
      l2 += data[i] ** 2;
      l2Difference += (actual[i] - data[i]) ** 2;
      assert(Number.isFinite(actual[i]), `${name}[${i}] is ${actual[i]}, not ${data[i]}`);
    }
    if (largest === 0) {
      assert(difference === 0, `${name}: row ${at / width} should be 0, not ${difference}`);
    } else {
      worstMax = Math.max(worstMax, difference / largest);
      worstL2 = Math.max(worstL2, Math.sqrt(l2Difference / l2));
    }
  }
  const result = `${name}: ${worstMax.toExponential(1)} of the largest, L2 ${
    worstL2.toExponential(1)
  }`;
  assert(worstMax <= FACTOR * tolerance.max && worstL2 <= FACTOR * tolerance.l2, result);
  return result;
}

const device = await openDevice();

async function evaluate(test: Case): Promise<[string, ArrayLike<number>][]> {
  const named = scope(() => {
    const inputs = test.inputs.map((input) => {
      const { data, shape } = stored(`${test.name}.${input}`);
      return device.tensor(data, shape).trainable();
    });
    const outputs = test.run(inputs, device);
    const dy = stored(`${test.name}.dy`);
    backward(outputs.y, device.tensor(dy.data, dy.shape));
    return [
      ...Object.entries(outputs),
      ...inputs.map((
        input,
        i,
      ): [string, Tensor] => [`d_${test.inputs[i]}`, input.grad!.view(input.shape)]),
    ];
  });
  const values = await device.read(named.map(([, tensor]) => tensor));
  named.forEach(([, tensor]) => tensor.dispose());
  return named.map(([name], i) => [`${test.name}.${name}`, values[i]]);
}

for (const test of CASES) {
  Deno.test(`golden ${test.name}`, async () => {
    for (const [name, values] of await evaluate(test)) {
      const result = compare(name, values, test);
      if (Deno.env.has("TESSERA_VERBOSE")) console.log(result);
    }
  });
}

Deno.test("golden l2normalize_degenerate stays finite", async () => {
  const run = {
    name: "l2normalize_degenerate",
    inputs: ["x"],
    run: ([x]: Tensor[]) => ({ y: l2Normalize(x) }),
  };
  for (const [name, values] of await evaluate(run)) {
    assert(Array.from(values).every(Number.isFinite), `${name} is not finite`);
  }
});
