/** What happens in a mesh, by the names under which the hub tells it. Told from the mesh alone; whoever is around it listens. */
import type { CustodyEvents } from "../custody/custody.ts";
import type { NodeRecord } from "../identity/record.ts";
import type { EnrolmentEvents } from "../join/enrolment.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Life } from "../membership/other-lives.ts";
import type { MemberRow, MemberState } from "../membership/members.ts";
import type { Peer } from "../peer/peer.ts";
import type { TrustGrant } from "../trust/book.ts";
import type { ClockView } from "../time/node-time.ts";
import type { OnionEvents } from "../trust/onions.ts";
import type { DistrustEvents } from "../trust/quarantine.ts";

export interface MeshEvents extends CustodyEvents, DistrustEvents, EnrolmentEvents, OnionEvents {
  peerUp: Peer;
  peerDown: { readonly peer: Peer; readonly reason: string };
  linkUp: { readonly peer: Peer; readonly endpoint: string };
  linkDown: { readonly peer: Peer; readonly endpoint: string; readonly reason: string };
  routeChanged: { readonly destination: NodeId; readonly isReachable: boolean };
  /** A newer record of a node, or its first. */
  recordChanged: NodeId;
  hintHeard: { readonly source: string; readonly endpoint: string; readonly nodeId: NodeId | undefined };
  nameConflict: { readonly name: string; readonly holder: NodeId; readonly claimant: NodeId };
  /** A node that runs on two machines at once: a neighbour, or this one and what it does about it. */
  identityDoubled: { readonly id: NodeId; readonly state: "seen" | Life };
  /** The store of this node is older than what the mesh remembers of it. */
  storeBehind: NodeId;
  trustChanged: {
    readonly id: NodeId;
    readonly grant: Pick<TrustGrant, "level" | "reason"> & {
      readonly by: TrustGrant["by"] | "configuration";
    };
  };
  /** Some name may mean somebody else now. */
  namesChanged: undefined;
  revoked: NodeRecord;
  /** What is concluded about a node changed; `previous` is undefined for a new one. */
  memberChanged: { readonly row: MemberRow; readonly previous: MemberState | undefined };
  /** The wall clock of this node is worth more or less than before. */
  clockChanged: ClockView;
  /** Gone for a day, or given up for another: it is among the members no more. */
  memberForgotten: NodeId;
}
