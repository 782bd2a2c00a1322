/** Trials of neighbours that swallow mail, joined to custody and to the peer manager's memory. */
import type { Custody } from "../../custody/custody.ts";
import type { PeerReport } from "../../trust/manager.ts";
import { Quarantine, type QuarantineDeps } from "../../trust/quarantine.ts";
import type { PartOf, PartContext } from "../part.ts";

export function quarantinePart({ mesh, deps, kept, scope }: PartContext): PartOf<Quarantine> {
  const { clock, log, metrics, events } = deps;
  // What trials prove is the peer manager's to remember.
  const remember = (kind: "lostDelivery" | "honestRoute" | "peerQuarantined", report: PeerReport) =>
    scope.own(events.on(kind, ({ neighbour }) => mesh.manager.report(neighbour, report)));
  remember("lostDelivery", "lost");
  remember("honestRoute", "delivered");
  remember("peerQuarantined", "lied");
  const quarantine = new Quarantine({
    clock,
    log,
    metrics,
    events,
    regard: kept.acquaintances,
    isConnected: (id) => mesh.peers.get(id) !== undefined,
    router: mesh.router,
    custody: createTrialBench(mesh.custody),
  });
  return { engine: quarantine };
}

/** What trials need of custody: test bundles, and the messages whose receipt is missing. */
function createTrialBench({ tests, forwarder, outbox }: Custody): QuarantineDeps["custody"] {
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
      outbox.reoffer(via, destination);
    },
  };
}
