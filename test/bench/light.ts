/**
 * The lower half of a node in the measuring process: real sessions over real TCP, the real neighbour code, and of the
 * routing protocol just what makes a real node believe in it. So one process can be 250 neighbours, or know 10,000
 * destinations, and leave the processor to the node under test.
 */
import type { Pipe, Timer } from "@godwit/sdk";
import { Lab, type LabNode } from "../../scripts/lab.ts";
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
import { UpdateWindow } from "../../runtime/route/window.ts";
import { noRegard } from "../../runtime/trust/testing.ts";
import { Writer } from "../../runtime/wire/bytes.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import {
  ALL_BUCKETS,
  appendUpdateEntry,
  beginUpdate,
  decodeRecordRequest,
  decodeRouteAck,
  decodeRouteResync,
  decodeUpdateHeader,
  encodeRecordReply,
  encodeRouteAck,
  encodeRouteResync,
  seqnoSigningBytes,
  UPDATE_ENTRY_BYTES_MAX,
  UPDATE_HEADER_BYTES,
  type SeqnoProof,
} from "../../runtime/wire/route-messages.ts";

export const NETWORK = "lab";
const SEQNO = 2 ** 24;
const ENTRIES_PER_UPDATE = 60;
/** How long it waits before it says updates again: as the protocol has it. */
const SAY_AGAIN_MS = 2_000;
const SAY_AGAIN_DOUBLED_MAX = 3;
/** From the end of its link to its next dial. */
const COME_BACK_MS = 1_000;

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

/** How a light node speaks of what it leads to. */
export interface Telling {
  /** 0.1 ms units. */
  readonly metric: number;
  /** Of the bulk plane, where that is another way. */
  readonly bulkMetric?: number;
  /** With proofs, as to one who has none of them. */
  readonly hasProofs: boolean;
}

const PLAIN: Telling = { metric: 20, hasProofs: true };

/** The entries of updates, encoded once for all light nodes that say the same. */
export class News {
  readonly bodies: readonly Uint8Array[];

  constructor(destinations: readonly Destination[], { metric, bulkMetric = metric, hasProofs }: Telling) {
    const bodies: Uint8Array[] = [];
    for (let start = 0; start < destinations.length; start += ENTRIES_PER_UPDATE) {
      const writer = new Writer(ENTRIES_PER_UPDATE * UPDATE_ENTRY_BYTES_MAX);
      for (const { id, proof } of destinations.slice(start, start + ENTRIES_PER_UPDATE)) {
        const route = { seqno: proof.seqno, metric, mtu: 61_440, bottleneck: 0 } as const;
        const bulk = { ...route, metric: bulkMetric };
        appendUpdateEntry(writer, id, route, bulk, hasProofs ? proof : undefined);
      }
      bodies.push(writer.finish());
    }
    this.bodies = bodies;
  }
}

export class LightNode {
  readonly identity = generateIdentity(systemRandom);
  readonly #record: Uint8Array;
  readonly #far: readonly Destination[];
  #bodies: readonly Uint8Array[];
  /** Bodies that are not acknowledged, in the order in which they are said. */
  #unsaid: Uint8Array[] = [];
  readonly #said = new Map<number, { readonly body: Uint8Array; readonly atMs: number }>();
  #again: Timer | undefined;
  #timeouts = 0;
  #window = new UpdateWindow();
  #port = 0;
  #isStopped = false;
  readonly #peers: Peers;
  readonly #scope = new Scope("light node");
  readonly #guard = new HandshakeGuard(systemClock, systemRandom);
  readonly #tag = 1 + systemRandom.below(2 ** 31);
  #serial = 0;
  /** Packets that arrived, by `onPacket`. */
  onPacket: (bytes: Uint8Array) => void = () => {};
  onWritable: () => void = () => {};

