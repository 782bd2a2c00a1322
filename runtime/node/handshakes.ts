/** How pipes of this node become sessions: under which secrets, who is let in, and what half-open ones may cost. */
import type { Pipe } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { NO_ADDRESS, sourceOf } from "../kernel/source.ts";
import { type LinkCounters, HandshakeGuard } from "../link/guard.ts";
import { openSession, VERSIONS } from "../link/handshake.ts";
import { networkKeys } from "../link/hello.ts";
import { screenFirst } from "../link/responder.ts";
import type { Session } from "../link/types.ts";
import type { Ground } from "./ground.ts";
import type { Knot } from "./knot.ts";

/** Takes the pipe over. Rejects with errors of the link, or the signal's reason. */
export type Handshake = (pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal) => Promise<Session>;

export interface Handshakes {
  /** Under every live secret. */
  readonly open: Handshake;
  /** Under the preferred secret and no other. */
  readonly openPreferred: Handshake;
  /** What to do with the first datagram of somebody unknown, before anything is kept: see `screen` of the SDK's transports. */
  screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined;
  /** Forgets which secret which endpoint took. */
  forgetSecrets(): void;
}

export function createHandshakes(
  { config, identity, secrets, clock, random, metrics }: Ground,
  knot: Knot,
): Handshakes {
  const guard = new HandshakeGuard(clock, random);
  exposeLinkCounters(metrics, guard);
  const openUnder = (
    live: readonly Uint8Array[],
    ...[pipe, remote, signal]: Parameters<Handshake>
  ): Promise<Session> => {
    const { mesh } = knot;
    if (mesh === undefined)
      return Promise.reject(godwitError("GODWIT_STOPPED", "the mesh of this node is not open yet"));
    return openSession(
      pipe,
      {
        role: pipe.direction === "outbound" ? "initiator" : "responder",
        identity,
        network: config.node.network,
        secrets: live,
        judgeInvite: (invite) => mesh.enrolment.judge(invite),
        clock,
        random,
        guard,
        isBlocked: (id) => mesh.isRefused(id),
        ...(pipe.isAnonymous === true ? { hideIdentity: true } : countedBy(pipe.remote)),
        ...(remote === undefined ? {} : { remote }),
      },
      signal,
    );
  };
  return {
    screen(datagram, remote) {
      const { mesh } = knot;
      if (mesh === undefined) return undefined;
      const { live } = secrets;
      return screenFirst(datagram, {
        identity,
        network: config.node.network,
        keys: (live.length === 0 ? [undefined] : live).map((secret) =>
          networkKeys(config.node.network, secret),
        ),
        versions: VERSIONS,
        guard,
        source: countedBy(remote).sourceKey ?? remote,
        invites:
          live.length === 0 ? undefined : { secrets: live, judge: (invite) => mesh.enrolment.judge(invite) },
      });
    },
    open: (...given) => openUnder(secrets.live, ...given),
    openPreferred: (...given) => openUnder(secrets.live.slice(0, 1), ...given),
    forgetSecrets: () => guard.forgetSecrets(),
  };
}

/** What half-open handshakes are counted by; nothing where an address tells nobody apart. */
function countedBy(remote: string): { readonly sourceKey?: string } {
  const sourceKey = sourceOf(remote);
  return sourceKey === NO_ADDRESS ? {} : { sourceKey };
}

const linkMetrics = {
  handshakesCompleted: "handshakes_completed",
  handshakesFailed: "handshakes_failed",
  handshakesTimedOut: "handshakes_timed_out",
  handshakesAborted: "handshakes_aborted",
  halfOpenEvicted: "half_open_evicted",
  tagMismatches: "tag_mismatches",
  retriesSent: "retries_sent",
  refusalsSent: "refusals_sent",
  handshakeDatagramsDropped: "handshake_datagrams_dropped",
  recordsCorrupt: "records_corrupt",
  recordsForged: "records_forged",
  recordsReplayed: "records_replayed",
  fragmentsCollected: "fragments_collected",
  recordsUnfinished: "records_unfinished",
  recordsUnread: "records_unread",
  rekeys: "rekeys",
  sessionsExpired: "sessions_expired",
  sessionsUnconfirmed: "sessions_unconfirmed",
  sessionsTruncated: "sessions_truncated",
} as const satisfies Readonly<Record<keyof LinkCounters, string>>;

function exposeLinkCounters(metrics: Metrics, guard: HandshakeGuard): void {
  for (const name of Object.keys(linkMetrics) as (keyof LinkCounters)[])
    metrics.observedCounter(`godwit_link_${linkMetrics[name]}_total`, () => guard.counters[name]);
  metrics.observedGauge("godwit_link_half_open", () => guard.halfOpen);
}
