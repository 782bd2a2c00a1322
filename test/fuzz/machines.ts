/**
 * Decoders with a state behind them: a handshake from either side, a routing table, custody, and the HTTP API. Inputs
 * are the bytes of one neighbour or caller; what the far end would have said before is the same every time.
 */
import { createHash } from "node:crypto";
import { createRig } from "../../runtime/api/testing.ts";
import { problem } from "../../runtime/api/schemas.ts";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { GodwitError } from "../../runtime/kernel/errors.ts";
import { formatNodeId, nodeIdBytes, type NodeId } from "../../runtime/kernel/ids.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import { memoryPipePair, type MemoryPipe } from "../../runtime/link/testing.ts";
import type { Session } from "../../runtime/link/types.ts";
import { Router } from "../../runtime/route/router.ts";
import { TestMesh } from "../../runtime/custody/testing.ts";
import { compacted } from "../../runtime/peer/compact-session.ts";
import { FakeSession } from "../../runtime/peer/testing.ts";
import {
  decodeBundleFrame,
  decodeCustodyAck,
  encodeBundleFrame,
  encodeOffer,
  encodeWant,
  makeBundle,
} from "../../runtime/wire/bundle.ts";
import * as compact from "../../runtime/wire/compact.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import * as route from "../../runtime/wire/route-messages.ts";
import type { Target } from "./engine.ts";

const NETWORK = "fuzz";
const alice = generateIdentity(seededRandom(11));
const bob = generateIdentity(seededRandom(12));
const frame = (length: number) => new Uint8Array(length).fill(0x30);

/** Two ends whose randomness is the same every time, so that recorded bytes fit a new responder. */
function link(kind: "stream" | "datagram", isXx: boolean) {
  const clock = new ManualClock();
  const wire = memoryPipePair({ kind, clock, random: seededRandom(1), latencyMs: 0, isRecording: true });
  const open = (role: "initiator" | "responder"): Promise<Session | undefined> => {
    const random = seededRandom(role === "initiator" ? 21 : 22);
    const guard = new HandshakeGuard(clock, random);
    const isInitiator = role === "initiator";
    const opening = openSession(
      isInitiator ? wire.a : wire.b,
      {
        role,
        identity: isInitiator ? alice : bob,
        ...(isInitiator && !isXx ? { remote: bob.id } : {}),
        network: NETWORK,
        secrets: [],
        clock,
        random,
        guard,
      },
      new AbortController().signal,
    );
    return opening.catch((error: unknown) => {
      if (error instanceof GodwitError && error.kind !== "bug") return undefined;
      throw error;
    });
  };
  return { clock, wire, open };
}

/** What each end sends in a whole handshake with two frames behind it. */
async function record(kind: "stream" | "datagram", isXx: boolean) {
  const { clock, wire, open } = link(kind, isXx);
  const both = Promise.all([open("initiator"), open("responder")]);
  await clock.advance(20);
  for (const session of await both) {
    if (session === undefined) throw new Error("the handshake to record failed");
    session.open({ frame() {}, drain() {}, closed() {} });
    session.send(frame(20));
    session.flush();
    session.send(frame(900));
    session.flush();
  }
  await clock.advance(20);
  return { fromA: wire.a.sent.slice(), fromB: wire.b.sent.slice() };
}

/** A datagram stream as one input: each behind its length in 16 bits. */
function joined(pieces: readonly Uint8Array[], kind: "stream" | "datagram"): Uint8Array {
  if (kind === "stream") return new Uint8Array(Buffer.concat(pieces));
  return new Uint8Array(
    Buffer.concat(pieces.flatMap((piece) => [Uint8Array.of(piece.length >> 8, piece.length), piece])),
  );
}

