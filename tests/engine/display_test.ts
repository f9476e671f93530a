/** How tensors show themselves: in consoles, in messages, in notebooks. */
import { assertEquals, assertMatch } from "@std/assert";
import { add, capture, relu, scope, slice, type Tensor, transpose } from "../../engine/mod.ts";
import { bitmap } from "../../engine/display.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const where = `on ${device.info.description}`;

Deno.test("a tensor prints as one line, with values that the host knows", async () => {
  using x = device.tensor([[1, 2, 3], [4, 5.25, 1 / 3]]);
  assertEquals(String(x), `Tensor [2, 3] f32 ${where}: [[1, 2, 3], [4, 5.25, 0.333333]]`);
  assertEquals(Deno.inspect(x), String(x));
  assertEquals(Deno.inspect([x], { breakLength: Infinity }), `[ ${x} ]`);
  using view = scope(() => slice(transpose(x), 0, 1, 2));
  assertEquals(`${view}`, `Tensor [2, 2] f32 ${where}: [[2, 5.25], [3, 0.333333]]`);
  using long = device.tensor(new Uint32Array(1000).fill(7));
  assertEquals(`${long}`, `Tensor [1000] u32 ${where}: [${"7, ".repeat(8)}…]`);
  using wide = device.tensor(new Float32Array(5000), [50, 100]);
  assertEquals(`${wide}`, `Tensor [50, 100] f32 ${where}: [[${"0, ".repeat(6)}…], …]`);
  using scalar = device.tensor([2], []);
  assertEquals(`${scalar}`, `Tensor [] f32 ${where}: 2`);
  using none = device.tensor([]);
  assertEquals(`${none}`, `Tensor [0] f32 ${where}`);
  using w = device.tensor([1]).trainable();
  assertEquals(`${w}`, `Tensor [1] f32 ${where}, trainable: [1]`);
  // What the device computes is known once it was read, and until it is overwritten.
  using y = add(x, 1);
  assertEquals(`${y}`, `Tensor [2, 3] f32 ${where}`);
  await y.data();
  assertEquals(`${y}`, `Tensor [2, 3] f32 ${where}: [[2, 3, 4], [5, 6.25, 1.33333]]`);
  device.copy(x, y);
  assertEquals(`${y}`, `Tensor [2, 3] f32 ${where}`);
  y.dispose();
  assertEquals(`${y}`, `Tensor [2, 3] f32 ${where}, disposed`);
});

Deno.test("a plan's tensors show no values of its recording", () => {
  using x = device.tensor([1, -2]);
  let inside = "";
  using plan = capture(device, [x], (given) => {
    const constant = device.tensor([5, 6]);
    inside = `${given} ${constant}`;
    return relu(add(given, constant));
  });
  assertEquals(inside, `Tensor [2] f32 ${where} Tensor [2] f32 ${where}`);
  assertEquals(`${plan.replay([x])}`, `Tensor [2] f32 ${where}`);
});

type Shown = Record<string, string>;
const shown = (x: Tensor): Promise<Shown> =>
  (x as unknown as Record<symbol, () => Promise<Shown>>)[Symbol.for("Jupyter.display")]();

Deno.test("a notebook shows a table of few values and a picture of a large matrix", async () => {
  using x = device.tensor([[1, 2], [3, 4]]);
  const small = await shown(x);
  assertEquals(small["text/plain"], `${x}`);
  assertMatch(small["text/html"], /<tr><td>1<\/td><td>2<\/td><\/tr><tr><td>3</);
  using cube = device.tensor(Float32Array.from({ length: 60 }, (_, i) => i), [2, 2, 15]);
  const first = (await shown(cube))["text/html"];
  assertMatch(first, /<td>11<\/td><td>…<\/td><\/tr><tr><td>15</);
  assertMatch(first, /first of \[2\]/);
  using image = device.zeros([16, 600]);
  assertMatch((await shown(image))["text/html"], /<img .*src="data:image\/bmp;base64,Qk/);
  using scalar = device.full([], 3);
  assertMatch((await shown(scalar))["text/html"], /<td>3<\/td>/);
  const gone = device.zeros([2]);
  gone.dispose();
  assertEquals(Object.keys(await shown(gone)), ["text/plain"]);
});

Deno.test("a picture is a BMP of 24 bits from the top, its smallest value black", () => {
  const bytes = bitmap([0, 1, NaN, 2, 0, 4], 2, 3);
  const header = new DataView(bytes.buffer);
  const at = (place: number) => header.getInt32(place, true);
  // Microsoft's BITMAPFILEHEADER and BITMAPINFOHEADER.
  assertEquals(String.fromCharCode(bytes[0], bytes[1]), "BM");
  assertEquals([at(2), at(10), at(14), at(18), at(22)], [54 + 24, 54, 40, 3, -2]);
  assertEquals([header.getUint16(26, true), header.getUint16(28, true)], [1, 24]);
  const row = (y: number) => [...bytes.slice(54 + 12 * y, 54 + 12 * y + 9)];
  assertEquals(row(0), [0, 0, 0, 63, 63, 63, 0, 0, 255]);
  assertEquals(row(1), [127, 127, 127, 0, 0, 0, 255, 255, 255]);
});
