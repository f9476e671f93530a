/** Device, memory and lifetimes. */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import {
  add,
  defineKernel,
  DeviceLostError,
  KernelError,
  LifetimeError,
  matmul,
  mul,
  NoAdapterError,
  openDevice,
  OutOfMemoryError,
  permute,
  registry,
  scope,
  ShapeError,
  sum,
  type Tensor,
  transpose,
} from "../../engine/mod.ts";
import { deno } from "../support/deno_process.ts";
import { fullOnly, test } from "../support/tier.ts";

test("values survive the way to the device and back, in any order of writes and reads", async () => {
  using device = await openDevice();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 70 }), {
        minLength: 1,
        maxLength: 4,
      }),
      async (arrays) => {
        const tensors = arrays.map((values) => device.tensor(values));
        const read = await device.read(tensors);
        arrays.forEach((values, i) => assertEquals([...read[i]], values));
        // A write after recorded work must not reach that work.
        const doubled = add(tensors[0], tensors[0]);
        device.write(tensors[0], new Float32Array(arrays[0].length).fill(-1));
        assertEquals([...await doubled.data()], arrays[0].map((x) => Math.fround(x + x)));
        assertEquals(new Set(await tensors[0].data()), new Set([-1]));
        [...tensors, doubled].forEach((t) => t.dispose());
      },
    ),
    { numRuns: 30 },
  );
  assertEquals(device.memory.liveBytes, 0);
});

test("both ways of reading give the same values, also when reads overlap", async () => {
  for (const fastReadback of [true, false]) {
    using device = await openDevice({ fastReadback });
    const tensors = [1, 2, 3, 50_000].map((n) => device.full([n], n));
    for (let round = 0; round < 3; round++) {
      const reads = await Promise.all([...tensors, ...tensors].map((t) => t.data()));
      reads.forEach((data, i) => {
        const { size } = tensors[i % 4];
        assertEquals([data.length, data[0], data[size - 1]], [size, size, size]);
      });
    }
    const before = device.memory.buffersCreated;
    using doubled = add(tensors[2], tensors[2]);
    assertEquals([...await doubled.data()], [6, 6, 6]);
    assertEquals(device.memory.buffersCreated - before, 1);
  }
});

test("integers keep their type", async () => {
  using device = await openDevice();
  using x = device.tensor(Uint32Array.of(0, 2 ** 32 - 1));
  using y = device.tensor(Int32Array.of(-(2 ** 31), 5));
  assertEquals(await device.read([x, y]), [
    Uint32Array.of(0, 2 ** 32 - 1),
    Int32Array.of(-(2 ** 31), 5),
  ]);
  assertEquals(await x.data<Uint32Array>(), Uint32Array.of(0, 2 ** 32 - 1));
});

test("a scope frees what it does not return, also when it throws", async () => {
  using device = await openDevice();
  using x = device.tensor([1, 2, 3]);
  const before = device.memory.liveBuffers;
  using kept = scope(() => {
    const a = mul(x, x);
    const b = scope(() => add(a, x));
    return { values: [b] };
  }).values[0];
  assertEquals(device.memory.liveBuffers, before + 1);
  assertEquals([...await kept.data()], [2, 6, 12]);
  assertThrows(
    () =>
      scope(() => {
        add(x, x);
        throw new Error("inside");
      }),
    Error,
    "inside",
  );
  assertEquals(device.memory.liveBuffers, before + 1);
  assertThrows(() => scope(() => Promise.resolve(1)), TypeError, "synchronous");
});

test("use after dispose names the op and the shape", async () => {
  using device = await openDevice();
  const x = device.tensor([1, 2, 3, 4], [2, 2]);
  x.dispose();
  x.dispose();
  assertThrows(() => mul(x, x), LifetimeError, "mul: an operand [2, 2]");
  await assertRejects(() => x.data(), LifetimeError);
  assertEquals(device.memory.liveBytes, 0);
});

test("tensors of two devices do not mix", async () => {
  using a = await openDevice();
  using b = await openDevice();
  using x = a.tensor([1]);
  using y = b.tensor([1]);
  assertThrows(() => add(x, y), LifetimeError, "different devices");
});

test("shape errors name the op and both sides", async () => {
  using device = await openDevice();
  using x = device.zeros([2, 3]);
  using y = device.zeros([4, 5]);
  assertThrows(() => add(x, y), ShapeError, "add: shapes [2, 3] and [4, 5]");
  assertThrows(() => matmul(x, y), ShapeError, "matmul: [2, 3] against [4, 5]");
  assertThrows(() => permute(x, [0, 0]), ShapeError, "permute");
  assertThrows(() => device.tensor([1, 2, 3], [2, 2]), ShapeError, "3 values do not fit [2, 2]");
});

