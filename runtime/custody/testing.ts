/** A few Custody objects over wires that tests bend, memory stores and one manual clock. For tests only. */
import { Hub } from "../kernel/hub.ts";
import { createHash } from "node:crypto";
import type { OutgoingMessage } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { GodwitError, godwitError } from "../kernel/errors.ts";
import { formatHex, formatNodeId, nodeIdBytes, type MessageId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { FRAME_BYTES_MAX, FrameType, type Priority } from "../wire/constants.ts";
import { packetAssociated } from "../wire/packet.ts";
import {
  custodyLimitsDefault,
  type Carrier,
  type CustodyContext,
  type CustodyLimits,
  type Directory,
  type HopChoice,
  type Presence,
  type Sealer,
  type SegmentOpening,
} from "./context.ts";
import { Custody, type CustodyEvents } from "./custody.ts";
import { BULK_BYTES } from "./forwarding/ready-queue.ts";
import type { OutboxEntry } from "./source/entry.ts";
import type { Outbox } from "./source/outbox.ts";
import { decodeEntry } from "./source/entry-row.ts";
import { parseProof } from "./source/proofs.ts";
import type { InboxEntry } from "./recipient/inbox.ts";
import { openMemoryStore, SimDisk, type MemoryStore } from "../store/memory.ts";
import { type TestTime, testTime } from "../time/testing.ts";

const WIRE_MS = 1;
const SEGMENT_BYTES = 65_519;
export const COMMIT_MS = 5;

const digest = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export const testId = (name: string): NodeId => {
  const bytes = digest(Buffer.from(name));
  bytes[31]! &= 0x7f;
  return formatNodeId(bytes);
};

/** Proves who signed what to whoever plays fair. */
export function testSign(id: NodeId, bytes: Uint8Array): Uint8Array {
  const half = digest(nodeIdBytes(id), bytes);
  return new Uint8Array([...half, ...half]);
}

const segmentsOf = (key: Uint8Array, sealedBytes: number): SegmentOpening => ({
  openingBytes: 8,
  segmentBytes: SEGMENT_BYTES,
  tagBytes: 0,
  plainBytes: sealedBytes - 8,
  key,
  segment: (_index, segment) => segment.slice(),
});

export function testSealer(self: NodeId): Sealer {
  const tag = (from: NodeId, to: NodeId, plaintext: Uint8Array, associated: Uint8Array) =>
    digest(nodeIdBytes(from), nodeIdBytes(to), associated, plaintext).subarray(0, 8);
  const seal = (to: NodeId, plaintext: Uint8Array, associated: Uint8Array) =>
    new Uint8Array(Buffer.concat([tag(self, to, plaintext, associated), plaintext]));
  return {
    keyFor: () => undefined,
    seal: (to, _under, plaintext, associated) => seal(to, plaintext, associated),
    sealOnce: seal,
    inSegments(to, _key, plaintextBytes, associated) {
      if (plaintextBytes <= SEGMENT_BYTES) return undefined;
      const hash = createHash("sha256");
      for (const part of [nodeIdBytes(self), nodeIdBytes(to), associated]) hash.update(part);
      return {
        tell: (part) => void hash.update(part),
        sealing: () => ({
          opening: new Uint8Array(hash.digest().subarray(0, 8)),
          segmentBytes: SEGMENT_BYTES,
          tagBytes: 0,
          segment(_index, plaintext, into) {
            if (into === undefined) return plaintext.slice();
            into.set(plaintext);
            return into.subarray(0, plaintext.length);
          },
        }),
      };
    },
    // Which key opens it is no secret here, and the tag at the beginning holds for all segments together.
    openInSegments(from, opening, sealedBytes, associated) {
      if (sealedBytes - 8 <= SEGMENT_BYTES) return undefined;
      const hash = createHash("sha256");
      for (const part of [nodeIdBytes(from), nodeIdBytes(self), associated]) hash.update(part);
      let told = 0;
      const expected = opening.slice(0, 8); // borrowed
      return {
        ...segmentsOf(new Uint8Array(32), sealedBytes),
        forwardSecret: false,
        segment(_index, segment) {
          hash.update(segment);
          told += segment.length;
          if (told === sealedBytes - 8 && !hash.digest().subarray(0, 8).equals(expected))
            throw godwitError("GODWIT_DECODE", "the seal does not open");
          return segment.slice();
        },
      };
    },
    segmentsUnder: segmentsOf,
    open(from, sealed, associated) {
      const plaintext = sealed.slice(8);
      if (!Buffer.from(tag(from, self, plaintext, associated)).equals(sealed.subarray(0, 8)))
        throw godwitError("GODWIT_DECODE", "the seal does not open");
      return { plaintext, forwardSecret: false };
    },
  };
}

export interface Sent {
  readonly from: string;
  readonly to: string;
  readonly type: number;
  readonly bytes: Uint8Array;
}

export class TestMesh {
  readonly clock = new ManualClock(1_800_000_000_000);
  readonly nodes = new Map<NodeId, TestNode>();
  readonly log: Sent[] = [];
  /** Connected pairs, as `a b` in order of names. */
  readonly #links = new Set<string>();
  /** Answers whether a frame arrives. */
  filter: (sent: Sent) => boolean = () => true;
  /** Answers whether the lane takes a frame. */
  hasRoom: (sent: Sent) => boolean = () => true;
  isReliable = true;
  patienceMs = 0;

  async add(name: string, limits: Partial<CustodyLimits> = {}): Promise<TestNode> {
    const node = new TestNode(this, name, limits);
    this.nodes.set(node.id, node);
    await node.start();
    return node;
  }

  /** A line of nodes, connected, each routing along it. */
  async line(names: readonly string[], limits: Partial<CustodyLimits> = {}): Promise<TestNode[]> {
    const nodes: TestNode[] = [];
    for (const name of names) nodes.push(await this.add(name, limits));
    nodes.forEach((node, i) => {
      nodes.forEach((other, j) => {
        if (i !== j) node.routes.set(other.id, [nodes[i < j ? i + 1 : i - 1]!.id]);
      });
      if (i > 0) this.connect(nodes[i - 1]!, node);
    });
    return nodes;
  }

  isLinked(a: TestNode, b: TestNode): boolean {
    return this.#links.has(keyOf(a, b)) && a.custody !== undefined && b.custody !== undefined;
  }

  connect(a: TestNode, b: TestNode): void {
    this.#links.add(keyOf(a, b));
    if (!this.isLinked(a, b)) return;
    a.custody!.onNeighbourUp(b.id, b.epochHex);
    b.custody!.onNeighbourUp(a.id, a.epochHex);
    a.reroute();
    b.reroute();
  }

  cut(a: TestNode, b: TestNode): void {
    if (!this.#links.delete(keyOf(a, b))) return;
    a.custody?.onNeighbourDown(b.id);
    b.custody?.onNeighbourDown(a.id);
  }

  linksOf(node: TestNode): TestNode[] {
    return [...this.nodes.values()].filter((other) => other !== node && this.#links.has(keyOf(node, other)));
  }

  send(from: TestNode, to: NodeId, frame: Uint8Array): boolean {
    const target = this.nodes.get(to);
    if (target === undefined || !this.isLinked(from, target)) return false;
    const sent = { from: from.name, to: target.name, type: frame[0]!, bytes: frame.slice() };
    if (!this.hasRoom(sent)) return false;
    this.log.push(sent);
    if (!this.filter(sent)) return true;
    this.clock.after(WIRE_MS, () => {
      if (this.isLinked(from, target)) target.receive(from.id, sent.bytes);
    });
    return true;
  }

  /** Along the routes, without custody on the way. */
  sendPacket(
    from: TestNode,
    to: NodeId,
    kind: number,
    payload: Uint8Array,
    priority: Priority,
  ): "sent" | "no_route" | "no_room" {
    const target = this.nodes.get(to);
    const sent = {
      from: from.name,
      to: target?.name ?? "nobody",
      type: FrameType.packet,
      bytes: payload.slice(),
    };
    if (target === undefined || (target !== from && !from.routes.has(to))) return "no_route";
    if (!this.hasRoom(sent)) return "no_room";
    this.log.push(sent);
    this.clock.after(WIRE_MS, () => {
      const associated = packetAssociated({ kind, destination: to, source: from.id });
      if (this.filter(sent)) target.custody?.deliverTransient(from.id, sent.bytes, associated, priority);
    });
    return "sent";
  }

  count(type: keyof typeof FrameType, between?: string): number {
    return this.log.filter(
      (sent) =>
        sent.type === FrameType[type] && (between === undefined || between === `${sent.from}>${sent.to}`),
    ).length;
  }
}

/** What an outbox has of a message, in memory or on its disk, without waiting. */
export function sentOf(
  outbox: Pick<Outbox, "peek"> | undefined,
  disk: SimDisk,
  id: string,
): OutboxEntry | undefined {
  const shown = outbox?.peek(id as MessageId);
  const row = disk.rows("outbox").get(id);
  if (shown !== undefined || row === undefined) return shown;
  return decodeEntry(id, row.meta, (name) => parseProof(disk.rows("proof").get(name)?.meta ?? ""));
}

/** The row of an entry as releases before 0.3 wrote it. */
export function namedRow({ receipt, ...entry }: OutboxEntry): Record<string, unknown> {
  const { encoded, proof, ...told } = receipt ?? {};
  return {
    ...entry,
    receipt:
      encoded === undefined
        ? null
        : {
            ...told,
            receiptHex: formatHex(encoded),
            hashesHex: proof?.hashes.map(formatHex),
            signatureHex: formatHex(proof!.signature),
          },
  };
}

const keyOf = (a: TestNode, b: TestNode): string => [a.name, b.name].sort().join(" ");

export class TestNode {
  readonly name: string;
  readonly id: NodeId;
  readonly mesh: TestMesh;
  readonly limits: CustodyLimits;
  disk = new SimDisk();
  /** Neighbours that lead to a destination, best first. */
  readonly routes = new Map<NodeId, readonly NodeId[]>();
  /** What names mean here, besides node ids. */
  readonly names = new Map<string, readonly NodeId[]>();
  readonly delivered: { entry: InboxEntry; text: string }[] = [];
  readonly system: { from: NodeId; plaintext: Uint8Array }[] = [];
  readonly refused = new Set<NodeId>();
  isContested = false;
  readonly #presence = new Map<NodeId, ReturnType<Presence["of"]>>();
  readonly #watchers = new Set<(id: NodeId) => void>();
  /** Whether a way over that neighbour is fit for large bundles. */
  takesBulk: (neighbour: NodeId) => boolean = () => true;
  /** Configured, or written to. */
  readonly known = new Set<NodeId>();
  /** Of strangers; each is a source of its own unless a test says otherwise. */
  sourceOf: (id: NodeId) => string = (id) => id;
  /** A name for each that a full table refused. */
  readonly fullTables: string[] = [];
  readonly states: string[] = [];
  readonly progress: (CustodyEvents["outboxProgress"] & { readonly atMs: number })[] = [];
  /** Seeds what a life draws: the same again is a resumed snapshot. */
  life = 0;
  /** Codes of errors that frames of others raised. */
  readonly protocolErrors: string[] = [];
  epochHex = "";
  custody: Custody | undefined;
  /** Of the life that runs, or of the last one. */
  metrics = new Metrics();
  store: MemoryStore | undefined;
  /** Of the life that runs, or of the last one. */
  time: TestTime;
  sealer: Sealer;
  #epoch: Uint8Array;

  constructor(mesh: TestMesh, name: string, limits: Partial<CustodyLimits>) {
    this.mesh = mesh;
    this.name = name;
    this.id = testId(name);
    this.limits = { ...custodyLimitsDefault, ...limits };
    this.sealer = testSealer(this.id);
    this.time = testTime(mesh.clock);
    this.#epoch = digest(Buffer.from(`epoch ${name}`)).slice(0, 8);
    this.epochHex = formatHex(this.#epoch);
  }

  /** What this node knows of whether another is there. */
  knows(node: TestNode, presence: ReturnType<Presence["of"]>): void {
    this.#presence.set(node.id, presence);
    for (const watcher of this.#watchers) watcher(node.id);
  }

  /** From the disk, and back on its links. */
  async start(): Promise<void> {
    this.life++;
    const { clock } = this.mesh;
    this.time = testTime(clock, this.time.kept, this.time.vouchedMs);
    const random = seededRandom(this.name.charCodeAt(0));
    this.store = await openMemoryStore(this.disk, { clock, random, commitDelayMs: COMMIT_MS });
    const events = new Hub<CustodyEvents>((_, error) => {
      throw error;
    });
    events.on("delivered", ({ entry, body }) =>
      this.delivered.push({ entry, text: Buffer.from(body).toString("latin1").slice(0, 64) }),
    );
    events.on("outboxChanged", ({ state }) => this.states.push(state));
    events.on("outboxProgress", (told) => this.progress.push({ ...told, atMs: clock.monotonicMs() }));
    const custody = new Custody(this.#context(), {
      events,
      system: async (from, plaintext) => void this.system.push({ from, plaintext: plaintext.slice() }),
      ways: { handed() {}, returned() {}, testAnswered() {} },
    });
    const loading = custody.load();
    await this.settle(loading);
    this.time.time.onPassed = () => custody.onTimePassed();
    this.custody = custody;
    for (const other of this.mesh.linksOf(this)) this.mesh.connect(this, other);
  }

  /** The power goes: unsynced writes may be lost, and the running time of this life with `losesTime`. */
  crash({ losesTime = false } = {}): void {
    if (!losesTime) void this.time.time.save(true);
    this.custody?.stop();
    this.custody = undefined;
    this.disk.crash();
    for (const other of this.mesh.linksOf(this)) other.custody?.onNeighbourDown(this.id);
  }

  /** Another disk and another epoch. */
  destroy(): void {
    this.crash();
    this.disk.destroy();
    this.#epoch = digest(this.#epoch).slice(0, 8);
    this.epochHex = formatHex(this.#epoch);
  }

  /** What the outbox shows of a message. */
  sent(id: string): OutboxEntry | undefined {
    const entry = sentOf(this.custody?.outbox, this.disk, id);
    if (entry !== undefined) entry.epoch ??= this.epochHex;
    return entry;
  }

  async settle<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false;
    promise.then(
      () => (isSettled = true),
      () => (isSettled = true),
    );
    for (let i = 0; i < 200; i++) {
      if (isSettled) break;
      await this.mesh.clock.advance(1);
    }
    if (!isSettled) throw new Error("did not settle in 200 ms");
    return promise;
  }

  send(to: string, text: string | Uint8Array, more: Partial<OutgoingMessage> = {}): Promise<MessageId> {
    const body = typeof text === "string" ? Buffer.from(text) : text;
    return this.settle(Promise.resolve().then(() => this.custody!.send({ to, body, ...more })));
  }

  /** Something about routes changed. */
  reroute(): void {
    for (const destination of this.routes.keys()) this.custody?.onRoute(destination);
  }

  receive(from: NodeId, frame: Uint8Array): void {
    try {
      this.custody?.onFrame(from, frame[0]!, frame);
    } catch (error) {
      if (!(error instanceof GodwitError)) throw error;
      this.protocolErrors.push(error.code);
    }
  }

  #context(): CustodyContext {
    const { clock } = this.mesh;
    this.metrics = new Metrics();
    return {
      self: this.id,
      network: "test",
      clock,
      time: this.time.time,
      random: seededRandom(this.name.charCodeAt(0) + 1_000 * this.life),
      log: silentLog,
      metrics: this.metrics,
      store: this.store!,
      storeEpoch: this.#epoch,
      limits: this.limits,
      sealer: this.sealer,
      directory: this.#directory(),
      carrier: this.#carrier(),
      sign: (bytes) => testSign(this.id, bytes),
      verify: (id, bytes, signature) => Buffer.from(testSign(id, bytes)).equals(signature),
      isRefused: (id) => this.refused.has(id),
      isContested: () => this.isContested,
      presence: {
        of: (id) => this.#presence.get(id) ?? "there",
        watch: (fn) => {
          this.#watchers.add(fn);
          return () => void this.#watchers.delete(fn);
        },
      },
      regard: {
        isKnown: (id) => this.known.has(id),
        worthOf: (id) => (this.known.has(id) || this.#isUp(id) ? "kept" : "none"),
        shareOf: (neighbour) => {
          const isKnown = this.known.has(neighbour);
          return { by: isKnown ? neighbour : this.sourceOf(neighbour), isKnown };
        },
        wrote: (id) => void this.known.add(id),
        waits() {},
      },
      fullTables: { refused: (table) => void this.fullTables.push(table) },
    };
  }

  #directory(): Directory {
    return {
      canonical: (text) => text,
      nodeOf: (text) => {
        const named = this.names.get(text);
        if (named?.length === 1) return named[0]!;
        if (this.mesh.nodes.has(text as NodeId)) return text as NodeId;
        throw godwitError("GODWIT_NAME_UNKNOWN", `no node called ${text}`);
      },
      resolve: (address) => {
        const named = this.names.get(address);
        if (named !== undefined) return { kind: "nodes", nodes: named };
        const isKnown = address === this.id || this.routes.has(address as NodeId);
        return isKnown ? { kind: "nodes", nodes: [address as NodeId] } : { kind: "unknown" };
      },
    };
  }

  readonly #isUp = (id: NodeId): boolean => {
    const other = this.mesh.nodes.get(id);
    return other !== undefined && this.mesh.isLinked(this, other);
  };

  #carrier(): Carrier {
    const waysTo = (to: NodeId) => this.routes.get(to)?.filter(this.#isUp) ?? [];
    return {
      nextHop: ({ destination, bytes }, avoid, shun): HopChoice => {
        const isFit = (id: NodeId) => bytes <= BULK_BYTES || this.takesBulk(id);
        const ways = waysTo(destination).filter((id) => isFit(id) && !avoid(id));
        const to = ways.find((id) => id !== shun) ?? ways[0];
        return to === undefined ? { kind: "wait", reason: "no route yet" } : { kind: "forward", to };
      },
      isConnected: this.#isUp,
      send: (to, _lane, frame) => this.mesh.send(this, to, frame),
      sendPacket: (to, kind, payload, priority) => this.mesh.sendPacket(this, to, kind, payload, priority),
      frameBytesMax: (to) => (this.#isUp(to) ? FRAME_BYTES_MAX : 0),
      rttMs: () => 2 * WIRE_MS,
      isReliable: () => this.mesh.isReliable,
      answerMs: () => this.mesh.patienceMs,
      isCarried: () => this.mesh.patienceMs > 0,
      isSlow: (to) => waysTo(to).length > 0 && !waysTo(to).some((id) => this.takesBulk(id)),
    };
  }
}

/** Sends so many, each with its number as its body, a hundred at once. Answers their ids in that order. */
export async function sendNumbers(
  node: TestNode,
  to: string,
  count: number,
  more: Partial<OutgoingMessage> = {},
): Promise<MessageId[]> {
  const ids: MessageId[] = [];
  for (let i = 0; i < count; i += 100) {
    const some = Array.from({ length: Math.min(100, count - i) }, (_, j) =>
      node.custody!.send({ to, body: Buffer.from(`${i + j}`), ...more }),
    );
    ids.push(...(await node.settle(Promise.all(some))));
  }
  return ids;
}

/** A body in which each block is another. */
export function pattern(length: number, seed = 31): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  // In a loop: a function called for each byte of megabytes takes longer than all that is done with them.
  for (let i = 0; i < length; i++) bytes[i] = (i * seed + (i >> 8) + (i >> 16) * 7) & 255;
  return bytes;
}

/** What such messages say. */
export const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => `${i}`);

export const stateOf = (node: TestNode, id: string) => node.sent(id)?.state;
export const texts = (node: TestNode) => node.delivered.map(({ text }) => text);
