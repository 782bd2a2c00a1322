/** A judge of what others name, and free identities at a table's own door. For tests only. */
import { formatNodeId, type NodeId } from "./ids.ts";
import { Metrics } from "./metrics.ts";
import { NamedPlaces, type NamedPlacesDeps } from "./named-places.ts";
import { type Regard, Room, type Share, type Worth } from "./room.ts";

/** Judges what others name, on a machine without addresses unless `change` says so. */
export const openPlaces = (change: Partial<NamedPlacesDeps> = {}): NamedPlaces =>
  new NamedPlaces({
    metrics: new Metrics(),
    addresses: () => [],
    allowed: [],
    isOnThisMachine: () => false,
    isMachineAlone: () => false,
    ...change,
  });

/** Free identities that knock where all of them together would take longer than a second: `GODWIT_DOORS=all` for 100,000. */
export const DOOR_IDENTITIES = process.env["GODWIT_DOORS"] === "all" ? 100_000 : 10_000;
/** For a test of one of these, ms. */
export const DOOR_TEST_MS = 120_000;

/** The source address that all throw-away identities have. */
export const FLOOD = "192.0.2.1";

/** One of many ids; the first four bytes tell them apart. */
export function doorId(n: number): NodeId {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
}

/** Knows some, is linked to some, and takes everybody else for a stranger of the flood unless their source is said. */
export class DoorRegard implements Regard {
  readonly known = new Set<NodeId>();
  readonly linked = new Set<NodeId>();
  readonly sources = new Map<NodeId, string>();

  isKnown(id: NodeId): boolean {
    return this.known.has(id);
  }

  worthOf(id: NodeId): Worth {
    return this.known.has(id) || this.linked.has(id) ? "kept" : "none";
  }

  shareOf(id: NodeId): Share {
    if (this.known.has(id)) return { by: id, isKnown: true };
    return { by: this.sources.get(id) ?? FLOOD, isKnown: false };
  }

  wrote(id: NodeId): void {
    this.known.add(id);
  }

  waits(): void {}
}

export const stranger = (by: string): Share => ({ by, isKnown: false });
export const known = (by: string): Share => ({ by, isKnown: true });

export function room(max: number, worth: (key: string) => Worth = () => "none") {
  const gone: string[] = [];
  const made = new Room<string>({ name: "x", max, worthOf: worth, evict: (key) => gone.push(key) });
  return { room: made, gone };
}
