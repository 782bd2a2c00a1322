/** What a mesh is given and whom it tells: its seams to the node around it, real or simulated. */
import type { Clock, DialTerms, HostAddress, Log, Pipe, Random } from "@godwit/sdk";
import type { DhKey } from "../identity/keys.ts";
import type { NodeRecord } from "../identity/record.ts";
import type { Airtime } from "../kernel/airtime.ts";
import type { HeapBrake } from "../kernel/heap.ts";
import type { Heard, Teller } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Session } from "../link/types.ts";
import type { LiveSecret } from "../join/enrolment.ts";
import type { TrustLevel } from "../trust/book.ts";
import type { TrustRule } from "../trust/rules.ts";
import type { CustodyLimits, Sealer } from "../custody/context.ts";
import type { Store } from "../store/types.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { MeshEvents } from "./events.ts";

export interface MeshIdentity {
  readonly id: NodeId;
  readonly dh: DhKey;
  sign(bytes: Uint8Array): Uint8Array;
}

/** Rotating prekeys (identity/prekeys.ts). */
export interface PrekeySource {
  current(): { readonly keyId: number; readonly publicKey: Uint8Array };
}

/** What a mesh takes in anew while it runs. */
export interface MeshSettings {
  readonly limits: CustodyLimits;
  readonly names: ReadonlyMap<string, NodeId>;
  readonly trust: ReadonlyMap<NodeId, TrustLevel>;
  readonly trustRules: readonly TrustRule[];
  /** Linked time after which a good member becomes trusted, ms; undefined: nobody does. */
  readonly promoteAfterMs: number | undefined;
  /** The same for those behind an onion address that a discovery named. */
  readonly promoteOnionsAfterMs?: number | undefined;
  /** Between two looks of the peer manager at trust; undefined: a minute. */
  readonly reviewMs?: number | undefined;
  /** Links that the node seeks of its own accord among the members it hears of; 0: none. */
  readonly linksWanted: number;
  readonly destinationsMax?: number;
  /** Added to the cost of each link, ms. */
  readonly hopCostMs: number;
  /** Networks in CIDR notation that are dialled on another's word as well. */
  readonly dialNetworks: readonly string[];
}

/** The settings in it are those of the start; a part that uses one hears of others by `settingsChanged`. */
export interface MeshDeps extends MeshSettings {
  readonly identity: MeshIdentity;
  readonly network: string;
  /** Live network secrets, newest first; none: an open mesh. */
  liveSecrets(): readonly LiveSecret[];
  /** Signs names and revocations; none: names are pinned, and nodes revoke themselves only. */
  readonly authority?: NodeId | undefined;
  readonly callsign: string | undefined;
  readonly location: string | undefined;
  /** What its record says of the machine, as `RecordFields.capabilities`; none by default. */
  readonly tags?: readonly string[];
  readonly clock: Clock;
  /** What ends, and when. The mesh looks after it; whoever opened the store opened it. */
  readonly time: NodeTime;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Of the process, where it holds this one mesh; undefined: the engine does as it likes. */
  readonly heap?: HeapBrake;
  readonly store: Store;
  /** What control may take of channels that all in earshot share, handshakes among it; by default the mesh keeps one of its own. */
  readonly airtime?: Airtime;
  /** Some transport here can dial it. */
  canDial(endpoint: string): boolean;
  /** How many neighbours this machine has room for now. */
  neighboursMax?(): number;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** Built once the store is open: prekeys live there. */
  openSealing(
    recordOf: (id: NodeId) => NodeRecord | undefined,
  ): Promise<{ sealer: Sealer; prekeys: PrekeySource }>;
  /** Of this machine, as they are now. */
  addresses(): readonly HostAddress[];
  /** Opens a pipe to an endpoint of some transport; on `terms` where another named it. */
  dial(
    endpoint: string,
    signal: AbortSignal,
    expected: NodeId | undefined,
    terms: DialTerms | undefined,
  ): Promise<Pipe>;
  /** For a dial and its handshake together; undefined: the default. */
  dialTimeoutMs?(endpoint: string): number | undefined;
  handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session>;
  /** Where the mesh tells what happens. It listens there itself: one hub belongs to one mesh. */
  readonly events: Teller<MeshEvents> & Heard<MeshEvents>;
  /** A message of another node's own, opened and authenticated. Resolves when it need not come again. */
  system(from: NodeId, plaintext: Uint8Array): Promise<void>;
}