  /** Beside itself it speaks for `far`, in the words of `news`. */
  constructor(far: readonly Destination[] = [], news = new News(far, PLAIN)) {
    const own = makeDestination(this.identity);
    this.#record = own.record;
    this.#far = far;
    this.#bodies = [...new News([own], { ...PLAIN, metric: 0 }).bodies, ...news.bodies];
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
      interfaceOf: () => undefined,
      recordOf: () => undefined,
      isBlocked: () => false,
      regard: noRegard,
      welcomeOf: () => "known" as const,
      events: {
        up: ({ id }) =>
          this.send(id, encodeRouteResync({ buckets: ALL_BUCKETS, ownTag: this.#tag, peerTag: 0 })),
        down: () => this.#comeBack(),
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
    this.#port = port;
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

  /** As any node does; it says everything anew. */
  #comeBack(): void {
    this.#peerTag = 0;
    this.#said.clear();
    if (this.#isStopped) return;
    systemClock.after(COME_BACK_MS, () => {
      if (!this.#isStopped) this.connect(this.#port).catch(() => this.#comeBack());
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#again?.cancel();
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
        this.#said.clear();
        this.#window = new UpdateWindow();
        this.#unsaid = [...this.#bodies];
        return this.#say(from);
      }
      case FrameType.routeAck: {
        const { tag, serial } = decodeRouteAck(bytes);
        if (tag !== this.#tag || !this.#said.delete(serial)) return;
        this.#timeouts = 0;
        this.#window.acknowledged();
        this.#say(from);
        return;
      }
      case FrameType.recordRequest: {
        const { destination } = decodeRecordRequest(bytes);
        const record =
          destination === this.id ? this.#record : this.#far.find(({ id }) => id === destination)?.record;
        if (record !== undefined) this.send(from, encodeRecordReply({ destination, record }));
        return;
      }
      default:
    }
  }

  #peerTag = 0;

  /** From now on it says this, too. */
  tell(to: NodeId, news: News): void {
    this.#bodies = [...this.#bodies, ...news.bodies];
    this.#unsaid.push(...news.bodies);
    this.#say(to);
  }

  /** The neighbour has acknowledged all that it was told. */
  get hasTold(): boolean {
    return this.#peerTag !== 0 && this.#unsaid.length === 0 && this.#said.size === 0;
  }

  #say(to: NodeId): void {
    while (this.#said.size < this.#window.frames) {
      const body = this.#unsaid.shift();
      if (body === undefined) break;
      const serial = ++this.#serial;
      const frame = beginUpdate(this.#peerTag, serial, UPDATE_HEADER_BYTES + body.length).bytes(body);
      this.#said.set(serial, { body, atMs: systemClock.monotonicMs() });
      this.send(to, frame.finish());
    }
    if (this.#said.size > 0) this.#again ??= systemClock.after(this.#waitMs, () => this.#sayAgain(to));
  }

  get #waitMs(): number {
    return SAY_AGAIN_MS * 2 ** this.#timeouts;
  }

  /** A hub reads so much of one neighbour and no more; what it passed over is not acknowledged. */
  #sayAgain(to: NodeId): void {
    this.#again = undefined;
    const beforeMs = systemClock.monotonicMs() - this.#waitMs;
    const before = this.#unsaid.length;
    for (const [serial, { body, atMs }] of this.#said) {
      if (atMs > beforeMs) continue;
      this.#said.delete(serial);
      this.#unsaid.push(body);
    }
    if (this.#unsaid.length > before) {
      this.#timeouts = Math.min(this.#timeouts + 1, SAY_AGAIN_DOUBLED_MAX);
      this.#window.late();
    }
    this.#say(to);
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

/** A hub of a lab of its own, and the destinations that its neighbours know; `close` ends all that was added. */
export interface HubLab {
  readonly node: LabNode;
  readonly destinations: readonly Destination[];
  readonly neighbours: LightNode[];
  close(): Promise<void>;
}

export async function openHub(routes: number): Promise<HubLab> {
  const lab = await Lab.create();
  const neighbours: LightNode[] = [];
  const close = async () => {
    for (const neighbour of neighbours) neighbour.stop();
    await lab.close();
  };
  try {
    const node = await lab.add({ callsign: "HUB-A" });
    await node.start();
    const destinations = Array.from({ length: routes }, () =>
      makeDestination(generateIdentity(systemRandom)),
    );
    return { node, destinations, neighbours, close };
  } catch (error) {
    await close();
    throw error;
  }
}
