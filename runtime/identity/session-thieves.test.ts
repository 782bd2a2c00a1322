/**
 * What each thief of docs/decisions/0026-mail-sessions.md, "What each attacker gains", reads and forges: everyone tries with the reference, which gets the
 * secrets that this thief has and no others. What is missing of a root is guessed, from whatever there is.
 */
import { describe, expect, test } from "bun:test";
import type { NodeId } from "../kernel/ids.ts";
import { ManualClock } from "../kernel/clock.ts";
import { nodeIdBytes } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodeSessionHead } from "../wire/sealed.ts";
import { dhKeyFromSecret, generateIdentity, type DhKey } from "./keys.ts";
import { MAIL_SESSIONS } from "./record.ts";
import { sealTo } from "./seal.ts";
import { createSealer, type Roots } from "./sealer.ts";
import {
  referenceDh,
  type ReferenceHead,
  referenceKey,
  referenceKeyOfId,
  referenceOpen,
  referencePublic,
  referenceRoot,
  referenceSeal,
  referenceSecretOfSeed,
  referenceSessionId,
} from "./testing-session-reference.ts";
import { bytesIn, openSources, reachableKeys } from "./testing-sessions.ts";

const NETWORK = "telex";
const associated = Uint8Array.of(1, 2, 3);
const words = new TextEncoder().encode("MEET AT DAWN BY THE OLD PIER");
const lie = new TextEncoder().encode("MEET AT NOON BY THE NEW PIER");
const long = new Uint8Array(70_000).fill(5);

const ann = generateIdentity(seededRandom(1));
const bea = generateIdentity(seededRandom(2));
const cat = generateIdentity(seededRandom(3));
/** The one that bea publishes, and one that she still keeps. */
const current = { keyId: 7, key: dhKeyFromSecret(seededRandom(4).bytes(32)) };
const older = { keyId: 6, key: dhKeyFromSecret(seededRandom(5).bytes(32)) };

/** Bea, and the sessions that she knows. */
function openBea({
  keys = [current, older],
  capabilities = [MAIL_SESSIONS] as readonly string[] | null,
  since = undefined as number | undefined,
} = {}) {
  const known = new Map<string, NonNullable<ReturnType<Roots["find"]>>>();
  const nameOf = (from: NodeId, id: Uint8Array) => `${from} ${Buffer.from(id).toString("hex")}`;
  const roots: Roots = { find: (from, id) => known.get(nameOf(from, id)), since: () => since };
  const sealer = createSealer({
    identity: bea,
    prekeys: {
      find: (keyId) => keys.find((one) => one.keyId === keyId)?.key,
      callsignOf: () => undefined,
      onGone() {},
    },
    recordOf: () => (capabilities === null ? undefined : { sequence: 1, capabilities, prekey: undefined }),
    sessions: { network: NETWORK, clock: new ManualClock(), random: seededRandom(6) },
  });
  return {
    /** The plaintext that she believes to be of `from`, or the code of her refusal. */
    receive(from: NodeId, sealed: Uint8Array): Uint8Array | string {
      try {
        const { plaintext, session } = sealer.open(from, sealed, associated, roots);
        if (session !== undefined)
          known.set(nameOf(from, session.id), { keys: session.keys, keyId: session.keyId ?? 0 });
        return plaintext;
      } catch (error) {
        return (error as { code: string }).code;
      }
    },
    knows: () => known.size,
  };
}

/** Ann writes to bea: a short and a long message as first, and, once bea has answered, as later. All that she puts onto the wire. */
function write(
  published: { keyId: number; key: DhKey } = current,
): { sealed: Uint8Array; plaintext: Uint8Array }[] {
  const { sessions, seal } = createSealer({
    identity: ann,
    prekeys: { find: () => undefined, callsignOf: () => undefined, onGone() {} },
    recordOf: () => ({
      sequence: 1,
      prekey: { keyId: published.keyId, publicKey: published.key.publicKey },
      capabilities: [MAIL_SESSIONS],
    }),
    sessions: { network: NETWORK, clock: new ManualClock(), random: seededRandom(8) },
  });
  return [words, long, words, long].map((plaintext, at) => {
    const under = sessions!.take(bea.id)!;
    if (at === 1) sessions!.proven(bea.id, under.id);
    return { sealed: seal(bea.id, under, plaintext, associated, new Uint8Array(16)), plaintext };
  });
}

