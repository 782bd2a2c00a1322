/** What membership is made of: the rest of the node as it sees it. */
import type { Clock, Random } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Regard } from "../kernel/room.ts";
import type * as wire from "../wire/member-messages.ts";
import type { MemberState } from "./decide.ts";
import type { MemberRow } from "./member.ts";

export interface MembersDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly bootEpoch: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Pick<Metrics, "counter" | "observedGauge">;
  readonly regard: Regard;
  sign(bytes: Uint8Array): Uint8Array;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** To a neighbour; borrowed. */
  send(to: NodeId, frame: Uint8Array, lane: "news" | "repair"): void;
  /** Through the mesh; borrowed. */
  sendRouted(to: NodeId, kind: "ping" | "pong", payload: Uint8Array): void;
  isReachable(id: NodeId): boolean;
  /** How long the answer to a ping may take where only slow links lead there, ms; 0 or none: no longer than usual. */
  pingMs?(to: NodeId): number;
  /** Probe the link to this neighbour now, if there is one. */
  checkLink(id: NodeId): void;
  /** Another life of this node said something of this epoch: the epoch to go on from; undefined: say nothing. */
  outrun(epoch: number): number | undefined;
  changed(row: MemberRow, previous: MemberState | undefined): void;
  /** A fact was learned or a member forgotten: `undefined`. */
  persist(id: NodeId, fact: wire.MemberFact | undefined): void;
}
