/** A router alone, told by neighbours that a test plays. For tests only. */
import { createHash } from "node:crypto";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { FrameType } from "../wire/constants.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeRouteResync,
  decodeUpdateHeader,
  encodeRouteAck,
  encodeRouteResync,
  readUpdateEntry,
  seqnoSigningBytes,
  type PlaneRoute,
  type UpdateEntry,
} from "../wire/route-messages.ts";
import type { Regard } from "../kernel/room.ts";
import { type RouteLimits } from "./limits.ts";
import type { LinkCost } from "./neighbour.ts";
import { Router, type RouteChange } from "./router.ts";

export const idOf = (n: number): NodeId => {
  const bytes = new Uint8Array(32).fill(n >> 8);
  bytes[0] = n & 255;
  bytes[1] = n >> 8;
  return formatNodeId(bytes);
};
export const sign = (id: NodeId, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha512").update(id).update(bytes).digest());
export const fast: LinkCost = { cost: 10, mtu: 1_400, bottleneck: 0, profile: "fast" };

export class Rig {
  readonly clock = new ManualClock();
  readonly sent: { to: NodeId; frame: Uint8Array; atMs: number }[] = [];
  readonly changes: RouteChange[] = [];
  readonly epochs: number[] = [];
  readonly malformed: NodeId[] = [];
  readonly records = new Map<NodeId, Uint8Array>();
  readonly router: Router;
  verifications = 0;
  /** What one takes. */
  verifyMs = 0;
  isDefaultThere = false;
  ownRecord: Uint8Array | undefined;
  readonly #serials = new Map<NodeId, number>();

  isOutrun = false;
  /** Whether mail waits, when the router asks. */
  isWaiting: (destination: NodeId) => boolean = () => false;

  constructor(
    self: NodeId,
    { seed = 1, regard, ...limits }: Partial<RouteLimits> & { seed?: number; regard?: Regard } = {},
  ) {
    this.router = new Router({
      self,
      ...(regard === undefined ? {} : { regard }),
      network: "test",
      bootEpoch: 3,
      clock: this.clock,
      random: seededRandom(seed),
      log: silentLog,
      limits,
      ...(regard === undefined ? {} : { regard }),
      sign: (bytes) => sign(self, bytes),
      verify: (id, bytes, signature) => {
        this.verifications++;
        this.clock.jumpTo(this.clock.monotonicMs() + this.verifyMs);
        return Buffer.from(sign(id, bytes)).equals(signature);
      },
      send: (to, frame) => void this.sent.push({ to, frame, atMs: this.clock.monotonicMs() }),
      malformed: (from) => void this.malformed.push(from),
      onChange: (change) => void this.changes.push(change),
      ownRecord: () => this.ownRecord,
      knownRecord: (id) => {
        const bytes = this.records.get(id);
        if (bytes === undefined) return undefined;
        return { hash: new Uint8Array(createHash("sha256").update(bytes).digest().subarray(0, 8)), bytes };
      },
      onRecord: (id, bytes) => {
        if (bytes[0] === 0xbad) return false;
        this.records.set(id, bytes.slice());
        return true;
      },
      onWaiting: (destination) => {
        if (this.isWaiting(destination)) this.router.wantPath(destination, false);
      },
      outrun: (epoch) => {
        this.epochs.push(epoch);
        return this.isOutrun ? undefined : epoch + 1;
      },
      onDefaultRoute: (isThere) => void (this.isDefaultThere = isThere),
    });
  }

  /** A neighbour whose frames are made by hand; its tag is 77. */
  meet(id: NodeId, cost: LinkCost = fast, bootId = "1"): void {
    this.router.neighbourUp(id, { bootId, cost });
    if (cost.profile === "slow") return;
    this.router.handleFrame(id, encodeRouteResync({ buckets: 0, ownTag: 77, peerTag: this.tagFor(id) }));
  }

  tagFor(id: NodeId): number {
    const frames = this.sent.filter(({ to, frame }) => to === id && frame[0] === FrameType.routeResync);
    return decodeRouteResync(frames.at(-1)!.frame).ownTag;
  }

  tell(from: NodeId, entries: readonly UpdateEntry[], serial = (this.#serials.get(from) ?? 0) + 1): void {
    this.#serials.set(from, Math.max(serial, this.#serials.get(from) ?? 0));
    const writer = beginUpdate(this.tagFor(from), serial, 200 * entries.length + 20);
    for (const { destination, any, bulk, proof } of entries)
      appendUpdateEntry(writer, destination, any, bulk, proof);
    this.router.handleFrame(from, writer.finish());
    // A turn for each.
    this.run(0);
  }

  acknowledge(from: NodeId): void {
    for (const { to, frame } of [...this.sent]) {
      if (to !== from || frame[0] !== FrameType.routeUpdate) continue;
      const { serial } = decodeUpdateHeader(frame);
      this.router.handleFrame(from, encodeRouteAck({ tag: this.tagFor(from), serial }));
    }
  }

  /** Entries told to a neighbour since `from` (index into `sent`). */
  told(to: NodeId, from = 0): { atMs: number; entry: UpdateEntry }[] {
    return this.sent.slice(from).flatMap(({ to: id, frame, atMs }) => {
      if (id !== to || frame[0] !== FrameType.routeUpdate || frame[1] !== 0) return [];
      const { entries } = decodeUpdateHeader(frame);
      const found: { atMs: number; entry: UpdateEntry }[] = [];
      while (entries.remaining > 0) found.push({ atMs, entry: readUpdateEntry(entries) });
      return found;
    });
  }

  /** Whom it asked for records, in order. */
  recordsAsked(): NodeId[] {
    return this.sent.filter(({ frame }) => frame[0] === FrameType.recordRequest).map(({ to }) => to);
  }

  run(forMs: number): void {
    const untilMs = this.clock.monotonicMs() + forMs;
    while (this.clock.runNext(untilMs));
    this.clock.jumpTo(untilMs);
  }
}

export const noHash = new Uint8Array(8);
export function offer(
  destination: NodeId,
  metric: number,
  seqno = 100,
  hash: Uint8Array = noHash,
): UpdateEntry {
  const any: PlaneRoute = { seqno, metric, mtu: 1_400, bottleneck: 0 };
  const signature = sign(destination, seqnoSigningBytes("test", destination, seqno, hash));
  return { destination, any, bulk: any, proof: { seqno, recordHash: hash, signature } };
}

export const [S, A, B, C, D, E] = [1, 2, 3, 4, 5, 6].map(idOf) as [
  NodeId,
  NodeId,
  NodeId,
  NodeId,
  NodeId,
  NodeId,
];