/** What a thief may have. Public halves and ids are everybody's. */
interface Loot {
  /** Secrets of the identities of ann and bea, of prekeys by id, and of an ephemeral key. */
  readonly a?: Uint8Array;
  readonly b?: Uint8Array;
  readonly p?: ReadonlyMap<number, Uint8Array>;
  readonly roots?: readonly Uint8Array[];
}

const publicOf = (id: NodeId): Uint8Array => referenceKeyOfId(nodeIdBytes(id));
const prekeyPublic = (keyId: number): Uint8Array =>
  [current, older].find((one) => one.keyId === keyId)!.key.publicKey;

/** The secret of two keys, of whichever half there is. */
function dh(
  one: { secret?: Uint8Array | undefined; publicHalf: Uint8Array },
  other: { secret?: Uint8Array | undefined; publicHalf: Uint8Array },
): Uint8Array | undefined {
  if (one.secret !== undefined) return referenceDh(one.secret, other.publicHalf);
  return other.secret === undefined ? undefined : referenceDh(other.secret, one.publicHalf);
}

/** All roots that a thief comes to: what is missing it takes from whatever it has. Exact is told, where nothing is missing. */
function rootsOf(
  { a, b, p }: Loot,
  from: NodeId,
  keyId: number,
  e: { secret?: Uint8Array; publicHalf: Uint8Array },
): { exact: Uint8Array | undefined; guesses: Uint8Array[] } {
  const sender = { secret: from === ann.id ? a : undefined, publicHalf: publicOf(from) };
  const recipient = { secret: b, publicHalf: publicOf(bea.id) };
  const prekey = { secret: p?.get(keyId), publicHalf: prekeyPublic(keyId) };
  const shared = {
    ...{ ep: dh(e, prekey), ap: dh(sender, prekey) },
    ...{ eb: dh(e, recipient), ab: dh(sender, recipient) },
  };
  const had = Object.values(shared).filter((secret) => secret !== undefined);
  const parties = {
    ...{ sender: nodeIdBytes(from), recipient: nodeIdBytes(bea.id) },
    ...{ keyId, prekey: prekey.publicHalf, e: e.publicHalf },
  };
  const fillers = [new Uint8Array(32), new Uint8Array(0), ...had];
  const guesses = fillers.map((filler) =>
    referenceRoot(parties, {
      ...{ ep: shared.ep ?? filler, ap: shared.ap ?? filler },
      ...{ eb: shared.eb ?? filler, ab: shared.ab ?? filler },
    }),
  );
  return { exact: had.length === 4 ? guesses[0] : undefined, guesses };
}

const placeOf = (from: NodeId) => ({
  ...{ network: NETWORK, sender: nodeIdBytes(from), recipient: nodeIdBytes(bea.id), associated },
});

function headOf(sealed: Uint8Array): ReferenceHead {
  const { agreed, counter, ...rest } = decodeSessionHead(sealed);
  return agreed === undefined
    ? { later: { sessionId: (rest as { id: Uint8Array }).id }, counter }
    : { first: { keyId: agreed.keyId, e: agreed.ephemeral }, counter };
}

/** How much of what ann put onto the wire a thief reads. */
function read(loot: Loot, wire: readonly { sealed: Uint8Array; plaintext: Uint8Array }[]): number {
  const roots = [...(loot.roots ?? [])];
  let count = 0;
  for (const { sealed, plaintext } of wire) {
    const head = headOf(sealed);
    if (head.first !== undefined) {
      const { keyId, e } = head.first;
      roots.push(...rootsOf(loot, ann.id, keyId, { publicHalf: e }).guesses);
    }
    const opened = roots
      .map((root) => referenceOpen(referenceKey(root, head.counter), head, placeOf(ann.id), sealed))
      .find((one) => one !== undefined);
    if (opened === undefined) continue;
    expect(Buffer.compare(opened, plaintext)).toBe(0);
    count++;
  }
  return count;
}

