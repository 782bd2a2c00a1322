/**
 * The lower half of a node in the measuring process: real sessions over real TCP, the real neighbour code, and of the
 * routing protocol just what makes a real node believe in it. So one process can be 250 neighbours, or know 10,000
 * destinations, and leave the processor to the node under test.
 */
import type { Pipe } from "@godwit/sdk";
import { TcpPipe, type SocketState } from "@godwit/sdk/tcp";
import { generateIdentity, type Identity } from "../../runtime/identity/keys.ts";
import { encodeRecord } from "../../runtime/identity/record.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import type { NodeId } from "../../runtime/kernel/ids.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { Scope } from "../../runtime/kernel/scope.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import { GoodbyeReason } from "../../runtime/wire/peer-messages.ts";
import { Peers } from "../../runtime/peer/peers.ts";
import { recordHash } from "../../runtime/route/origin.ts";
import { noRegard } from "../../runtime/trust/testing.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import {
  ALL_BUCKETS,
  appendUpdateEntry,
  beginUpdate,
  decodeRecordRequest,
  decodeRouteResync,
  decodeUpdateHeader,
  encodeRecordReply,
  encodeRouteAck,
  encodeRouteResync,
  seqnoSigningBytes,
  UPDATE_ENTRY_BYTES_MAX,
  type SeqnoProof,
} from "../../runtime/wire/route-messages.ts";

export const NETWORK = "lab";
const SEQNO = 2 ** 24;
const ENTRIES_PER_UPDATE = 60;

/** A destination that a light node speaks for. */
export interface Destination {
  readonly id: NodeId;
  readonly record: Uint8Array;
  readonly proof: SeqnoProof;
}

export function makeDestination(identity: Identity): Destination {
  const fields = {
    sequence: 1,
    callsign: undefined,
    location: undefined,
    endpoints: [],
    capabilities: [],
    prekey: undefined,
  };
  const record = encodeRecord(identity, fields, NETWORK);
  const hash = recordHash(record);
  const signature = identity.sign(seqnoSigningBytes(NETWORK, identity.id, SEQNO, hash));
  return { id: identity.id, record, proof: { seqno: SEQNO, recordHash: hash, signature } };
}

export class LightNode {
  readonly identity = generateIdentity(systemRandom);
  readonly #destinations: ReadonlyMap<NodeId, Destination>;
  readonly #peers: Peers;
  readonly #scope = new Scope("light node");
  readonly #guard = new HandshakeGuard(systemClock, systemRandom);
  readonly #tag = 1 + systemRandom.below(2 ** 31);
  #serial = 0;
  /** Packets that arrived, by `onPacket`. */
  onPacket: (bytes: Uint8Array) => void = () => {};
  onWritable: () => void = () => {};

