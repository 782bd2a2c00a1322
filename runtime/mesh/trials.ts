/** Trials of neighbours that swallow mail, joined to custody and to the peer manager's memory. */
import type { QuarantineDeps, DistrustEvents } from "../trust/quarantine.ts";
import type { Custody } from "../custody/custody.ts";
import type { PeerManager } from "../trust/manager.ts";

/** What trials need of custody: test bundles, and the messages whose receipt is missing. */
export function createTrialBench({ tests, forwarder }: Custody): QuarantineDeps["custody"] {
  return {
    sendTest: (destination, via, priority) => tests.send(destination, via, priority),
    repeatTest: (id) => tests.repeat(id),
    isTestTaken: (id) => tests.isTaken(id),
    endTest: (id) => tests.end(id),
    overdue: (via, destination, beforeMs) => {
      for (const { relayedAtMs, header } of forwarder.awaiting(via, destination))
        if (relayedAtMs !== undefined && relayedAtMs <= beforeMs) return header;
      return undefined;
    },
    isAwaiting: (via, destination) => forwarder.awaiting(via, destination).next().done !== true,
    reoffer: (via, destination) => {
      for (const { id } of [...forwarder.awaiting(via, destination)]) forwarder.retry(id);
    },
  };
}

/** What trials prove is the peer manager's to remember. */
export function distrustEvents(
  { manager }: { readonly manager: PeerManager },
  events: DistrustEvents,
): DistrustEvents {
  return {
    lostDelivery: (id, destination) => {
      manager.report(id, "lost");
      events.lostDelivery(id, destination);
    },
    honestRoute: (id, destination) => {
      manager.report(id, "delivered");
      events.honestRoute(id, destination);
    },
    peerQuarantined: (id, reason, forMs) => {
      manager.report(id, "lied");
      events.peerQuarantined(id, reason, forMs);
    },
    peerRestored: (id) => events.peerRestored(id),
  };
}
