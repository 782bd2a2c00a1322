/** What the parts of a mesh see of the channels that all in earshot share. docs/protocol/slow.md */
import type { Medium, Urgency } from "@godwit/sdk";
import type { Airtime } from "../kernel/airtime.ts";
import type { BackoffOptions } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Heard } from "./earshot.ts";

export interface Channels {
  readonly airtime: Airtime;
  /** A transport shares the channel among all endpoints of these schemes. Answers what ends it. */
  open(medium: Medium, schemes: readonly string[]): () => void;
  /**
   * Mail for the node waits, or goes by a gateway: `isStuck` where there is no way at all. Answers whether it is heard. No call is made on a channel that does not admit
   * mail of this `urgency` now; by default that of text.
   */
  want(id: NodeId, isStuck: boolean, urgency?: Urgency): boolean;
  /** Mail of this urgency has a way over the channel, which does not admit it: it is asked for again once that does. */
  noteHeld(medium: Medium, urgency: Urgency): void;
  /** Whether mail of this node waits because nobody here knows whom its address means: a gateway would. Asked whenever it matters. */
  awaitNames(areAwaited: () => boolean): void;
  /** Whether a link to that place is wanted now; of places on no shared channel always. */
  isWanted(endpoint: string, knownId: NodeId | undefined): boolean;
  /** Pauses between calls to a place on a shared channel; undefined: it is on none. */
  backoff(endpoint: string, isPermanent: boolean): BackoffOptions | undefined;
  /** Who is heard on a channel now, by the names of beacons. */
  heardOn(medium: Medium): readonly Heard[];
  /** Who has that name on a channel; undefined: nobody whom this node has written to, or has a link to. */
  idOf(who: string): NodeId | undefined;
}