/** Whether bea takes a lie of a thief for mail of `from`, in a session of the thief's own making: both forms, short and long. */
function forges(loot: Loot, from: NodeId, keyId: number, victim = openBea()): boolean {
  const secret = seededRandom(99).bytes(32);
  const own = { secret, publicHalf: referencePublic(secret) };
  const stolen = [loot.a, loot.b, loot.p?.get(keyId)].filter((one) => one !== undefined);
  // As ephemeral key one of the thief's own, one that it stole, or one that is somebody's.
  const keys = [
    ...stolen.map((one) => ({ secret: one, publicHalf: referencePublic(one) })),
    ...[publicOf(from), publicOf(bea.id), prekeyPublic(keyId)].map((publicHalf) => ({ publicHalf })),
  ];
  for (const e of keys) {
    if (!forgesWith(loot, from, keyId, e, victim)) continue;
    expect(forgesWith(loot, from, keyId, own, victim)).toBe(true);
  }
  return forgesWith(loot, from, keyId, own, victim);
}

function forgesWith(
  loot: Loot,
  from: NodeId,
  keyId: number,
  e: { secret?: Uint8Array; publicHalf: Uint8Array },
  victim: ReturnType<typeof openBea>,
): boolean {
  const { guesses } = rootsOf(loot, from, keyId, e);
  const first = { keyId, e: e.publicHalf };
  const later = { sessionId: referenceSessionId(e.publicHalf, nodeIdBytes(from), keyId) };
  const outcomes = guesses.map((root) =>
    [
      { head: { first, counter: 0 }, plaintext: lie },
      { head: { first, counter: 1 }, plaintext: long },
      { head: { later, counter: 2 }, plaintext: lie },
      { head: { later, counter: 3 }, plaintext: long },
    ].map(({ head, plaintext }) => {
      const forged = referenceSeal(referenceKey(root, head.counter), head, placeOf(from), plaintext);
      const said = victim.receive(from, forged);
      return typeof said !== "string" && Buffer.compare(said, plaintext) === 0;
    }),
  );
  const all = outcomes.flat();
  // All four or none: nothing in between would be what the page says.
  const isForged = outcomes.some((four) => four.every(Boolean));
  if (!isForged) expect(all).not.toContain(true);
  return isForged;
}

/** As `forges`, within the session that is there: the id and the counters are on the wire. */
function joins(loot: Loot, wire: readonly { sealed: Uint8Array }[]): boolean {
  const victim = openBea();
  for (const { sealed } of wire) expect(victim.receive(ann.id, sealed)).toBeInstanceOf(Uint8Array);
  const { agreed } = decodeSessionHead(wire[0]!.sealed);
  const e = { publicHalf: agreed!.ephemeral };
  const { guesses } = rootsOf(loot, ann.id, agreed!.keyId, e);
  const sessionId = referenceSessionId(agreed!.ephemeral, nodeIdBytes(ann.id), agreed!.keyId);
  return [...guesses, ...(loot.roots ?? [])].some((root) => {
    const head = { later: { sessionId }, counter: 9 };
    const forged = referenceSeal(referenceKey(root, 9), head, placeOf(ann.id), lie);
    return typeof victim.receive(ann.id, forged) !== "string";
  });
}

/** In the older forms, by whoever has the key that they are sealed to: Noise K of its public half is all that a thief of it needs. */
function forgesOlder(
  secret: Uint8Array,
  keyId: number | undefined,
  from: NodeId,
  victim = openBea(),
  plaintext = lie,
): Uint8Array | string {
  const stolen = dhKeyFromSecret(secret);
  const remote = keyId === undefined ? publicOf(bea.id) : prekeyPublic(keyId);
  // DH(a, p) is DH(p, a): the thief agrees from the other side.
  const dhOfVictim: DhKey = {
    publicKey: publicOf(from),
    agree(other) {
      expect(Buffer.compare(other, remote)).toBe(0);
      return stolen.agree(publicOf(from));
    },
  };
  const forger = {
    ...cat,
    id: from,
    dh: dhOfVictim,
    sign: () => new Uint8Array(64),
    seed: new Uint8Array(32),
    publicKey: nodeIdBytes(from),
  };
  const input = { from: forger, to: bea.id, plaintext, associated };
  const sealed = sealTo(
    keyId === undefined ? input : { ...input, prekey: { keyId, publicKey: remote } },
    seededRandom(98),
  );
  return victim.receive(from, sealed);
}

