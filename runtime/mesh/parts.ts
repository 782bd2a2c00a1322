/** What the parts of a mesh see of each other. */
import type { NodeId } from "../kernel/ids.ts";
import type { Peers } from "../peer/peers.ts";
import type { Packets } from "../route/packets.ts";
import type { Router } from "../route/router.ts";

export interface MeshParts {
  readonly router: Router;
  readonly peers: Peers;
  readonly packets: Packets;
  /** Blocked or revoked. */
  isRefused(id: NodeId): boolean;
}