  constructor(extra: readonly Destination[] = []) {
    const own = makeDestination(this.identity);
    this.#destinations = new Map([own, ...extra].map((destination) => [destination.id, destination]));
    const storeEpoch = systemRandom.bytes(8);
    this.#peers = new Peers({
      self: this.identity.id,
      clock: this.#scope.clock(systemClock),
      random: systemRandom,
      log: silentLog,
      metrics: new Metrics(),
      signal: this.#scope.signal,
      bootId: systemRandom.bytes(8),
      helloEpoch: () => storeEpoch,
      isStandingDown: () => false,
      ownRecord: () => own.record,
      isBlocked: () => false,
      regard: noRegard,
      welcomeOf: () => "known" as const,
      events: {
        up: ({ id }) =>
          this.send(id, encodeRouteResync({ buckets: ALL_BUCKETS, ownTag: this.#tag, peerTag: 0 })),
        down() {},
        linkUp() {},
        linkDown() {},
        measured() {},
        frame: ({ id }, type, bytes) => this.#onFrame(id, type, bytes),
        record() {},
        writable: () => this.onWritable(),
      },
    });
  }

  get id(): NodeId {
    return this.identity.id;
  }

  /** False: the lanes to the neighbour are full. */
  send(to: NodeId, frame: Uint8Array): boolean {
    return this.#peers.get(to)?.send("control", frame) ?? false;
  }

  sendData(to: NodeId, frame: Uint8Array): boolean {
    return this.#peers.get(to)?.send(2, frame) ?? false;
  }

  /** What was sent goes now, in a record and a write of its own, and not with the others of this turn. */
  flush(to: NodeId): void {
    this.#peers.get(to)?.best?.session.flush();
  }

  /** Resolves with the neighbour's id once the session stands. */
  async connect(port: number): Promise<NodeId> {
    const pipe = await dial(port);
    const session = await openSession(
      pipe,
      {
        role: "initiator",
        identity: this.identity,
        network: NETWORK,
        secrets: [],
        clock: systemClock,
        random: systemRandom,
        guard: this.#guard,
      },
      AbortSignal.timeout(10_000),
    );
    this.#peers.adopt(session);
    return session.remote;
  }

  stop(): void {
    this.#peers.disconnectAll(GoodbyeReason.stopping);
    void this.#scope.close();
  }

  #onFrame(from: NodeId, type: number, bytes: Uint8Array): void {
    switch (type) {
      case FrameType.packet:
        return this.onPacket(bytes);
      case FrameType.routeUpdate: {
        const { tag, serial } = decodeUpdateHeader(bytes);
        if (tag === this.#tag) this.send(from, encodeRouteAck({ tag: this.#peerTag, serial }));
        return;
      }
      case FrameType.routeResync: {
        const { ownTag, peerTag } = decodeRouteResync(bytes);
        if (peerTag !== this.#tag)
          this.send(from, encodeRouteResync({ buckets: 0, ownTag: this.#tag, peerTag: ownTag }));
        if (ownTag === this.#peerTag) return;
        this.#peerTag = ownTag;
        return this.#tell(from);
      }
      case FrameType.recordRequest: {
        const { destination } = decodeRecordRequest(bytes);
        const known = this.#destinations.get(destination);
        if (known !== undefined) this.send(from, encodeRecordReply({ destination, record: known.record }));
        return;
      }
      default:
    }
  }

  #peerTag = 0;

  #tell(to: NodeId): void {
    const all = [...this.#destinations.values()];
    for (let start = 0; start < all.length; start += ENTRIES_PER_UPDATE) {
      const writer = beginUpdate(
        this.#peerTag,
        ++this.#serial,
        32 + ENTRIES_PER_UPDATE * UPDATE_ENTRY_BYTES_MAX,
      );
      for (const { id, proof } of all.slice(start, start + ENTRIES_PER_UPDATE)) {
        const route = {
          seqno: proof.seqno,
          metric: id === this.id ? 0 : 20,
          mtu: 61_440,
          bottleneck: 0,
        } as const;
        appendUpdateEntry(writer, id, route, route, proof);
      }
      this.send(to, writer.finish());
    }
  }
}

function dial(port: number): Promise<Pipe> {
  return new Promise((resolve, reject) => {
    const state: SocketState = {
      pipe: undefined,
      onOpen(socket) {
        state.pipe = new TcpPipe(socket, "outbound", "tcp", {
          after: (delayMs, fn) => systemClock.after(delayMs, fn),
          onProven() {},
          onOver() {},
        });
        resolve(state.pipe);
      },
    };
    Bun.connect<SocketState>({
      hostname: "127.0.0.1",
      port,
      data: state,
      socket: {
        open: (socket) => socket.data.onOpen(socket),
        data: (socket, bytes) => socket.data.pipe?.onData(bytes),
        drain: (socket) => socket.data.pipe?.onDrain(),
        close: (socket, error) => socket.data.pipe?.onGone(error),
        error: (socket, error) => socket.data.pipe?.onGone(error),
      },
    }).catch(reject);
  });
}
