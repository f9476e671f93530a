/** One rank of the tests of groups: does what its words say and prints a line of JSON. */
import { InterruptedError, NoDataError } from "../../../train/errors.ts";
import type { SumOrder } from "../../../train/cluster/exchange.ts";
import { openGroup } from "../../../train/cluster/group.ts";
import { digest, rowOf, textOf } from "./group_values.ts";

const [task, timeout = "60"] = Deno.args;

const group = await openGroup({ timeout: Number(timeout) }).catch((error) => {
  console.error(`error: ${error.message}\n${error.details}`);
  Deno.exit(2);
});
const { rank, size, hosts, library } = group;
const shared = (length: number) => {
  const values = new Float32Array(new SharedArrayBuffer(4 * length));
  values.set(rowOf(rank, length));
  return values;
};
const report: Record<string, unknown> = { rank, size, hosts: hosts.length, library };
switch (task) {
  case "exchange": {
    const [, , ...lengths] = Deno.args;
    const sums = [];
    for (const order of ["sequence", "tree"] satisfies SumOrder[]) {
      const all = lengths.map((length) => shared(Number(length)));
      await Promise.all(all.map((values) => group.sum(values, order)));
      for (const values of all) sums.push(await digest(values));
    }
    report.sums = sums;
    report.texts = await digest((await group.gather(textOf(rank))).join("|"));
    break;
  }
  case "blocked": {
    const values = shared(1000);
    const before = await digest(values);
    const sum = group.sum(values, "sequence");
    // No event loop turns meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
    report.changed = await digest(values) !== before;
    await sum;
    break;
  }
  case "fail":
    group.advise("go on with: a command");
    if (rank === 1) await group.abort(new NoDataError("nothing here"));
    await group.sum(shared(10), "sequence");
    break;
  case "all-fail":
    await group.abort(new InterruptedError("everybody"));
    break;
  case "late":
    group.advise("go on with: a command");
    if (rank === 1) await new Promise((done) => setTimeout(done, 60_000));
    await group.gather("");
    break;
  case "alone":
    // Rank 0 takes longer than others wait.
    if (rank > 0) group.waitForFirst();
    else await new Promise((done) => setTimeout(done, 4000));
    await group.gather("");
    if (Deno.args[2] === "again" && rank === 0) {
      await new Promise((done) => setTimeout(done, 60_000));
    }
    await group.gather("");
    break;
  case "throw":
    if (rank === 1) throw new Error("nobody catches this");
    await group.gather("");
    break;
  case "die":
    if (rank === 1) Deno.kill(Deno.pid, "SIGKILL");
    await group.gather("");
    break;
}
await group.finish();
console.log(JSON.stringify(report));
// What a rank that has not called finish must never do.
Deno.exit(0);