function inject(from: MemoryPipe, input: Uint8Array, kind: "stream" | "datagram"): void {
  if (kind === "stream") return from.inject(input);
  for (let at = 0; at + 2 <= input.length;) {
    const length = (input[at]! << 8) | input[at + 1]!;
    from.inject(input.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
}

async function handshakeTarget(
  kind: "stream" | "datagram",
  role: "initiator" | "responder",
  isXx: boolean,
): Promise<Target> {
  const { fromA, fromB } = await record(kind, isXx);
  const seeds = (role === "responder" ? fromA : fromB).map((_, i, all) => joined(all.slice(0, i + 1), kind));
  let framesOut = 0;
  return {
    name: `${isXx ? "xx" : "ik"} ${role} ${kind}`,
    seeds,
    tokens: [],
    async run(input) {
      const { clock, wire, open } = link(kind, isXx);
      const opening = open(role).then((session) => {
        let bytes = 0;
        session?.open({
          frame: (got) => {
            bytes += got.length;
            framesOut++;
            if (bytes > input.length) throw new Error("more came out than went in");
          },
          drain() {},
          closed() {},
        });
        return session;
      });
      // The far end is nobody: it swallows what it is told.
      (role === "responder" ? wire.a : wire.b).open({ data() {}, drain() {}, closed() {} });
      await clock.advance(0);
      inject(role === "responder" ? wire.a : wire.b, input, kind);
      await clock.advance(1);
      (role === "responder" ? wire.a : wire.b).close();
      await clock.advance(200_000);
      (await opening)?.close();
    },
    // Were the recorded bytes of another handshake, no mutation of them would ever get behind it.
    finish() {
      if (framesOut === 0) throw new Error("no input got through the handshake");
    },
  };
}

const idOf = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));
const sign = (id: NodeId, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha512").update(id).update(bytes).digest());

/** The tag that the router expects stands at the front of each input that is a routing frame: put in, or nothing is read. */
function routerTarget(): Target {
  const [self, near, far] = [idOf(1), idOf(2), idOf(3)];
  const clock = new ManualClock();
  let tag = 0;
  const router = new Router({
    self,
    network: NETWORK,
    bootEpoch: 3,
    clock,
    random: seededRandom(1),
    log: silentLog,
    metrics: new Metrics(),
    limits: { destinationsMax: 256, destinationsPerNeighbourMax: 128 },
    sign: (bytes) => sign(self, bytes),
    verify: (id, bytes, signature) => Buffer.from(sign(id, bytes)).equals(signature),
    send: (to, sent) => {
      if (to === near && sent[0] === FrameType.routeResync) tag = route.decodeRouteResync(sent).ownTag;
    },
    malformed() {},
    onChange() {},
    ownRecord: () => frame(90),
    knownRecord: () => undefined,
    onRecord: () => true,
    outrun: (epoch) => epoch + 1,
  });
  const cost = { cost: 10, mtu: 1_400, bottleneck: 0, profile: "fast" } as const;
  router.neighbourUp(near, { bootId: "1", cost });
  router.neighbourUp(far, { bootId: "1", cost });
  const proofOf = (destination: NodeId, seqno: number): route.SeqnoProof => {
    const recordHash = new Uint8Array(8);
    return {
      seqno,
      recordHash,
      signature: sign(destination, route.seqnoSigningBytes(NETWORK, destination, seqno, recordHash)),
    };
  };
  const plane = { seqno: 9, metric: 300, mtu: 1_400, bottleneck: 0 } as const;
  const update = route.beginUpdate(0, 5, 8_192);
  route.appendUpdateEntry(update, idOf(4), plane, plane, proofOf(idOf(4), 9));
  route.appendUpdateEntry(update, self, plane, plane, proofOf(self, 9));
  route.appendUpdateEntry(update, far, plane, route.UNREACHABLE, undefined);
  let frames = 0;
  return {
    name: "router",
    seeds: [
      update.finish(),
      route.encodeRouteAck({ tag: 0, serial: 1 }),
      route.encodeSeqnoRequest({ tag: 0, destination: far, seqno: 3, planes: 3, hopsLeft: 64 }),
      route.encodeSeqnoRequest({ tag: 0, destination: self, seqno: 2 ** 47, planes: 3, hopsLeft: 64 }),
      route.encodeRouteDigest({ tag: 0, serial: 2, sums: new Uint32Array(16).fill(5) }),
      route.encodeRouteResync({ buckets: 0xffff, ownTag: 4, peerTag: 0 }),
      route.encodeRecordRequest({ destination: self, recordHash: new Uint8Array(8) }),
      route.encodeRecordReply({ destination: far, record: frame(90) }),
      route.encodeBeacon({ seqno: 6, hasProof: true, gatewayMetric: 77 }),
      route.encodeProofFrame({ of: "sender", proof: proofOf(near, 9) }),
    ],
    tokens: [nodeIdBytes(self), nodeIdBytes(near), nodeIdBytes(far)],
    run(input) {
      // A restart now and then, as a neighbour that is thrown out comes back.
      if (++frames % 1_000 === 0) router.neighbourUp(near, { bootId: String(frames), cost });
      while (clock.runNext(clock.monotonicMs() + 20));
      const at = input[0] === FrameType.routeUpdate ? 2 : 1;
      if (input.length >= at + 4 && input[0] !== FrameType.routeResync)
        new DataView(input.buffer, input.byteOffset).setUint32(at, tag);
      router.handleFrame(near, input);
    },
    finish: () => router.close(),
  };
}

/** A slow link's end that has sent and taken bundles: whatever its neighbour says, only what was sent is acknowledged, and a frame costs one at most. */
function compactTarget(): Target {
  const [self, near, far] = [idOf(1), idOf(2), idOf(3)];
  const clock = new ManualClock();
  let raw = new FakeSession(clock, near, "outbound", { local: "lora://x", remote: "lora://y" });
  let take: (input: Uint8Array) => void = () => {};
  const sentIds = new Set<string>();
  let arrived = 0;
  const header = { kind: 0, priority: 2, source: far, destination: near, lifetimeMs: 60_000 } as const;
  const bundles = [1, 2, 3].map((fill) => makeBundle(header, new Uint8Array(30).fill(fill)));
  const toSelf = bundles.map(({ sealed }) => makeBundle({ ...header, destination: self }, sealed));
  const journey = { remainingMs: 60_000, hops: 1, trace: [] };
  const restart = () => {
    raw = new FakeSession(clock, near, "outbound", { local: "lora://x", remote: "lora://y" });
    Object.assign(raw, { linkClass: "slow", isReliable: false, isCarrying: false });
    raw.open = ({ frame: deliver }) => void (take = deliver);
    const session = compacted(raw, { self, clock, metrics: new Metrics(), recordOf: () => frame(90) });
    session.open({
      frame(bytes) {
        arrived++;
        if (bytes[0] === FrameType.bundle) decodeBundleFrame(bytes);
        if (bytes[0] === FrameType.custodyAck && isFromCompact)
          for (const id of decodeCustodyAck(bytes))
            if (!sentIds.has(id)) throw new Error(`${id} was never sent`);
      },
      drain() {},
      closed() {},
    });
    for (const bundle of bundles) {
      sentIds.add(bundle.id);
      session.send(encodeBundleFrame(bundle, journey));
    }
  };
  let isFromCompact = false;
  let frames = 0;
  const check = compact.ackCheck([bundles[0]!.id]);
  const common = { kind: 0, priority: 2, sequence: 1, lifetimeMs: 60_000, remainingMs: 1, hops: 1 } as const;
  const asIs = { seal: { kind: "asIs" }, rest: toSelf[0]!.sealed } as const;
  const defined = { ...common, ...asIs, source: { index: 0, is: far }, destination: undefined };
  return {
    name: "compact session",
    seeds: [
      compact.encodeCompactBundle(defined, toSelf[0]!.id),
      compact.encodeCompactBundle({ ...defined, source: { index: 0 } }, toSelf[0]!.id),
      compact.encodeCompactAck({ sequences: [0], check }),
      compact.encodeCompactAck({
        sequences: [0, 1, 2],
        check: compact.ackCheck(bundles.map(({ id }) => id)),
      }),
      compact.encodeCompactRefuse({ sequence: 0, check, reason: 7, retryAfterMs: 1_000 }),
      compact.encodeUnreadable(1),
      compact.encodeCompactHello({ bootId: frame(8), storeEpoch: frame(8), recordHash: frame(8) }),
      compact.encodeHelloWanted(),
    ],
    tokens: [nodeIdBytes(self), nodeIdBytes(near), nodeIdBytes(far)],
    run(input) {
      if (frames++ % 500 === 0) restart();
      clock.runNext(clock.monotonicMs() + 20);
      const before = raw.sent.length;
      isFromCompact = input[0] === FrameType.compactAck;
      take(input);
      if (raw.sent.length > before + 1) throw new Error("one frame was answered by more");
    },
    finish() {
      if (arrived === 0) throw new Error("nothing was passed on");
    },
  };
}

async function custodyTarget(): Promise<Target> {
  const mesh = new TestMesh();
  const limits = { transitMessagesMax: 200, transitBytesMax: 1_000_000, inboxMessagesMax: 200 };
  const [a, b, c] = (await mesh.line(["A", "B", "C"], limits)) as [
    Awaited<ReturnType<TestMesh["add"]>>,
    Awaited<ReturnType<TestMesh["add"]>>,
    Awaited<ReturnType<TestMesh["add"]>>,
  ];
  await a.send(c.id, "through");
  await a.send(b.id, new Uint8Array(40_000));
  await c.send(a.id, "back");
  await mesh.clock.advance(2_000);
  const seen = mesh.log.filter(({ to }) => to === "B").map(({ bytes }) => bytes);
  const header = { kind: 0, priority: 2, source: a.id, destination: c.id, lifetimeMs: 60_000 } as const;
  const made = makeBundle(header, frame(40));
  const journey = { remainingMs: 50_000, hops: 1, trace: [] };
  const node = b;
  return {
    name: "custody",
    seeds: [
      ...seen.slice(0, 60),
      encodeBundleFrame(made, journey),
      encodeBundleFrame(makeBundle({ ...header, kind: 1, destination: node.id }, frame(90)), journey),
      encodeBundleFrame(makeBundle({ ...header, kind: 2, destination: node.id }, frame(90)), journey),
      encodeOffer({ id: made.id, header, journey, sealedBytes: 100_000 }),
      encodeWant(made.id, 0, 65_536),
    ],
    tokens: [nodeIdBytes(a.id), nodeIdBytes(b.id), nodeIdBytes(c.id)],
    async run(input) {
      if (input.length === 0) return;
      if (input[0]! < 0x30 || input[0]! > 0x35) input[0] = 0x30 + (input[0]! % 6);
      node.receive(a.id, input);
      mesh.log.length = 0;
      await mesh.clock.advance(10);
    },
    finish() {
      for (const one of mesh.nodes.values()) one.custody?.stop();
    },
  };
}

interface Call {
  readonly method: string;
  readonly path: string;
}

const calls: readonly Call[] = [
  { method: "POST", path: "/messages" },
  { method: "POST", path: "/tokens" },
  { method: "POST", path: "/mesh/names/NYC-C/resolve" },
  { method: "POST", path: "/mesh/peers/x/trust" },
];

/** First byte: the call; the rest is its body. */
function apiBodyTarget(): Target {
  const rig = createRig();
  const encoder = new TextEncoder();
  const seed = (index: number, value: unknown) =>
    new Uint8Array([index, ...encoder.encode(JSON.stringify(value))]);
  return {
    name: "api body",
    seeds: [
      seed(0, { to: "DUN-A", body: "hi", priority: 1, lifetime_ms: 1_000, subject: "x" }),
      seed(0, { to: "DUN-A", body_base64: "aGk=", idempotency_key: "k", failover: true }),
      seed(1, { scopes: ["send"], label: "bot" }),
      seed(2, { node: bob.id }),
      seed(3, { level: "trusted", reason: "mine" }),
    ],
    tokens: ['"', "{", "}", "[", ",", "null", "1e999", "\\u0000", "__proto__", "\ud83d"].map((one) =>
      encoder.encode(one),
    ),
    async run(input) {
      const { method, path } = calls[(input[0] ?? 0) % calls.length]!;
      const response = await rig.app.request(
        path,
        { method, body: input.slice(1), headers: { "content-type": "application/json" } },
        { connection: { authority: "socket", peer: undefined, hosts: new Set<string>() } },
      );
      rig.node.sent.length = 0;
      await checkAnswer(response);
    },
  };
}

/** The input is a path with its query. */
function apiPathTarget(): Target {
  const rig = createRig();
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  return {
    name: "api path",
    seeds: [
      "/messages?box=inbox&limit=5&after=0123456789abcdef0123456789abcdef",
      "/messages/0123456789abcdef0123456789abcdef/body",
      "/mesh/routes/NYC-C/why",
      "/mesh/names",
      "/health",
    ].map((path) => encoder.encode(path)),
    tokens: ["%00", "%ff", "%", "../", "//", "?", "&", "=", "#", "limit=-1", "limit=1e9"].map((one) =>
      encoder.encode(one),
    ),
    async run(input) {
      const url = new URL("http://localhost");
      const [path, ...query] = decoder.decode(input).split("?");
      url.pathname = path ?? "";
      url.search = query.join("?");
      await checkAnswer(
        await rig.app.request(
          url.href,
          {},
          {
            connection: { authority: "socket", peer: undefined, hosts: new Set<string>() },
          },
        ),
      );
    },
  };
}

async function checkAnswer(response: Response): Promise<void> {
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (isStream) return void (await response.body?.cancel());
  const body = await response.text();
  if (response.status >= 500) throw new Error(`status ${response.status}: ${body.slice(0, 500)}`);
  if (response.status >= 400) problem.parse(JSON.parse(body));
}

export const machineTargets = async (): Promise<Target[]> => [
  await handshakeTarget("stream", "responder", false),
  await handshakeTarget("stream", "responder", true),
  await handshakeTarget("stream", "initiator", false),
  await handshakeTarget("stream", "initiator", true),
  await handshakeTarget("datagram", "responder", false),
  await handshakeTarget("datagram", "initiator", true),
  routerTarget(),
  compactTarget(),
  await custodyTarget(),
  apiBodyTarget(),
  apiPathTarget(),
];
