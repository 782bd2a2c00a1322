/** What the parts of a mesh see of each other. A part that no other one calls does not stand here. */
import type { Custody } from "../custody/custody.ts";
import type { Names } from "../identity/names.ts";
import type { LookupQuestions } from "../membership/lookup-questions.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Hints } from "../membership/hints.ts";
import type { Members } from "../membership/members.ts";
import type { OtherLives } from "../membership/other-lives.ts";
import type { OwnRecord } from "../membership/own-record.ts";
import type { RecordBook } from "../membership/records.ts";
import type { Dialer } from "../peer/dialer.ts";
import type { NamedPlaces } from "../kernel/named-places.ts";
import type { Peers } from "../peer/peers.ts";
import type { Punching } from "../peer/punch.ts";
import type { Packets } from "../route/packets.ts";
import type { Router } from "../route/router.ts";
import type { Acquaintances } from "../trust/acquaintances.ts";
import type { PeerBook, TrustGrant } from "../trust/book.ts";
import type { PeerManager } from "../trust/manager.ts";
import type { Quarantine } from "../trust/quarantine.ts";
import type { NeighbourClocks } from "../time/neighbour-clocks.ts";

export interface MeshParts {
  readonly bootId: Uint8Array;
  readonly book: PeerBook;
  readonly names: Names;
  readonly acquaintances: Acquaintances;
  readonly records: RecordBook;
  readonly otherLives: OtherLives;
  readonly router: Router;
  readonly members: Members;
  readonly peers: Peers;
  readonly packets: Packets;
  readonly ownRecord: OwnRecord;
  readonly custody: Custody;
  readonly wallClock: NeighbourClocks;
  readonly lookups: LookupQuestions;
  readonly quarantine: Quarantine;
  readonly places: NamedPlaces;
  readonly dialer: Dialer;
  readonly hints: Hints;
  readonly punching: Punching;
  readonly manager: PeerManager;
  /** Blocked or revoked. */
  isRefused(id: NodeId): boolean;
  /** Resolves when durable. */
  setTrust(id: NodeId, grant: TrustGrant): Promise<void>;
}