const a = referenceSecretOfSeed(ann.seed);
const b = referenceSecretOfSeed(bea.seed);
const p7 = new Map([[7, current.key.secret]]);
const prekeys = new Map([
  [7, current.key.secret],
  [6, older.key.secret],
]);

describe("what a thief reads and forges in sessions", () => {
  const wire = write();

  test("(bea reads all of it)", () => {
    const victim = openBea();
    for (const { sealed, plaintext } of wire)
      expect(Buffer.compare(victim.receive(ann.id, sealed) as Uint8Array, plaintext)).toBe(0);
    expect(wire.map(({ sealed }) => sealed[0])).toEqual([3, 5, 4, 6]);
  });

  test("the wire alone: nothing, and nothing", () => {
    expect(read({}, wire)).toBe(0);
    expect(forges({}, ann.id, 7)).toBe(false);
    expect(joins({}, wire)).toBe(false);
  });

  test("one prekey of the recipient: nothing, and nothing", () => {
    expect(read({ p: p7 }, wire)).toBe(0);
    expect(forges({ p: p7 }, ann.id, 7)).toBe(false);
    expect(forges({ p: p7 }, cat.id, 7)).toBe(false);
    expect(joins({ p: p7 }, wire)).toBe(false);
  });

  test("the recipient's identity key without its prekeys: nothing, and nothing in a session", () => {
    expect(read({ b }, wire)).toBe(0);
    expect(forges({ b }, ann.id, 7)).toBe(false);
    expect(joins({ b }, wire)).toBe(false);
  });

  test("the recipient's folder: all that was sealed to the prekeys in it, mail in anybody's name to those", () => {
    expect(read({ b, p: p7 }, wire)).toBe(4);
    expect(forges({ b, p: p7 }, ann.id, 7)).toBe(true);
    expect(forges({ b, p: p7 }, cat.id, 7)).toBe(true);
    expect(joins({ b, p: p7 }, wire)).toBe(true);
    // To a prekey that was made since then: neither.
    const before = { b, p: new Map([[6, older.key.secret]]) };
    expect(read(before, wire)).toBe(0);
    expect(forges(before, ann.id, 7)).toBe(false);
    // Those in it are over when bea deletes them.
    expect(forges(before, ann.id, 6)).toBe(true);
    expect(forges(before, ann.id, 6, openBea({ keys: [current] }))).toBe(false);
  });

  test("the recipient's folder after its prekeys were deleted: nothing of what was sealed to them", () => {
    expect(read({ b, p: p7 }, write(older))).toBe(0);
    expect(read({ b, p: prekeys }, write(older))).toBe(4);
  });

  test("the sender's folder: nothing that was sent, mail of this sender and of no other", () => {
    expect(read({ a }, wire)).toBe(0);
    expect(forges({ a }, ann.id, 7)).toBe(true);
    expect(forges({ a }, cat.id, 7)).toBe(false);
    // In a session of its own; that which was there it cannot go on with.
    expect(joins({ a }, wire)).toBe(false);
  });

  test("the sender's folder and one prekey of the recipient: nothing that was sent before", () => {
    expect(read({ a, p: p7 }, wire)).toBe(0);
    expect(forges({ a, p: p7 }, ann.id, 7)).toBe(true);
    expect(forges({ a, p: p7 }, cat.id, 7)).toBe(false);
    expect(joins({ a, p: p7 }, wire)).toBe(false);
  });

  test("both identities without a prekey: nothing that was sent", () => {
    expect(read({ a, b }, wire)).toBe(0);
    expect(joins({ a, b }, wire)).toBe(false);
  });

  test("the key of one message: that message", () => {
    const sealed = wire.map((one) => one.sealed);
    const exact = rootsOf({ b, p: p7 }, ann.id, 7, {
      publicHalf: decodeSessionHead(sealed[0]!).agreed!.ephemeral,
    }).exact!;
    const key = referenceKey(exact, 2);
    const opened = sealed.map(
      (bytes) => referenceOpen(key, headOf(bytes), placeOf(ann.id), bytes) !== undefined,
    );
    expect(opened).toEqual([false, false, true, false]);
    // As a root it leads nowhere.
    expect(read({ roots: [key] }, wire)).toBe(0);
  });

  test("a root: its session, and no other", () => {
    const head = decodeSessionHead(wire[0]!.sealed);
    const { exact } = rootsOf({ b, p: p7 }, ann.id, 7, { publicHalf: head.agreed!.ephemeral });
    expect(read({ roots: [exact!] }, wire)).toBe(4);
    expect(read({ roots: [exact!] }, write(older))).toBe(0);
  });

  test("the sender's memory: what its sessions will say, and nothing that they said", async () => {
    const { agreed } = decodeSessionHead(wire[0]!.sealed);
    const root = rootsOf({ b, p: p7 }, ann.id, 7, { publicHalf: agreed!.ephemeral }).exact!;
    const { SendingKeys } = await openSources();
    const keys = new SendingKeys(root.slice());
    for (let counter = 0; counter < wire.length; counter++) keys.take();
    const values = reachableKeys(bytesIn(keys));
    expect(read({ a, p: p7, roots: values }, wire)).toBe(0);
    const opens = wire.filter(({ sealed }) => {
      const head = headOf(sealed);
      return values.some((value) => referenceOpen(value, head, placeOf(ann.id), sealed) !== undefined);
    });
    expect(opens).toEqual([]);
    const head = {
      later: { sessionId: referenceSessionId(agreed!.ephemeral, ann.publicKey, agreed!.keyId) },
      counter: wire.length,
    };
    const next = referenceSeal(referenceKey(root, wire.length), head, placeOf(ann.id), words);
    expect(values.some((value) => referenceOpen(value, head, placeOf(ann.id), next) !== undefined)).toBe(
      true,
    );
  });
});

