/**
 * That the node has no neighbour although it is told where some are, in words for its health: a secret of yesterday looks like a quiet
 * day else. Whoever asks for health needs no token, so it must not walk the dialer's targets. Makes nobody ill: the others may be off. And what a
 * node could use that was told nothing at all: it waits for others to call, and if they do the same it waits for ever.
 */
import type { HostAddress } from "@godwit/sdk";
import { lanInterfaces } from "../kernel/host-network.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { RunningPlugin } from "../plugin/host/instance.ts";

interface Seen {
  readonly peers: Pick<Mesh["peers"], "count">;
  readonly dialer: Pick<Mesh["dialer"], "lastFailure">;
}

export function lonelyTroubles({ peers, dialer }: Seen): {
  name: string;
  reason: string;
  isNotice: boolean;
}[] {
  const { lastFailure } = dialer;
  if (peers.count > 0 || lastFailure === undefined) return [];
  const reason = `no neighbour is linked; ${lastFailure.endpoint} failed last: ${lastFailure.error.message} (\`godwit discovery\` shows all)`;
  return [{ name: "links", reason, isNotice: true }];
}

interface Told {
  readonly peers: Pick<Mesh["peers"], "count">;
  readonly hints: Pick<Mesh["hints"], "isEmpty">;
}

/** What the operator could do, one thing each; none where the node has a neighbour, heard of somebody, or has something that looks for others. */
export function adviceOf(
  { peers, hints }: Told,
  running: readonly Pick<RunningPlugin, "instance">[],
  addresses: readonly HostAddress[],
): string[] {
  // A static table that names nobody is none.
  const isLooking = running.some(
    ({ instance: { namespace, type } }) => namespace === "discovery" && type !== "static",
  );
  if (peers.count > 0 || isLooking || !hints.isEmpty) return [];
  const lan = lanInterfaces(addresses);
  return [
    "nobody is known here, and nothing is configured that finds anybody: this node waits to be called",
    "godwit join, with an invitation that a member made (godwit invite)",
    '[discovery.neighbours] type = "static" with the endpoints of others as peers',
    ...(lan.length === 0
      ? []
      : [`[discovery.lan] type = "mdns", which finds the nodes of this LAN (${lan.join(", ")})`]),
  ];
}
