/** Trials of neighbours that swallow mail, joined to custody and to the peer manager's memory. */
import type { Custody } from "../../custody/custody.ts";
import { Quarantine, type DistrustEvents, type QuarantineDeps } from "../../trust/quarantine.ts";
import type { PartOf, PartContext } from "../part.ts";
import type { MeshParts } from "../seen.ts";

export function quarantinePart({ mesh, deps }: PartContext): PartOf<Quarantine> {
  const { clock, log, metrics, events } = deps;
  const quarantine = new Quarantine({
    clock,
    log,
    metrics,
    events: remembering(mesh, events),
    isConnected: (id) => mesh.peers.get(id) !== undefined,
    router: mesh.router,
    custody: createTrialBench(mesh.custody),
  });
  return { engine: quarantine };
}

/** What trials need of custody: test bundles, and the messages whose receipt is missing. */
function createTrialBench({ tests, forwarder }: Custody): QuarantineDeps["custody"] {
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
const remembering = (mesh: MeshParts, events: DistrustEvents): DistrustEvents => ({
  lostDelivery: (id, destination) => {
    mesh.manager.report(id, "lost");
    events.lostDelivery(id, destination);
  },
  honestRoute: (id, destination) => {
    mesh.manager.report(id, "delivered");
    events.honestRoute(id, destination);
  },
  peerQuarantined: (id, reason, forMs) => {
    mesh.manager.report(id, "lied");
    events.peerQuarantined(id, reason, forMs);
  },
  peerRestored: (id) => events.peerRestored(id),
});
