/**
 * `pretrain:mpi` as a rank whose process ends by itself: `RANK MILLISECONDS WORDS` kills that rank
 * after that time, whatever its main thread does then; a negative time never does.
 */
import { launched } from "../../../train/cluster/launcher.ts";
import { main } from "../../../train/main.ts";

const [rank, milliseconds, ...words] = Deno.args;
if (Number(milliseconds) >= 0 && launched((it) => Deno.env.get(it))?.rank === Number(rank)) {
  const text = `setTimeout(() => Deno.kill(${Deno.pid}, "SIGKILL"), ${Number(milliseconds)})`;
  new Worker(`data:text/javascript,${encodeURIComponent(text)}`, { type: "module" });
}
Deno.exit(await main(["pretrain:mpi", ...words]));
