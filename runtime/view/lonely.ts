/**
 * That the node has no neighbour although it is told where some are, in words for its health: a secret of yesterday looks like a quiet
 * day else. Whoever asks for health needs no token, so it must not walk the dialer's targets. And what a
 * node could use that was told nothing at all: it waits for others to call, and if they do the same it waits for ever.
 */
import type { Clock, HostAddress } from "@godwit/sdk";
import { lanInterfaces } from "../kernel/host-network.ts";
import type { Hub } from "../kernel/hub.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { RunningPlugin } from "../plugin/host/instance.ts";

/** So long a node may be without neighbours and well: they start when it does, or are started anew. */
export const LONELY_GRACE_MS = 60_000;

/** What is to be looked at where the last dial failed for this. */
const REMEDIES: Readonly<Record<string, string>> = {
  GODWIT_HANDSHAKE_FAILED:
    "is it of the same network, with the same secret? A member's `godwit invite` lets this node in",
};

interface Seen {
  readonly peers: Pick<Mesh["peers"], "count">;
  readonly dialer: Pick<Mesh["dialer"], "lastFailure">;
}

export class Loneliness {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** No neighbour is linked since then, if none is. */
  #sinceMs: number;

  constructor(clock: Pick<Clock, "monotonicMs">, hub: Pick<Hub<MeshEvents>, "on">) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonicMs();
    hub.on("peerDown", () => void (this.#sinceMs = clock.monotonicMs()));
  }

  /** A node that was told nobody is well, and so is one within its grace. */
  troubles({ peers, dialer }: Seen): { name: string; reason: string; isNotice: boolean }[] {
    const { lastFailure } = dialer;
    if (peers.count > 0 || lastFailure === undefined) return [];
    const { endpoint, error } = lastFailure;
    const remedy = REMEDIES[error.code] ?? "`godwit discovery` shows all";
    const sinceMs = this.#clock.monotonicMs() - this.#sinceMs;
    const reason = `no neighbour is linked for ${Math.floor(sinceMs / 1_000)} s; ${endpoint} failed last: ${error.message}; ${remedy}`;
    return [{ name: "links", reason, isNotice: sinceMs < LONELY_GRACE_MS }];
  }
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
