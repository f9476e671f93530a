/**
 * Parts of a captured plan that are wanted before all of it is done.
 *
 * @module
 */
import type { BufferWindow } from "./recorder.ts";

/** A window of memory that an event reads or writes. */
export interface Access {
  readonly window: BufferWindow;
  readonly writes: boolean;
}

/** Whether two windows share bytes. */
export function overlaps(a: BufferWindow, b: BufferWindow): boolean {
  return a.buffer === b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

/**
 * Puts events of milestones as early as what they read and write allows: behind the last event that
 * they depend on, so that the results are the same. All others stay in their order.
 *
 * @param accesses of an event
 * @returns events in their new order, and of each milestone how many have to be done
 */
export function hoist<Event extends { readonly milestone?: number }>(
  events: readonly Event[],
  accesses: (event: Event) => readonly Access[],
): { readonly events: readonly Event[]; readonly ends: ReadonlyMap<number, number> } {
  const ordered: { readonly event: Event; readonly accesses: readonly Access[] }[] = [];
  for (const event of events) {
    const own = accesses(event);
    let place = ordered.length;
    if (event.milestone !== undefined) {
      const depends = (other: readonly Access[]) =>
        other.some((a) => own.some((b) => (a.writes || b.writes) && overlaps(a.window, b.window)));
      while (place > 0 && !depends(ordered[place - 1].accesses)) place--;
      // Behind those of earlier milestones that need no more.
      while (place < ordered.length && ordered[place].event.milestone !== undefined) place++;
    }
    ordered.splice(place, 0, { event, accesses: own });
  }
  const ends = new Map<number, number>();
  ordered.forEach(({ event: { milestone } }, i) => {
    if (milestone !== undefined) ends.set(milestone, i + 1);
  });
  return { events: ordered.map(({ event }) => event), ends };
}
