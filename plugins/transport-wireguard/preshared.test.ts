import { expect, test } from "bun:test";
import { createHmac, hkdfSync } from "node:crypto";
import type { Log } from "@godwit/sdk";
import { FakePeers, ManualClock, seededRandom } from "@godwit/sdk/testkit";
import type { Secret } from "@godwit/sdk/secret";
import { Preshared, PresharedKind, type StoredPair } from "./preshared.ts";
import { agree, clamped, keyText, publicKeyOf } from "./keys.ts";

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

/** One end whose words the test carries; `saving` is what a save waits for. */
function single(id: string, byte: number, far: { id: string; publicKey: string }) {
  const secret = clamped(new Uint8Array(32).fill(byte));
  const clock = new ManualClock();
  const end = { said: [] as Uint8Array[], saved: [] as object[], saving: Promise.resolve() };
  const preshared = new Preshared({
    ...{ self: id, secret, clock, random: seededRandom(byte), log: silent, stored: {} },
    save: async (pairs) => {
      end.saved.push(pairs);
      await end.saving;
    },
    send: (_to, message) => end.said.push(message) > 0,
    keyOf: () => far.publicKey,
    proven() {},
    changed() {},
  });
  const kinds = () => end.said.map((message) => message[0]);
  return { id, secret, publicKey: keyText(publicKeyOf(secret)), clock, preshared, end, kinds };
}
const [aId, bId] = ["a".repeat(52), "b".repeat(52)];
const publicOf = (byte: number) => keyText(publicKeyOf(clamped(new Uint8Array(32).fill(byte))));
function two() {
  const a = single(aId, 1, { id: bId, publicKey: publicOf(2) });
  const b = single(bId, 2, { id: aId, publicKey: publicOf(1) });
  return { a, b };
}

/** What a member says that holds its key and keeps to no rule. */
function say(
  from: string,
  to: string,
  secret: Secret,
  farKey: string,
  kind: number,
  nonce: Uint8Array,
  material = new Uint8Array(0),
) {
  const body = Buffer.concat([Uint8Array.of(kind), nonce, publicKeyOf(secret), material]);
  const shared = agree(secret, new Uint8Array(Buffer.from(farKey, "base64")))!;
  const key = new Uint8Array(hkdfSync("sha256", shared, "", "godwit wireguard mac 1", 32));
  return Buffer.concat([body, createHmac("sha256", key).update(`${from}\0${to}\0`).update(body).digest()]);
}

test("a preshared key is on the disk before the other end hears of it", async () => {
  const { a, b } = two();
  a.preshared.tend(bId, b.publicKey, true, 0);
  await a.preshared.settled();
  expect(a.kinds()).toEqual([PresharedKind.offer]);
  const disk = Promise.withResolvers<void>();
  b.end.saving = disk.promise;
  b.preshared.onMessage(aId, a.end.said[0]!);
  while (b.end.saved.length === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  for (let i = 0; i < 20; i++) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(b.kinds()).toEqual([]);
  disk.resolve();
  await b.preshared.settled();
  expect(b.kinds()).toEqual([PresharedKind.answer]);
});

test("the smaller id offers: an offer of the larger one is not answered", async () => {
  const { a, b } = two();
  a.preshared.tend(bId, b.publicKey, true, 0);
  await a.preshared.settled();
  const [offer] = a.end.said;
  const material = new Uint8Array(offer!.subarray(49, 49 + 1_184));
  a.preshared.onMessage(
    bId,
    say(bId, aId, b.secret, a.publicKey, PresharedKind.offer, new Uint8Array(16), material),
  );
  await a.preshared.settled();
  expect([a.kinds(), a.end.saved]).toEqual([[PresharedKind.offer], []]);
  // The same words of whom may offer are answered.
  b.preshared.onMessage(
    aId,
    say(aId, bId, a.secret, b.publicKey, PresharedKind.offer, new Uint8Array(16), material),
  );
  await b.preshared.settled();
  expect(b.kinds()).toEqual([PresharedKind.answer]);
});

test("a confirmation confirms what was answered, and ends no offer", async () => {
  const { a, b } = two();
  a.preshared.tend(bId, b.publicKey, true, 0);
  await a.preshared.settled();
  const [offer] = a.end.said;
  a.preshared.onMessage(
    bId,
    say(bId, aId, b.secret, a.publicKey, PresharedKind.confirm, offer!.subarray(1, 17)),
  );
  await a.preshared.settled();
  b.preshared.onMessage(aId, offer!);
  await b.preshared.settled();
  a.preshared.onMessage(bId, b.end.said[0]!);
  await a.preshared.settled();
  expect(a.kinds()).toEqual([PresharedKind.offer, PresharedKind.confirm]);
  expect(a.preshared.keyFor(b.publicKey)).toBeDefined();
});

test("a handshake by the old key does not make an end of it while a new one is in question", async () => {
  const { a, b, tend, settle, keys, clock } = pair();
  tend();
  await settle();
  const [first] = keys();
  a.preshared.confirmed(b.publicKey, first!);
  await clock.advance(25 * HOUR_MS);
  b.preshared.confirmed(a.publicKey, first!);
  tend();
  await settle();
  expect(keys()[0]?.equals(first)).toBe(false);
  a.preshared.confirmed(b.publicKey, first!);
  await settle();
  const kept = a.saved[b.publicKey]!;
  expect([kept.current, kept.next !== undefined]).toEqual([keyText(first!.reveal()), true]);
});
