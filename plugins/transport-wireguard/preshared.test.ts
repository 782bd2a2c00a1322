import { expect, test } from "bun:test";
import type { Log } from "@godwit/sdk";
import { FakePeers, ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { Preshared, type StoredPair } from "./preshared.ts";
import { clamped, keyText, publicKeyOf } from "./keys.ts";

const HOUR_MS = 3_600_000;
const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

/** Two nodes with a link between them; `drop` may swallow what is said. */
function pair() {
  const clock = new ManualClock();
  const make = (id: string, byte: number, stored: Readonly<Record<string, StoredPair>> = {}) => {
    const secret = clamped(new Uint8Array(32).fill(byte));
    const peers = new FakePeers({ id });
    const end = {
      id,
      secret,
      publicKey: keyText(publicKeyOf(secret)),
      peers,
      proven: [] as string[],
      saved: stored,
      far: { id: "", publicKey: "" },
      drop: (_kind: number): boolean => false,
      preshared: undefined as unknown as Preshared,
    };
    const open = (kept: Readonly<Record<string, StoredPair>>) =>
      new Preshared({
        self: id,
        secret,
        clock,
        random: seededRandom(byte),
        log: silent,
        stored: kept,
        save: async (pairs) => void (end.saved = pairs),
        send: (to, message) => !end.drop(message[0]!) && peers.send(to, message),
        keyOf: () => end.far.publicKey,
        proven: (of, publicKey) => void end.proven.push(`${of} ${publicKey}`),
        changed() {},
      });
    end.preshared = open(stored);
    peers.onMessage((from, message) => end.preshared.onMessage(from, message));
    return { ...end, end, restart: () => void (end.preshared = open(end.saved)) };
  };
  const [a, b] = [make("a".repeat(52), 1), make("b".repeat(52), 2)];
  FakePeers.join(a.peers, b.peers);
  a.end.far = { id: b.id, publicKey: b.publicKey };
  b.end.far = { id: a.id, publicKey: a.publicKey };
  const tend = (sinceMs = 0, isLinked = true) => {
    a.end.preshared.tend(b.id, b.publicKey, isLinked, sinceMs);
    b.end.preshared.tend(a.id, a.publicKey, isLinked, sinceMs);
  };
  const settle = async () => {
    for (let i = 0; i < 12; i++) {
      await a.end.preshared.settled();
      await b.end.preshared.settled();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const keys = () => [a.end.preshared.keyFor(b.publicKey), b.end.preshared.keyFor(a.publicKey)] as const;
  return { a: a.end, b: b.end, restartA: a.restart, restartB: b.restart, clock, tend, settle, keys };
}

test("two linked nodes agree on a key, prove theirs, and keep it over a restart", async () => {
  const { a, b, tend, settle, keys, restartA, restartB } = pair();
  tend();
  await settle();
  const [one, other] = keys();
  expect(one?.equals(other)).toBe(true);
  expect(a.proven).toContain(`${b.id} ${b.publicKey}`);
  expect(b.proven).toContain(`${a.id} ${a.publicKey}`);
  a.preshared.confirmed(b.publicKey, one!);
  b.preshared.confirmed(a.publicKey, other!);
  await settle();
  restartA();
  restartB();
  expect(keys().map((key) => key?.equals(one))).toEqual([true, true]);
  expect(Object.keys(a.saved[b.publicKey]!)).toEqual(["current", "atMs"]);
});

test("nothing is begun without a link, and a key is renewed after a day", async () => {
  const { tend, settle, keys, clock, a, b } = pair();
  tend(0, false);
  await settle();
  expect(keys()).toEqual([undefined, undefined]);
  tend();
  await settle();
  const [first] = keys();
  a.preshared.confirmed(b.publicKey, first!);
  b.preshared.confirmed(a.publicKey, first!);
  await clock.advance(23 * HOUR_MS);
  tend();
  await settle();
  expect(keys()[0]?.equals(first)).toBe(true);
  await clock.advance(2 * HOUR_MS);
  tend();
  await settle();
  const [second, other] = keys();
  expect([second?.equals(first), second?.equals(other)]).toEqual([false, true]);
});

test.each([
  ["offer", 1],
  ["answer", 2],
])("a lost %s: both stay with what they had, and begin again", async (_name, kind) => {
  const { a, b, tend, settle, keys, clock } = pair();
  let isLossy = true;
  a.drop = b.drop = (said) => isLossy && said === kind;
  tend();
  await settle();
  expect(keys()[0]).toBeUndefined();
  isLossy = false;
  await clock.advance(16_000);
  tend();
  await settle();
  expect(keys()[0]?.equals(keys()[1])).toBe(true);
});

test("a lost confirmation: both try old and new in turn, and meet; what worked stays", async () => {
  const { a, b, tend, settle, keys, clock } = pair();
  a.drop = (said) => said === 3;
  tend();
  await settle();
  // One has gone over, the other not: no handshake passes between them.
  expect([keys()[0] === undefined, keys()[1] === undefined]).toEqual([false, true]);
  let met = false;
  for (let seconds = 0; seconds < 120 && !met; seconds++) {
    await clock.advance(1_000);
    tend(150_000, false);
    const [one, other] = keys();
    met = one === undefined ? other === undefined : one.equals(other);
  }
  expect(met).toBe(true);
  b.preshared.tend(a.id, a.publicKey, false, 0);
});

test("who does not hold the key that it claims is not believed", async () => {
  const { a, b, tend, settle, keys } = pair();
  // Of somebody who tells b's public key as its own.
  b.far = { id: a.id, publicKey: keyText(publicKeyOf(clamped(new Uint8Array(32).fill(3)))) };
  tend();
  await settle();
  expect([keys()[1], b.proven]).toEqual([undefined, []]);
  for (const message of a.peers.sent.map((sent) => sent.message)) {
    const bent = message.slice();
    bent[bent.length - 1]! ^= 1;
    b.far = { id: a.id, publicKey: a.publicKey };
    b.preshared.onMessage(a.id, bent);
    b.preshared.onMessage("c".repeat(52), message);
    for (let length = 0; length < message.length; length += 97)
      b.preshared.onMessage(a.id, message.subarray(0, length));
  }
  await settle();
  expect(b.proven).toEqual([]);
});

test("who lost its keys asks for new ones", async () => {
  const { a, b, tend, settle, keys, clock } = pair();
  tend();
  await settle();
  const [first] = keys();
  a.preshared.confirmed(b.publicKey, first!);
  b.saved = {};
  // The larger id never offers: it has to ask.
  (b as { preshared: Preshared }).preshared = new Preshared({
    self: b.id,
    secret: b.secret,
    clock,
    random: seededRandom(9),
    log: silent,
    stored: {},
    save: async () => {},
    send: (to, message) => b.peers.send(to, message),
    keyOf: () => a.publicKey,
    proven() {},
    changed() {},
  });
  tend();
  await settle();
  const [second, other] = keys();
  expect([second?.equals(first), second?.equals(other)]).toEqual([false, true]);
});
