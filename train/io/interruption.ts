/**
 * Whether the process was told to end, also while its own thread computes or waits for the GPU and
 * can run no listener.
 *
 * @module
 */
import { InterruptedError } from "../errors.ts";

/**
 * The signal by which batch systems announce that time is up in some minutes (`sbatch
 * --signal=USR1@120`): the command ends as by others, but may take its time.
 */
export const NOTICE_SIGNAL: Deno.Signal = "SIGUSR1";

/** Signals that end a command. */
export const END_SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM", "SIGHUP", NOTICE_SIGNAL];

/** Milliseconds after a signal in which another counts as the same. */
export const SIGNAL_ECHO = 200;

/** What the thread is sent. */
interface Watch {
  readonly signals: readonly Deno.Signal[];
  readonly echo: number;
  readonly told: BigInt64Array;
}

/** Milliseconds since 1970 at which a signal was heard; 0 before. */
const told = new BigInt64Array(new SharedArrayBuffer(8));

/** The thread; it uses nothing from outside itself, as its text is all that it gets. */
function thread(): void {
  const scope = self as unknown as {
    onmessage: (event: MessageEvent<Watch>) => void;
    close(): void;
  };
  scope.onmessage = ({ data: { signals, echo, told } }) => {
    const stop = (): void => {
      Atomics.store(told, 0, BigInt(Date.now()));
      // From then on the signals do what they do by default.
      setTimeout(() => {
        for (const it of signals) Deno.removeSignalListener(it, stop);
        scope.close();
      }, echo);
    };
    for (const it of signals) Deno.addSignalListener(it, stop);
  };
}

/** Starts a thread that hears signals. It needs no permission, as its text is no file. */
export function watchSignals(): void {
  const worker = new Worker(
    `data:text/javascript,${encodeURIComponent(`(${thread})()`)}`,
    { type: "module" },
  );
  const watch: Watch = { signals: END_SIGNALS, echo: SIGNAL_ECHO, told };
  worker.postMessage(watch);
}

/** Whether a signal came; false where {@link watchSignals} was not called. */
export function isInterrupted(): boolean {
  return Atomics.load(told, 0) !== 0n;
}

/** Milliseconds since a signal was heard, on whatever thread; 0 before. */
export function sinceInterrupted(): number {
  return isInterrupted() ? Math.max(0, Date.now() - Number(Atomics.load(told, 0))) : 0;
}

/** @throws {InterruptedError} if a signal came */
export function refuseInterrupted(): void {
  if (isInterrupted()) throw new InterruptedError("interrupted");
}
