/**
 * A member that means harm: it completes the handshake of an open mesh as any node may, speaks enough routing to be
 * heard, and from there sends what it likes.
 */
import { createHash } from "node:crypto";
import { generateIdentity, type Identity } from "../../runtime/identity/keys.ts";
import { encodeRecord } from "../../runtime/identity/record.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import type { NodeId } from "../../runtime/kernel/ids.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import type { Session } from "../../runtime/link/types.ts";
import { decodeBundleFrame, decodeOffer, encodeCustodyAck } from "../../runtime/wire/bundle.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { decodeProbe, encodeHello, encodeProbeReply } from "../../runtime/wire/peer-messages.ts";
import * as route from "../../runtime/wire/route-messages.ts";
import type { LabNode } from "../../scripts/lab.ts";
import { dialPipe } from "./dial.ts";

export interface MemberOptions {
  readonly network: string;
  readonly identity?: Identity;
  readonly callsign?: string;
  /** The address of loopback that it comes from. */
  readonly from?: string;
  /** Where its record says that it listens. */
  readonly endpoints?: readonly string[];
  /** The record that it says hello with; without it one of callsign and endpoints. */
  readonly record?: (identity: Identity) => Uint8Array;
  /** Sees every frame of the node. Borrowed. */
  readonly hears?: (frame: Uint8Array) => void;
  /** Acknowledges every bundle and drops it. */
  readonly isBlackHole?: boolean;
  /** Advertises metric 0 for these, again whenever it hears a newer number. */
  readonly attracts?: readonly NodeId[];
  /** Passes on, instead of dropping it, what it acknowledged; false: it drops this one as well. */
  readonly passOn?: (id: string, frame: Uint8Array) => boolean;
}

export class Member {
  readonly identity: Identity;
  readonly #options: MemberOptions;
  readonly #bootId: Uint8Array;
  readonly #tag = 1 + systemRandom.below(0xffff_0000);
  #session: Session | undefined;
  #end: (() => void) | undefined;
  /** What frames to the node must carry; 0 until it said so. */
  #peerTag = 0;
  #serial = 0;
  #record: Uint8Array = new Uint8Array(0);
  /** The newest state of each destination that the node told. */
  readonly heard = new Map<NodeId, route.UpdateEntry>();
  /** Bundles swallowed. */
  swallowed = 0;
  isClosed = false;

  constructor(options: MemberOptions) {
    this.#options = options;
    this.identity = options.identity ?? generateIdentity(systemRandom);
    this.#bootId = systemRandom.bytes(8);
  }

  /** Handshake and hello. Another `bootId` passes for a restart. */
  async join(node: Pick<LabNode, "linkPort">, bootId = this.#bootId): Promise<this> {
    const { network, callsign, endpoints, from, record: recordOf } = this.#options;
    const { pipe, end } = await dialPipe(node.linkPort, from);
    this.#end = end;
    const session = await openSession(
      pipe,
      {
        role: "initiator",
        identity: this.identity,
        network,
        secrets: [],
        clock: systemClock,
        random: systemRandom,
        guard: new HandshakeGuard(systemClock, systemRandom),
      },
      AbortSignal.timeout(10_000),
    );
    this.#session = session;
    this.isClosed = false;
    session.open({
      frame: (bytes) => this.#onFrame(bytes),
      drain() {},
      closed: () => (this.isClosed = true),
    });
    const fields = {
      sequence: Date.now(),
      ...(callsign === undefined ? {} : { callsign }),
      ...(endpoints === undefined ? {} : { endpoints }),
    };
    const record = recordOf?.(this.identity) ?? encodeRecord(this.identity, fields, network);
    this.#record = record;
    this.send(
      encodeHello({ versionMin: 1, versionMax: 1, bootId, storeEpoch: systemRandom.bytes(8), record }),
    );
    return this;
  }

  /** False: the node closed the link or there is no room. */
  send(frame: Uint8Array): boolean {
    const session = this.#session;
    if (session === undefined || this.isClosed) return false;
    const hasRoom = session.send(frame);
    session.flush();
    return hasRoom;
  }

