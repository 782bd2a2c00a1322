/**
 * That the node has no neighbour although it is told where some are, or none of those that its operator named, in words for its health: a
 * secret of yesterday looks like a quiet day else. Whoever asks for health needs no token, so it must not walk the dialer's targets each time. And what a
 * node could use that was told nothing at all: it waits for others to call, and if they do the same it waits for ever.
 */
import type { Clock, GodwitError, HostAddress } from "@godwit/sdk";
import { lanInterfaces } from "../kernel/host-network.ts";
import type { Hub } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { RunningPlugin } from "../plugin/host/instance.ts";

/** So long a node may be without neighbours and well: they start when it does, or are started anew. */
export const LONELY_GRACE_MS = 60_000;

/** What is to be looked at where the last dial failed for this. */
const REMEDIES: Readonly<Record<string, string>> = {
  GODWIT_HANDSHAKE_FAILED:
    "is it of the same network, with the same secret? A member's `godwit invite` lets this node in",
  GODWIT_PEER_BLOCKED: "`godwit trust` lets it be called again",
};
const REMEDY = "`godwit discovery` shows all";
/** Targets are many, and whoever asks for health needs no token: they are looked at no more often. */
const LOOK_EVERY_MS = 1_000;

type Target = Pick<
  Mesh["dialer"]["targets"][number],
  "endpoint" | "nodeId" | "state" | "error" | "failingMs" | "isSelf"
>;

interface Seen {
  readonly peers: { readonly count: number; get(id: NodeId): unknown };
  readonly dialer: Pick<Mesh["dialer"], "lastFailure"> & { readonly targets: readonly Target[] };
  readonly hints: Pick<Mesh["hints"], "namings">;
}

/** How it is with the endpoints that the operator named, where none of them leads to a neighbour. */
interface Unmet {
  readonly count: number;
  /** Since the last of them failed first. */
  readonly sinceMs: number;
  readonly endpoint: string;
  readonly error: GodwitError;
  /** Each failed for the same. */
  readonly isOneCause: boolean;
}

export class Loneliness {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** No neighbour is linked since then, if none is. */
  #sinceMs: number;
  #unmet: Unmet | undefined;
  #countThen = 0;
  #lookAgainAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, "monotonicMs">, hub: Pick<Hub<MeshEvents>, "on">) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonicMs();
    hub.on("peerDown", () => void (this.#sinceMs = clock.monotonicMs()));
  }

  /** A node that was told nobody is well, and so is one within its grace. */
  troubles(seen: Seen): { name: string; reason: string; isNotice: boolean }[] {
    const { peers, dialer } = seen;
    const unmet = this.#unmetOf(seen);
    const failure = unmet?.isOneCause === true ? unmet : dialer.lastFailure;
    const words = failure === undefined ? undefined : failureWords(failure, unmet);
    if (words === undefined) return [];
    if (peers.count > 0) {
      if (unmet === undefined) return [];
      const reason = `no endpoint that the configuration names led to a link for ${seconds(unmet.sinceMs)}, others are linked; ${words}; where its node is linked another way, name it behind #`;
      return [{ name: "dials", reason, isNotice: unmet.sinceMs < LONELY_GRACE_MS }];
    }
    const sinceMs = this.#clock.monotonicMs() - this.#sinceMs;
    const reason = `no neighbour is linked for ${seconds(sinceMs)}; ${words}`;
    return [{ name: "links", reason, isNotice: sinceMs < LONELY_GRACE_MS }];
  }

  #unmetOf(seen: Seen): Unmet | undefined {
    const nowMs = this.#clock.monotonicMs();
    const { count } = seen.peers;
    if (nowMs >= this.#lookAgainAtMs || count !== this.#countThen) {
      this.#lookAgainAtMs = nowMs + LOOK_EVERY_MS;
      this.#countThen = count;
      this.#unmet = unmetOf(seen);
    }
    return this.#unmet;
  }
}

function unmetOf({ peers, dialer, hints }: Seen): Unmet | undefined {
  let unmet: Unmet | undefined;
  for (const { endpoint, nodeId, state, error, failingMs, isSelf } of dialer.targets) {
    if (isSelf || hints.namings(endpoint) !== undefined) continue;
    const isMet = state === "linked" || (nodeId !== undefined && peers.get(nodeId) !== undefined);
    if (isMet || error === undefined || failingMs === undefined) return undefined;
    unmet = {
      count: (unmet?.count ?? 0) + 1,
      sinceMs: Math.min(failingMs, unmet?.sinceMs ?? failingMs),
      endpoint,
      error,
      isOneCause: unmet === undefined || (unmet.isOneCause && unmet.error.code === error.code),
    };
  }
  return unmet;
}

function failureWords(
  { endpoint, error }: Pick<Unmet, "endpoint" | "error">,
  unmet: Unmet | undefined,
): string {
  const remedy = REMEDIES[error.code] ?? REMEDY;
  const isAll = unmet?.isOneCause === true && unmet.count > 1;
  const which = isAll ? `all ${unmet.count} fail for one cause, ${endpoint}` : `${endpoint} failed last`;
  // A transport begins with the endpoint, which has just been named.
  const isNamed = error.message.startsWith(`${endpoint} `);
  const why = isNamed ? error.message.slice(endpoint.length + 1) : error.message;
  return `${which}: ${why}; ${remedy}`;
}

const seconds = (ms: number): string => `${Math.floor(ms / 1_000)} s`;

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