test("views and integers are read as they are, and copies for it are freed", async () => {
  using device = await openDevice();
  using x = device.tensor([[1, 2, 3], [4, 5, 6]]);
  using ids = device.tensor(new Int32Array([2 ** 31 - 1, -7]));
  const { liveBuffers } = device.memory;
  {
    using columns = transpose(x);
    using last = x.view([2], [3], 2);
    assertEquals(await columns.data(), new Float32Array([1, 4, 2, 5, 3, 6]));
    assertEquals(await device.read([last, x, columns.view([1], [1], 4)]), [
      new Float32Array([3, 6]),
      new Float32Array([1, 2, 3, 4, 5, 6]),
      new Float32Array([5]),
    ]);
    assertEquals(await ids.data<Int32Array>(), new Int32Array([2 ** 31 - 1, -7]));
  }
  assertEquals(device.memory.liveBuffers, liveBuffers);
});

test("a freed buffer is reused and counted", async () => {
  using device = await openDevice();
  device.zeros([1000]).dispose();
  const { buffersCreated } = device.memory;
  device.zeros([1000]).dispose();
  assertEquals(device.memory.buffersCreated, buffersCreated);
  assertEquals(device.memory.liveBytes, 0);
  assert(device.memory.pooledBytes >= 4000);
  device.trim();
  assertEquals(device.memory.pooledBytes, 0);
});

test("the memory limit is an error that says what is live and what to do", async () => {
  using device = await openDevice({ memoryLimit: 1 << 20 });
  using _ = device.zeros([100_000]);
  const error = assertThrows(() => device.empty([200_000]), OutOfMemoryError);
  assertStringIncludes(error.message, "781.3 KiB were asked for while 390.8 KiB are live");
  assertStringIncludes(error.message, "lower the batch size");
});

test("a buffer above the adapter's largest is refused before it is asked for", async () => {
  using device = await openDevice();
  const { maxBufferSize } = device.gpu.limits;
  assertThrows(
    () => device.empty([Math.ceil(maxBufferSize / 4) + 100]),
    OutOfMemoryError,
    "largest",
  );
});

test("a kernel that does not compile shows its lines around the fault", async () => {
  using device = await openDevice();
  const kernel = defineKernel(
    "broken",
    `struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
// 1
// 2
// 3
// 4
@compute @workgroup_size(1) fn main() { y[0] = missing(params.count); }`,
  );
  using y = device.zeros([1]);
  device.run(kernel, {}, [y], { count: 1 }, 1);
  const error = await assertRejects(() => y.data(), KernelError);
  assertStringIncludes(error.message, "kernel broken does not compile");
  assertStringIncludes(error.message, ">   9 | @compute @workgroup_size(1) fn main()");
  assertStringIncludes(error.message, "\n    5 | // 1\n");
  assert(!error.message.includes("   4 | "), error.message);
});

test("wrong launches are refused with the kernel's name", async () => {
  using device = await openDevice();
  const kernel = defineKernel(
    "fill",
    `struct Params { value: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = params.value; }`,
  );
  using y = device.zeros([3]);
  assertThrows(
    () => device.run(kernel, {}, [y, y], { value: 1 }, 1),
    KernelError,
    "1 storage buffers, 2 were given",
  );
  assertThrows(
    () => device.run(kernel, {}, [y], {}, 1),
    KernelError,
    "parameter value was not given",
  );
  assertThrows(
    () => device.run(kernel, {}, [{ tensor: y, start: 1, count: 1 }], { value: 1 }, 1),
    LifetimeError,
    "alignment",
  );
  device.run(kernel, {}, [y], { value: 2.5 }, 1);
  assertEquals([...await y.data()], [2.5, 0, 0]);
});

test("a lost device is reported by whatever comes next", async () => {
  const device = await openDevice();
  const x = device.tensor([1, 2]);
  device.gpu.destroy();
  await assertRejects(() => x.data(), DeviceLostError, "lost");
  assertThrows(() => device.zeros([4]), DeviceLostError);
  assertEquals((await device.lost).name, "DeviceLostError");
});

test("asking for a GPU where there is only a software adapter says so", async () => {
  using auto = await openDevice();
  if (!auto.info.software) return;
  await assertRejects(
    () => openDevice({ adapter: "gpu" }),
    NoAdapterError,
    "only the software adapter",
  );
});

