/** Punching with the mesh played by hand: what is told, what is answered, what is dialled. */
import { expect, test } from "bun:test";
import type { Hint } from "@godwit/sdk";
import { createHash } from "node:crypto";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { EARLIER_RUN } from "../kernel/room.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Session } from "../link/types.ts";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { Punching, type PunchDeps } from "./punch.ts";
import {
  decodePunch,
  encodeObserved,
  encodePunch,
  PUNCH_NONCE_BYTES,
  punchMessage,
  PunchStep,
} from "../wire/punch.ts";
import type { PartContext } from "../mesh/part.ts";
import { punchingPart } from "../mesh/parts/punching.ts";

const id = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));
const [self, neighbour, far] = [id(1), id(2), id(3)];
const network = "test";
const networkHash = createHash("sha256").update(network).digest();
/** Signs with the hash of what is signed: enough to tell right from wrong here. */
const sign = (bytes: Uint8Array) => new Uint8Array(createHash("sha512").update(bytes).digest());

function setup() {
  const clock = new ManualClock();
  const hints: Hint[] = [];
  const sent: { to: NodeId; punch: ReturnType<typeof decodePunch> }[] = [];
  let nonces = 0;
  const deps: PunchDeps = {
    ...{ self, network, clock, log: silentLog, metrics: new Metrics(), sign },
    random: {
      bytes: (length: number) => new Uint8Array(length).fill(++nonces),
      float: () => 0,
      below: () => 0,
    },
    verify: (_id, bytes, signature) => Buffer.compare(sign(bytes), signature) === 0,
    regard: { worthOf: () => "none", shareOf: () => EARLIER_RUN },
    isBlocked: () => false,
    isNeighbour: (node) => node === neighbour,
    members: () => [neighbour, far],
    endpoints: () => [],
    sendPacket: (to, payload) => void sent.push({ to, punch: decodePunch(payload) }),
    hint: (hint) => void hints.push(hint),
  };
  const punching = new Punching(deps);
  const hear = (step: 1 | 2, nonce: Uint8Array, endpoint: string) => {
    const body = encodePunch({ step, nonce, endpoints: [endpoint] });
    punching.onPacket(far, Buffer.concat([body, sign(punchMessage(networkHash, far, self, body))]));
  };
  const observed = () => punching.onObserved(neighbour, encodeObserved("udp://192.0.2.1:4861"));
  return { clock, hints, sent, punching, hear, observed, deps };
}

test("an answer to a call is dialled", async () => {
  const { clock, hints, sent, hear, observed } = setup();
  observed();
  await clock.advance(2_000);
  expect(sent.map(({ to, punch }) => [to, punch.step])).toEqual([[far, PunchStep.call]]);
  hear(PunchStep.answer, sent[0]!.punch.nonce, "udp://192.0.2.7:1");
  expect(hints).toEqual([{ endpoint: "udp://192.0.2.7:1", nodeId: far, lifetimeMs: 8_000 }]);
});

test("a neighbour that stays where it is still knows its address after ten minutes", async () => {
  const { clock, punching } = setup();
  const told: number[] = [];
  const session = {
    isReliable: false,
    remoteEndpoint: "udp://192.0.2.9:4861",
    send: () => void told.push(clock.monotonicMs()),
  } as unknown as Session;
  for (let atMs = 0; atMs <= 1_200_000; atMs += 5_000) {
    punching.tell(session);
    await clock.advance(5_000);
  }
  expect(told.length).toBeGreaterThan(2);
  expect(told.length).toBeLessThan(8);
  for (const [n, atMs] of told.entries()) expect(atMs - (told[n - 1] ?? 0)).toBeLessThan(300_001);
});

test("a member that answers one call again and again makes this node dial once", async () => {
  const { clock, hints, sent, hear, observed } = setup();
  observed();
  await clock.advance(2_000);
  const { nonce } = sent[0]!.punch;
  for (let n = 1; n <= 10; n++) hear(PunchStep.answer, nonce, `udp://192.0.2.7:${n}`);
  expect(hints.map(({ endpoint }) => endpoint)).toEqual(["udp://192.0.2.7:1"]);
});

test("a member that answers its own call is not heard beyond the call", async () => {
  const { hints, hear, observed } = setup();
  observed();
  const nonce = new Uint8Array(PUNCH_NONCE_BYTES).fill(77);
  hear(PunchStep.call, nonce, "udp://192.0.2.7:1");
  for (let n = 2; n <= 10; n++) hear(PunchStep.answer, nonce, `udp://192.0.2.7:${n}`);
  expect(hints.map(({ endpoint }) => endpoint)).toEqual(["udp://192.0.2.7:1"]);
});

test("an answer that comes when nobody dials any more is not dialled", async () => {
  const { clock, hints, sent, hear, observed } = setup();
  observed();
  await clock.advance(2_000);
  await clock.advance(8_001);
  hear(PunchStep.answer, sent[0]!.punch.nonce, "udp://192.0.2.7:1");
  expect(hints).toEqual([]);
});

test("a revoked member is neither called nor answered", async () => {
  const { clock, deps } = setup();
  const sent: NodeId[] = [];
  const mesh = {
    isRefused: (node: NodeId) => node === far,
    book: { isBlocked: () => false },
    peers: { get: () => undefined },
    router: { reachable: () => true },
    packets: { send: (to: NodeId) => void sent.push(to) },
    view: { hint: () => true },
    ownRecord: { endpoints: [] },
  };
  const { engine: punching } = punchingPart({
    mesh,
    deps: { ...deps, clock, identity: { id: self, sign } },
    kept: { records: { all: [{ record: { id: far } }] }, acquaintances: deps.regard },
  } as unknown as PartContext);
  punching.onObserved(neighbour, encodeObserved("udp://192.0.2.1:4861"));
  await clock.advance(10_000);
  expect(sent).toEqual([]);
});

test("neighbours of one address that lie about where this node is do not keep it from telling what others saw", async () => {
  const { clock, deps } = setup();
  const regard = new DoorRegard();
  const [friend, stranger] = [doorId(1), doorId(2)];
  regard.known.add(friend);
  regard.sources.set(stranger, "10.0.0.7");
  const sent: string[][] = [];
  const punching = new Punching({
    ...deps,
    regard,
    sendPacket: (_to, payload) => void sent.push([...decodePunch(payload).endpoints]),
  });
  punching.onObserved(friend, encodeObserved("udp://198.51.100.1:1"));
  punching.onObserved(stranger, encodeObserved("udp://198.51.100.2:2"));
  for (let n = 0; n < 1_000; n++)
    punching.onObserved(doorId(1_000 + n), encodeObserved(`udp://203.0.113.${n % 250}:${n + 1}`));
  punching.onObserved(stranger, encodeObserved("udp://198.51.100.2:2"));
  await clock.advance(10_000);
  expect(sent[0]?.slice(0, 2)).toEqual(["udp://198.51.100.1:1", "udp://198.51.100.2:2"]);
});
