/** A node with a liar and an honest neighbour on the way to one destination. For tests only. */
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatMessageId, formatNodeId, type MessageId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { Hub } from "../kernel/hub.ts";
import type { Regard } from "../kernel/room.ts";
import { type DistrustEvents, Quarantine } from "./quarantine.ts";
import { noRegard } from "./testing.ts";

export const id = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));
export const [liar, honest, destination] = [id(1), id(2), id(3)];

/** `arrives(via)`: test bundles that take this way are answered by the destination. */
export function setup(
  arrives: (via: NodeId, to: NodeId) => boolean,
  regard: Regard = noRegard,
  hops: readonly NodeId[] = [liar, honest],
) {
  const clock = new ManualClock();
  const scope = new Scope("test");
  const seen: string[] = [];
  const ways = new Map<MessageId, NodeId>();
  const sent: { readonly to: NodeId; readonly via: NodeId }[] = [];
  let isOffering = true;
  let count = 0;
  const hub = new Hub<DistrustEvents>((_, error) => seen.push(String(error)));
  hub.on("lostDelivery", () => seen.push("lost"));
  hub.on("honestRoute", () => seen.push("honest"));
  hub.on("peerQuarantined", ({ forMs }) => seen.push(`quarantined ${forMs / 60_000} min`));
  hub.on("peerRestored", () => seen.push("restored"));
  const quarantine: Quarantine = new Quarantine({
    clock: scope.clock(clock),
    log: silentLog,
    metrics: new Metrics(),
    events: hub,
    regard,
    isConnected: () => true,
    router: {
      nextHops: () => hops.map((neighbour) => ({ neighbour })),
      offerOf: () => (isOffering ? { metric: 10, bottleneck: 0 } : undefined),
      suspect: () => true,
      quarantine: (_id, isOn) => void seen.push(isOn ? "last resort" : "as others"),
    },
    custody: {
      sendTest: (to, via) => {
        sent.push({ to, via });
        const bytes = new Uint8Array(16);
        new DataView(bytes.buffer).setUint32(0, ++count);
        const bundle = formatMessageId(bytes);
        ways.set(bundle, via);
        clock.after(50, () => {
          if (arrives(via, to)) quarantine.onTestAnswered(bundle, to);
        });
        return bundle;
      },
      repeatTest() {},
      isTestTaken: () => true,
      endTest: (bundle) => void ways.delete(bundle),
      overdue: (via) => (via === liar ? { priority: 2 } : undefined),
      isAwaiting: () => false,
      reoffer() {},
    },
  });
  return {
    clock,
    scope,
    seen,
    quarantine,
    tests: () => ways.size,
    /** Every test bundle, in order. */
    sent,
    stopOffering: () => {
      isOffering = false;
    },
  };
}
