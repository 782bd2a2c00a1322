/**
 * Who a node is to this one: met, trusted, blocked, revoked, and what follows from it. The peer book and the record book
 * remember; this tells the parts.
 */
import type { NodeId } from "../../kernel/ids.ts";
import { shortId } from "../../kernel/ids.ts";
import { isLoopbackLink } from "../../kernel/named-places.ts";
import type { HeldRecord } from "../../membership/records.ts";
import type { Peer } from "../../peer/peer.ts";
import type { LevelChange, TrustGrant, TrustLevel } from "../../trust/book.ts";
import type { PartOf, PartContext } from "../part.ts";

/** Nodes met in earlier runs that are called at the start without being known: those that were linked longest. */
const STRANGERS_CALLED_MAX = 256;

export interface Standing {
  /** Gets no link, no custody and no name: by this operator's word or by a revocation. */
  isRefused(id: NodeId): boolean;
  /** Blocks at once: links, custody and names of the node end. Resolves when durable. */
  setTrust(id: NodeId, grant: TrustGrant): Promise<void>;
  /** Its level changed by the configuration: what follows is done when it returns. */
  onLevel(change: LevelChange): void;
  /** The record book took a revocation. */
  onRevoked(held: HeldRecord): void;
}

export function standingPart({ mesh, deps, kept, tell }: PartContext): PartOf<Standing> {
  const { book, records, names } = kept;
  const { identity, clock, log, events } = deps;
  const isRefused = (id: NodeId) => book.isBlocked(id) || records.isRevoked(id);
  const noteSeen = ({ id, links }: Peer) => {
    const isLocal = links.length === 0 ? undefined : links.some(({ session }) => isLoopbackLink(session));
    const record = records.get(id)?.record;
    // A brief one says nothing of endpoints, not that there are none.
    const endpoints = record?.isBrief === true ? undefined : record?.endpoints;
    book.noteSeen(id, endpoints, clock.wallMs(), isLocal);
  };
  const isChosen = ({ id, trust }: { id: NodeId; trust: TrustLevel }) =>
    trust === "trusted" || kept.acquaintances.isKnown(id);
  /** One source of hints among others: the hints know which endpoints somebody else wants for ever. */
  const remember = (nodeId: NodeId, endpoints: readonly string[], permanent: boolean) => {
    for (const endpoint of endpoints) mesh.hints.add("book", { endpoint, nodeId, permanent }, "member");
  };
  const onLevel = ({ id, before, level }: LevelChange) => {
    if (level === "blocked") return tell("refused", id);
    const record = records.get(id)?.record;
    // What it claims was not looked at meanwhile.
    if (before === "blocked" && record !== undefined && !isRefused(id)) names.observe(record);
    if (level === "trusted") remember(id, record?.endpoints ?? [], true);
    // Redialled for ever no longer, and known as before.
    else for (const endpoint of mesh.hints.pinnedBy("book", id)) remember(id, [endpoint], false);
  };
  return {
    engine: {
      isRefused,
      onLevel(change) {
        const { id, level } = change;
        const grant = { level, reason: "[trust] of the configuration", by: "configuration" } as const;
        log.info("trust changed", { peer: shortId(id), ...grant });
        events.emit("trustChanged", { id, grant });
        onLevel(change);
      },
      async setTrust(id, grant) {
        const { level, reason, by } = grant;
        const before = book.trustOf(id);
        await book.setTrust(id, grant);
        log.info("trust changed", { peer: shortId(id), level, by, reason });
        events.emit("trustChanged", { id, grant });
        onLevel({ id, before, level: book.trustOf(id) });
      },
      onRevoked(held) {
        const { id, signer, reason } = held.record;
        log.warn("node revoked", { node: id, by: signer, reason });
        // The others first, the revoked one among them, then it is cut off.
        tell("revoked", held);
        if (id !== identity.id) tell("refused", id);
      },
    },
    /** Calls the neighbours of the last run and those the operator trusts. */
    start() {
      const met = book.nodes.filter(({ id }) => !isRefused(id) && id !== identity.id);
      const linkedMs = (id: NodeId) => book.standing(id).history.linkedMs;
      const [known, others] = [met.filter(isChosen), met.filter((node) => !isChosen(node))];
      others.sort((a, b) => linkedMs(b.id) - linkedMs(a.id));
      // Throw-away nodes that were met would take every place among the targets of the dialer.
      for (const { id, endpoints, trust } of [...known, ...others.slice(0, STRANGERS_CALLED_MAX)])
        remember(id, endpoints, trust === "trusted");
    },
    peerUp: noteSeen,
    peerDown: noteSeen,
    stop() {
      for (const peer of mesh.peers.connected) noteSeen(peer);
    },
    refused(id) {
      names.forget(id);
      for (const { endpoint, nodeId } of mesh.dialer.targets)
        if (nodeId === id) mesh.hints.withdraw("book", endpoint);
    },
  };
}