  /** Resolves when the routing of both ends has met, so that updates are read. */
  async meet(): Promise<void> {
    this.send(
      route.encodeRouteResync({ buckets: route.ALL_BUCKETS, ownTag: this.#tag, peerTag: this.#peerTag }),
    );
    for (let i = 0; i < 500 && this.#peerTag === 0 && !this.isClosed; i++) await Bun.sleep(10);
    if (this.#peerTag === 0) throw new Error("the node never told its tag");
  }

  /** Updates of at most 80 entries. Answers how many entries the link took. */
  async advertise(entries: Iterable<Omit<route.UpdateEntry, "bulk">>): Promise<number> {
    let [writer, count, total] = [this.#begin(), 0, 0];
    for (const { destination, any, proof } of entries) {
      route.appendUpdateEntry(writer, destination, any, any, proof);
      total++;
      if (++count < 80) continue;
      if (!this.send(writer.finish())) await Bun.sleep(20);
      if (this.isClosed) return total;
      [writer, count] = [this.#begin(), 0];
    }
    if (count > 0) this.send(writer.finish());
    return total;
  }

  /** A route to itself, as any node tells it, with its record. */
  async advertiseItself(): Promise<void> {
    const { id } = this.identity;
    const seqno = Date.now();
    const recordHash = new Uint8Array(createHash("sha256").update(this.#record).digest().subarray(0, 8));
    const signature = this.identity.sign(
      route.seqnoSigningBytes(this.#options.network, id, seqno, recordHash),
    );
    const any = { seqno, metric: 0, mtu: 61_440, bottleneck: 0 as const };
    await this.advertise([{ destination: id, any, proof: { seqno, recordHash, signature } }]);
  }

  leave(): void {
    this.#session?.close();
    this.#end?.();
  }

  #begin = () => route.beginUpdate(this.#peerTag, ++this.#serial, 16_384);

  #onFrame(bytes: Uint8Array): void {
    this.#options.hears?.(bytes);
    switch (bytes[0] ?? 0) {
      case FrameType.probe:
        return void this.send(encodeProbeReply(decodeProbe(bytes)));
      case FrameType.recordRequest: {
        const frame = route.encodeRecordReply({ destination: this.identity.id, record: this.#record });
        return void this.send(frame);
      }
      case FrameType.routeResync:
        return this.#onResync(route.decodeRouteResync(bytes));
      case FrameType.routeUpdate:
        return this.#onUpdate(bytes);
      case FrameType.bundle:
        if (this.#options.isBlackHole === true) this.#swallow(decodeBundleFrame(bytes).bundle.id, bytes);
        return;
      case FrameType.offer:
        if (this.#options.isBlackHole === true) this.#swallow(decodeOffer(bytes).id, bytes);
        return;
    }
  }

  #swallow(id: Parameters<typeof encodeCustodyAck>[0][number], frame: Uint8Array): void {
    if (this.#options.passOn?.(id, frame.slice()) !== true) this.swallowed++;
    this.send(encodeCustodyAck([id]));
  }

  #onResync({ ownTag, peerTag }: route.RouteResync): void {
    this.#peerTag = ownTag;
    if (peerTag !== this.#tag)
      this.send(route.encodeRouteResync({ buckets: route.ALL_BUCKETS, ownTag: this.#tag, peerTag: ownTag }));
  }

  #onUpdate(frame: Uint8Array): void {
    const { tag, serial, entries, kind } = route.decodeUpdateHeader(frame.slice());
    if (kind !== route.UpdateKind.table || tag !== this.#tag) return;
    const lies: Omit<route.UpdateEntry, "bulk">[] = [];
    while (entries.remaining > 0) {
      const entry = route.readUpdateEntry(entries);
      const known = this.heard.get(entry.destination);
      const proof = entry.proof ?? known?.proof;
      this.heard.set(entry.destination, { ...entry, proof });
      if (proof === undefined || this.#options.attracts?.includes(entry.destination) !== true) continue;
      const any = { seqno: proof.seqno, metric: 0, mtu: 61_440, bottleneck: 0 as const };
      lies.push({ destination: entry.destination, any, proof });
    }
    if (lies.length > 0) void this.advertise(lies);
    this.send(route.encodeRouteAck({ tag: this.#peerTag, serial }));
  }
}
