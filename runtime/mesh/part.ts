/**
 * What a part of the mesh is: which frames and packets it takes, and what it does when something happens. A part is one
 * file in parts/ and one row in mesh.ts; nothing else names it. docs/architecture.md "A part of the mesh".
 *
 * Everything here is called synchronously, in the order of the rows, from the event that it tells of. A part whose scope
 * is closed hears nothing and gets no frame any more.
 */
import type { Scope } from "../kernel/scope.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { HeldRecord } from "../membership/records.ts";
import type { Link } from "../peer/link.ts";
import type { Peer } from "../peer/peer.ts";
import type { MeshDeps, MeshSettings } from "./deps.ts";
import type { Claims, DispatchTable } from "./dispatch.ts";
import type { Kept } from "./kept.ts";
import type { MeshParts } from "./seen.ts";

/**
 * What happens in the mesh. A hook must not throw: a throw is a bug. All other parts still hear, it is counted and logged
 * with the part's name, and then it goes to whoever told of the event, so that the scope crashes in which that came: the
 * link whose frame or end it was.
 */
export interface MeshHooks {
  /** The first link of a neighbour's life is up. Nothing it sent was taken yet. */
  peerUp(peer: Peer): void;
  /** The only link to a neighbour missed a first probe. */
  peerQuiet(peer: Peer): void;
  /** No link to a neighbour answers as soon as usual, or one does again: `peer.isDoubted` has changed. */
  peerDoubted(peer: Peer): void;
  /** The last link is gone, or the neighbour restarted. `isSilent`: it answered no probe. */
  peerDown(peer: Peer, reason: string, isSilent: boolean): void;
  linkUp(peer: Peer, link: Link): void;
  /** Of several links or of the last one, then before `peerDown`: what it carried may be lost. */
  linkDown(peer: Peer, link: Link, reason: string): void;
  /** What the links of a neighbour are worth has changed. */
  linkMeasured(peer: Peer): void;
  /** A neighbour takes frames again. */
  writable(peer: Peer): void;
  /** Next hops towards a destination appeared, vanished or switched; the router already shows it. */
  routeChanged(destination: NodeId, isReachable: boolean): void;
  /** A way to every destination without a route of its own appeared or went: an edge node's gateway. */
  defaultRouteChanged(isThere: boolean): void;
  /** A name or a record means somebody else, or is new. */
  directoryChanged(): void;
  /** The record book took a revocation. */
  revoked(held: HeldRecord): void;
  /** The operator changed settings. Book and names have the new ones already. */
  settingsChanged(settings: MeshSettings): void;
  /** The node was blocked or revoked: whatever is kept up with it ends now. */
  refused(id: NodeId): void;
}

export interface MeshPart extends Partial<MeshHooks>, Claims {
  /** Reads what survived, before anything is dialled. When it rejects the mesh does not open, and stops what it has. */
  load?(): Promise<void>;
  /** From here on the node acts of its own accord. */
  start?(): void;
  /**
   * Once, in the reverse order of the rows, also when the mesh failed to open and for a part that was not loaded. The
   * part's tasks have ended and its timers are gone; every part above its row still works.
   */
  stop?(): void;
}

/** A part, and what the rest of the node calls it for. */
export interface PartOf<Engine> extends MeshPart {
  readonly engine: Engine;
}

export type Tell = <Hook extends keyof MeshHooks>(hook: Hook, ...about: Parameters<MeshHooks[Hook]>) => void;

/** What a part is made of. */
export interface PartContext {
  /** The other parts. Those of later rows are there once the mesh is built: in hooks, not while this one is made. */
  readonly mesh: MeshParts;
  /** Its clock is that of `scope`: timers need no cancelling at the end. */
  readonly deps: MeshDeps;
  /** What was read before the first part. */
  readonly kept: Kept;
  /** The part's own: open until its turn to stop. */
  readonly scope: Scope;
  /** Where frames and packets go on to the part that takes them. */
  readonly dispatch: DispatchTable;
  /** Tells every part of something. */
  readonly tell: Tell;
}

export type MakePart<Engine> = (context: PartContext) => PartOf<Engine>;