test("long chains cross flushes and keep their order", async () => {
  using device = await openDevice();
  using one = device.tensor([1]);
  let x: Tensor = device.tensor([0]);
  for (let i = 0; i < 5000; i++) {
    const next = add(x, one);
    x.dispose();
    x = next;
  }
  assertEquals(await x.item(), 5000);
  assert(device.counters.submits > 1);
  x.dispose();
});

test("grids above 65535 workgroups are folded", async () => {
  using device = await openDevice();
  // 64 invocations per workgroup, one element each as the innermost axis is odd.
  const n = 65_537 * 64 + 1;
  using x = device.full([n], 1);
  using y = add(x, x);
  using total = sum(y);
  assertEquals(await total.item(), 2 * n);
});

test("every op has a reference, with a gradient where the op has one", () => {
  const ops = [...registry().values()];
  assert(ops.length >= 70, `${ops.length} ops`);
  for (const op of ops) {
    assertEquals(op.reference.backward !== undefined, op.backward !== undefined, op.name);
  }
  // Orders and comparisons are constant wherever they are defined.
  assertEquals(ops.filter((op) => !op.backward).map((op) => op.name).sort(), [
    "argmax",
    "argmin",
    "argsort",
    "bitwiseAnd",
    "bitwiseOr",
    "bitwiseXor",
    "equal",
    "greater",
    "greaterEqual",
    "isfinite",
    "isinf",
    "isnan",
    "leftShift",
    "less",
    "lessEqual",
    "logicalAnd",
    "logicalOr",
    "logicalXor",
    "notEqual",
    "oneHot",
    "rightShift",
    "searchsorted",
  ]);
});

test("wrong dtypes, devices, shapes and windows are refused where they are made", async () => {
  using device = await openDevice();
  using other = await openDevice();
  using ints = device.tensor(Uint32Array.of(1, 2, 3, 4), [2, 2]);
  using floats = device.zeros([2, 2]);
  using foreign = other.zeros([2, 2]);
  assertThrows(() => matmul(ints, ints), ShapeError, "matmul: operands [2, 2] of u32");
  assertThrows(() => matmul(floats, ints), ShapeError, "of f32, [2, 2] of u32: f32 is needed");
  assertThrows(() => add(floats, foreign), LifetimeError, "add: operands [2, 2], [2, 2]");
  await assertRejects(() => device.read([foreign]), LifetimeError, "read: the tensor [2, 2]");
  assertThrows(() => device.write(foreign, new Float32Array(4)), LifetimeError, "write");
  assertThrows(() => device.copy(foreign, floats), LifetimeError, "copy");
  assertThrows(() => device.empty([-1]), ShapeError, "[-1] is no shape");
  assertThrows(() => device.empty([1.5]), ShapeError);
  assertThrows(() => floats.view([1000]), ShapeError, "leaves the memory of [2, 2]");
  // The device is none the worse for it.
  using sum = add(floats, 1);
  assertEquals([...await sum.data()], [1, 1, 1, 1]);
});

test("every dtype can be filled, whatever the count of elements", async () => {
  using device = await openDevice();
  for (const dtype of ["f32", "f16", "u32", "i32"] as const) {
    if (dtype === "f16" && !device.features.f16) continue;
    for (const count of [1, 4, 7, 64]) {
      using filled = device.full([count], 3, dtype);
      const [values] = await device.read([filled]);
      assertEquals([...values], Array(count).fill(3), `${count} of ${dtype}`);
    }
  }
});

fullOnly("opening and closing devices leaks nothing", async () => {
  const engine = new URL("../../engine/mod.ts", import.meta.url);
  const program = `
    import { openDevice } from "${engine}";
    const resident = [];
    for (let round = 0; round < 75; round++) {
      { using device = await openDevice(); using x = device.tensor([1]); await x.data(); }
      resident.push(Deno.memoryUsage().rss);
    }
    console.log(JSON.stringify(resident));`;
  const { out } = await deno(["run", "--no-prompt", "--no-check", "--quiet", "-"], program);
  const resident: number[] = JSON.parse(out);
  // The first ones load the driver and fill the heap up to what makes the collector run: without
  // collections, 50 rounds of 4 MiB are 200.
  const grown = (resident[74] - resident[24]) / 2 ** 20;
  assert(grown < 32, `${grown.toFixed(0)} MiB in 50 rounds`);
});
