/**
 * WebGPU as specified, without any GPU: Dawn, which is stricter than Deno's wgpu, validates every
 * pipeline, bind group and dispatch of all op samples and of an update of each objective, on an
 * adapter that computes nothing and has the limits that every adapter has.
 */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  add,
  backward,
  capture,
  defineKernel,
  type Device,
  matmul,
  mul,
  openDevice,
  scope,
  selfAttention,
  ShapeError,
  sum,
} from "../../engine/mod.ts";
import { declaredKernels } from "../../engine/kernel.ts";
import { Prng } from "../../engine/prng.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { randomMask } from "../../model/objectives/masking.ts";
import type { Precision } from "../../model/objectives/masked_model.ts";
import { type ObjectiveName, OBJECTIVES, recipeFor } from "../../model/objectives/objectives.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { STEP_DEFAULTS, Trainer } from "../../train/run/update.ts";
import { constantSchedules } from "../support/constant_schedules.ts";
import { validatingGpu } from "../support/dawn.ts";
import { OVERLAPPING } from "../support/overlapping.ts";
import {
  type AnyOp,
  capturedSample,
  dense,
  isFloat,
  launch,
  seedsFor,
  strided,
  type Upload,
} from "../support/sample_runs.ts";
import { composedOps, type Sample, sampledOps } from "../support/samples.ts";
import { OBJECTIVE_NAMES, smallFor } from "../support/small_geometry.ts";
import { full, fullOnly, test } from "../support/tier.ts";

/** Subgroups of `size` lanes on what devices take for a software adapter, or for a GPU. */
const lanes = (size: number, software: boolean): Partial<GPUAdapterInfo> => ({
  description: software ? "llvmpipe" : "",
  subgroupMinSize: size,
  subgroupMaxSize: size,
});

const ALL = ["subgroups", "shader-f16", "timestamp-query"];

/** The plainest adapter there may be. */
const PLAIN = validatingGpu([]);

/** What adapters have. */
const ADAPTERS: Readonly<Record<string, GPU>> = {
  "no subgroups, no f16": PLAIN,
  "a software adapter, subgroups of 8, f16": validatingGpu(ALL, lanes(8, true)),
  "a GPU, subgroups of 32, f16": validatingGpu(ALL, lanes(32, false)),
};

/**
 * A sample in forms that cover, over all adapters, f32 and f16, eager and captured, dense and
 * strided operands; refused in f16 where there is none.
 */
async function validate(device: Device, op: AnyOp, sample: Sample): Promise<void> {
  const seeds = seedsFor(op, op.reference.forward(sample.inputs, sample.attrs));
  const eagerly = (upload: Upload, float: "f32" | "f16") => {
    const { outputs, grads } = launch(device, op, sample, upload, seeds, float);
    [...outputs, ...grads].forEach((it) => it?.dispose());
  };
  const captured = (float: "f32" | "f16") => {
    const { inputs, plan } = capturedSample(device, op, sample, seeds, float);
    plan.replay(inputs);
    plan[Symbol.dispose]();
    inputs.forEach((it) => it.dispose());
  };
  const floats = sample.inputs.some((_, i) => isFloat(sample, i));
  if (!device.features.f16) {
    eagerly(dense, "f32");
    eagerly(strided, "f32");
    captured("f32");
    if (floats) {
      const error = assertThrows(() => eagerly(dense, "f16"), ShapeError);
      assertStringIncludes(error.message, "no 16-bit floats (shader-f16)");
    }
  } else if (device.info.software) {
    captured("f32");
    if (floats) captured("f16");
  } else eagerly(dense, "f16");
  await device.sync();
}

/** Whether a sample is about f16 itself. */
const needsHalf = ({ attrs }: Sample): boolean => JSON.stringify(attrs ?? "").includes('"f16"');