describe("the older forms", () => {
  test("a thief of one prekey: refused in the name of whoever has sessions, short and long", () => {
    for (const plaintext of [lie, long])
      expect(forgesOlder(current.key.secret, 7, ann.id, openBea(), plaintext)).toBe("GODWIT_SEAL_OUTDATED");
    expect(forgesOlder(older.key.secret, 6, ann.id)).toBe("GODWIT_SEAL_OUTDATED");
    expect(forgesOlder(older.key.secret, 6, ann.id, openBea({ keys: [current] }))).toBe("GODWIT_DECODE");
  });

  test("a thief of one prekey: believed in the name of a node without sessions, and of one of which nothing is known", () => {
    for (const capabilities of [[], null])
      for (const plaintext of [lie, long])
        expect(forgesOlder(current.key.secret, 7, ann.id, openBea({ capabilities }), plaintext)).toEqual(
          plaintext,
        );
  });

  test("a thief of one prekey: refused in the name of whom mail came in a session, though a record from before is all that is known of it", () => {
    const before = { capabilities: [], since: 1 };
    expect(forgesOlder(current.key.secret, 7, ann.id, openBea(before))).toBe("GODWIT_SEAL_OUTDATED");
    const unknown = { capabilities: null, since: 1 };
    expect(forgesOlder(current.key.secret, 7, ann.id, openBea(unknown))).toBe("GODWIT_SEAL_OUTDATED");
    // A newer record says that it went back.
    expect(forgesOlder(current.key.secret, 7, ann.id, openBea({ capabilities: [], since: 0 }))).toEqual(lie);
  });

  test("the identity key: it takes the recipient's identity, which is not refused", () => {
    expect(forgesOlder(b, undefined, ann.id)).toEqual(lie);
    expect(forgesOlder(current.key.secret, undefined, ann.id)).toBe("GODWIT_DECODE");
  });

  test("honest mail of a node with sessions: to a prekey refused, to the identity key opened", () => {
    const input = { from: ann, to: bea.id, plaintext: words, associated };
    const prekey = { keyId: 7, publicKey: current.key.publicKey };
    expect(openBea().receive(ann.id, sealTo({ ...input, prekey }, seededRandom(1)))).toBe(
      "GODWIT_SEAL_OUTDATED",
    );
    expect(openBea().receive(ann.id, sealTo(input, seededRandom(1)))).toEqual(words);
  });
});