/** Whether WGSL has a statement that writes to a buffer, or takes its address. */
function writesTo(text: string, name: string): boolean {
  const wgsl = text.replace(/\/\/.*/g, "");
  for (const { index } of wgsl.matchAll(new RegExp(`(?<![.\\w])${name}\\b`, "g"))) {
    let at = index + name.length;
    // Behind its indices and members.
    for (let depth = 0; depth > 0 || /[[.\w]/.test(wgsl[at]); at++) {
      if (wgsl[at] === "[") depth++;
      if (wgsl[at] === "]") depth--;
    }
    if (wgsl[index - 1] === "&" || /^\s*[-+*/|&^]?=(?!=)/.test(wgsl.slice(at, at + 20))) {
      return true;
    }
  }
  return false;
}

/** Holds what was compiled for a device to its buffers: 8 at most, `read` where it only reads. */
function checkPipelines({ gpu }: Device): number {
  let count = 0;
  for (const { name, pipelines } of declaredKernels().values()) {
    for (const { storage, wgsl } of pipelines.get(gpu)?.values() ?? []) {
      count++;
      assert(storage.length <= 8, `kernel ${name} has ${storage.length} storage buffers`);
      for (const { name: buffer, writes } of storage) {
        // What a kernel writes without saying so does not compile.
        assert(!writes || writesTo(wgsl, buffer), `kernel ${name}: ${buffer} is only read`);
      }
    }
  }
  return count;
}

test("kernels declare `read` where they only read", () => {
  const pattern = /var<storage, (read_write|read)> (\w+):/g;
  let count = 0;
  for (const { name, source } of declaredKernels().values()) {
    // Forms of a kernel may declare one buffer in two ways.
    const declared = new Map<string, string[]>();
    for (const [, access, buffer] of source.matchAll(pattern)) {
      declared.set(buffer, [...declared.get(buffer) ?? [], access]);
    }
    for (const [buffer, accesses] of declared) {
      count++;
      const written = accesses.includes("read_write");
      assertEquals(writesTo(source, buffer), written, `kernel ${name}: is ${buffer} written?`);
    }
  }
  assert(count > 50, `${count} buffers`);
});

for (const [name, gpu] of Object.entries(ADAPTERS)) {
  // The quick tier takes an op of each kind of launch on the plainest adapter.
  const quick = ["add", "attention", "layerNorm", "matmul", "selfAttention", "sum"];
  Deno.test(
    { name: `op samples are valid WebGPU: ${name}`, ignore: !full && gpu !== PLAIN },
    async (t) => {
      let device = await openDevice({ gpu });
      for (const { op, samples } of [...await sampledOps(), ...await composedOps()]) {
        if (!full && !quick.includes(op.name)) continue;
        const valid = await t.step(op.name, async () => {
          for (const sample of full ? samples : samples.slice(0, 1)) {
            if (!needsHalf(sample) || device.features.f16) await validate(device, op, sample);
          }
        });
        // An error makes a device unusable.
        if (!valid) device = await openDevice({ gpu });
      }
      assert(checkPipelines(device) > (full ? 1000 : 20));
      device[Symbol.dispose]();
    },
  );
}

/** A captured update of a small model, in as many passes. */
async function update(
  device: Device,
  objective: ObjectiveName,
  precision: Precision,
  passes: number,
): Promise<void> {
  const geometry = smallFor(objective);
  using model = OBJECTIVES[objective].create(
    device,
    geometry,
    recipeFor(objective, "paper"),
    precision,
  );
  initialise(model, new Prng(3));
  using trainer = new Trainer(device, model, constantSchedules(), {
    ...STEP_DEFAULTS,
    clipNorm: OBJECTIVES[objective].clipNorm,
    weights: { pred: 0.7, cls: 0.3 },
    microBatches: passes,
  });
  const { patches } = patchGrid(geometry);
  const random = new Prng(4);
  for (let pass = 0; pass < passes; pass++) {
    using input = device.zeros([2, geometry.melBands, geometry.cropFrames]);
    trainer.step(input, randomMask(() => random.uniform(), 2, patches, geometry.maskRatio));
  }
  await device.sync();
}

for (const [name, gpu] of Object.entries(ADAPTERS)) {
  Deno.test(
    { name: `updates of all objectives are valid WebGPU: ${name}`, ignore: !full && gpu !== PLAIN },
    async (t) => {
      for (const objective of full ? OBJECTIVE_NAMES : ["matpac"] as const) {
        await t.step(objective, async () => {
          using device = await openDevice({ gpu });
          await update(device, objective, "f32", 1);
          if (full) await update(device, objective, "f32", 2);
          if (device.features.f16) await update(device, objective, "mixed", 1);
          assert(checkPipelines(device) > 30);
        });
      }
    },
  );
}

test("plans of operands in the same memory are valid WebGPU", async () => {
  for (const [name, body] of Object.entries(OVERLAPPING)) {
    for (const dtype of ["f32", "f16"] as const) {
      const gpu = dtype === "f16" ? ADAPTERS["a software adapter, subgroups of 8, f16"] : PLAIN;
      using device = await openDevice({ gpu });
      using x = device.zeros([9, 16], dtype);
      using plan = capture(device, [x], (x) => body(mul(x, 2)));
      plan.replay([x]);
      await device.sync().catch((error) => assert(false, `${name}, ${dtype}: ${error}`));
    }
  }
});

test("textures are read where WGSL has such, and nothing is asked of others", async () => {
  const gpu = ADAPTERS["a software adapter, subgroups of 8, f16"];
  const others = { ...gpu, wgslLanguageFeatures: new Set<string>() } as unknown as GPU;
  const firefox = { ...gpu, wgslLanguageFeatures: undefined } as unknown as GPU;
  for (
    const [implementation, textures] of [[gpu, true], [others, false], [firefox, false]] as const
  ) {
    using device = await openDevice({ gpu: implementation });
    assertEquals(device.features.textures, textures);
    scope(() => {
      const [x, w] = [device.zeros([256, 256]).trainable(), device.zeros([256, 256])];
      const tokens = device.zeros([4, 128, 3 * 64]).trainable();
      backward(add(sum(matmul(x, w)), sum(selfAttention(tokens, 1))));
    });
    await device.sync();
    assertEquals(device.memory.textureBytes > 0, textures);
    const texts = [...declaredKernels().values()]
      .flatMap(({ pipelines }) => [...pipelines.get(device.gpu)?.values() ?? []])
      .map(({ wgsl }) => wgsl);
    assertEquals(texts.some((it) => it.includes("texture_storage_2d")), textures);
  }
});

test("Dawn refuses what the specification forbids", async () => {
  const copy = (access: string, letter: string) =>
    defineKernel(
      `copy_${letter}`,
      `struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, ${access}> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@compute @workgroup_size(1) fn main() { b[0] = ${letter}[params.count]; }`,
    );
  const refusals = [
    [copy("read", "a"), "usage"],
    [copy("read_write", "a"), "alias"],
    [copy("read", "missing"), ">   6 | @compute"],
  ] as const;
  for (const [kernel, message] of refusals) {
    using device = await openDevice({ gpu: PLAIN });
    using x = device.zeros([1]);
    device.run(kernel, {}, [x, x], { count: 0 }, 1);
    const error = await assertRejects(() => device.sync());
    assertStringIncludes((error as Error).message, message);
  }
});

fullOnly("subgroups of every size", async () => {
  for (const size of [4, 16, 64, 128]) {
    for (const software of [true, false]) {
      using device = await openDevice({ gpu: validatingGpu(ALL, lanes(size, software)) });
      assertEquals(device.info.subgroupSize, size);
      scope(() => {
        const [a, b] = [device.zeros([256, 256]).trainable(), device.zeros([256, 256])];
        backward(sum(matmul(a, b)));
      });
      await update(device, "matpac", "mixed", 1);
    }
  }
});
