import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatHex } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { dhKeyFromSecret, generateIdentity } from "./keys.ts";
import { SendingSessions, SESSION_AGE_MAX_MS } from "./sending-sessions.ts";
import { joinSession } from "./session-keys.ts";
import { sealInSession, type SessionSeal } from "./session-seal.ts";
import { bytesIn, createPair, openSources, reachableKeys } from "./testing-sessions.ts";
import { COUNTER_MAX } from "../wire/sealed.ts";

const { ann, bea, prekey } = createPair(1);
const cat = generateIdentity(seededRandom(2));

function open(seed = 5) {
  const clock = new ManualClock();
  return { clock, sessions: new SendingSessions({ identity: ann, clock, random: seededRandom(seed) }) };
}

const idOf = ({ id }: SessionSeal): string => formatHex(id);

describe("sessions of sent mail", () => {
  test("give the counters of one session in order, with the keys that the recipient comes to", () => {
    const { sessions } = open();
    const taken = [0, 1, 2, 3].map(() => sessions.take(bea.id, prekey));
    expect(taken.map(({ counter }) => counter)).toEqual([0, 1, 2, 3]);
    const { agreed } = taken[0]!;
    const { id, keys } = joinSession(bea, prekey, ann.id, agreed!.ephemeral, () => undefined);
    for (const seal of taken) {
      expect(seal).toEqual({ id, agreed, counter: seal.counter, key: keys.key(seal.counter) });
      expect(agreed!.keyId).toBe(prekey.keyId);
    }
  });

  test("say what a session was agreed by until it is proven, by its own recipient and id", () => {
    const { sessions } = open();
    const { id } = sessions.take(bea.id, prekey);
    sessions.proven(cat.id, id);
    sessions.proven(
      bea.id,
      Uint8Array.from(id, (byte) => byte ^ 1),
    );
    expect(sessions.take(bea.id, prekey).agreed).toBeDefined();
    sessions.proven(bea.id, id);
    expect(sessions.take(bea.id, prekey)).toMatchObject({ agreed: undefined, counter: 2, id });
  });

  test("are named by what their recipient keeps, where it reads that, once it says so of one of its messages", () => {
    const { sessions } = open();
    const take = (isCompact = true) => sessions.take(bea.id, prekey, isCompact);
    const { id } = take();
    const context = { mailEpoch: new Uint8Array(8), counter: 3, createdAtS: 5, to: "LON-B" };
    const kept = { id: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), context };
    sessions.proven(bea.id, id);
    expect(take()).toMatchObject({ id, context: undefined });
    sessions.proven(cat.id, id, kept);
    sessions.proven(bea.id, kept.id, kept);
    expect(take()).toMatchObject({ id, context: undefined });
    sessions.proven(bea.id, id, kept);
    expect(take()).toMatchObject({ ...kept, agreed: undefined });
    expect(take(false)).toMatchObject({ id, context: undefined, agreed: undefined });
    // What it says without that, by either name, changes nothing of it.
    sessions.proven(bea.id, id);
    sessions.proven(bea.id, kept.id);
    expect(take()).toMatchObject(kept);
    sessions.lost(bea.id, kept.id, true);
    expect([sessions.isLost(bea.id, kept.id), sessions.isLost(bea.id, id)]).toEqual([true, false]);
    const next = take();
    expect(next.agreed).toBeDefined();
    sessions.proven(bea.id, kept.id, kept);
    expect(take().agreed).toBeDefined();
    sessions.proven(bea.id, next.id, kept);
    sessions.end(bea.id, kept.id);
    expect(idOf(take())).not.toBe(idOf(next));
  });

  test("another one begins after the last counter, not proven", () => {
    const { sessions } = open();
    const first = sessions.take(bea.id, prekey);
    sessions.proven(bea.id, first.id);
    const keys = new Set([formatHex(first.key)]);
    for (let counter = 1; counter <= COUNTER_MAX; counter++) {
      const seal = sessions.take(bea.id, prekey);
      if (seal.counter !== counter || idOf(seal) !== idOf(first)) throw new Error(`at ${counter}`);
      keys.add(formatHex(seal.key));
    }
    const next = sessions.take(bea.id, prekey);
    expect(idOf(next)).not.toBe(idOf(first));
    expect(next.counter).toBe(0);
    expect(next.agreed).toBeDefined();
    expect(sessions.take(bea.id, prekey)).toMatchObject({ id: next.id, counter: 1 });
    // What is said of the one before does not count for it.
    sessions.proven(bea.id, first.id);
    expect(sessions.take(bea.id, prekey).agreed).toBeDefined();
    expect(keys.size).toBe(COUNTER_MAX + 1);
    expect(keys.has(formatHex(next.key))).toBe(false);
  });

  test("another one begins after a day, and not before", async () => {
    const { sessions, clock } = open();
    const first = sessions.take(bea.id, prekey);
    sessions.proven(bea.id, first.id);
    await clock.advance(SESSION_AGE_MAX_MS - 1);
    expect(idOf(sessions.take(bea.id, prekey))).toBe(idOf(first));
    await clock.advance(1);
    const next = sessions.take(bea.id, prekey);
    expect(idOf(next)).not.toBe(idOf(first));
    expect(next).toMatchObject({ counter: 0, agreed: { keyId: prekey.keyId } });
    expect(SESSION_AGE_MAX_MS).toBe(86_400_000);
  });

  test("another one begins for another prekey: another id of it, or another key", () => {
    const { sessions } = open();
    const first = sessions.take(bea.id, prekey);
    const other = dhKeyFromSecret(new Uint8Array(32).fill(8));
    const byId = sessions.take(bea.id, { ...prekey, keyId: prekey.keyId ^ 1 });
    const byKey = sessions.take(bea.id, { keyId: prekey.keyId ^ 1, publicKey: other.publicKey });
    expect(new Set([first, byId, byKey].map(idOf)).size).toBe(3);
    for (const { counter, agreed } of [byId, byKey])
      expect({ counter, keyId: agreed!.keyId }).toEqual({ counter: 0, keyId: prekey.keyId ^ 1 });
  });

  test("one that is lost is not used again, whatever is said of it later", () => {
    const { sessions } = open();
    const first = sessions.take(bea.id, prekey);
    sessions.proven(bea.id, first.id);
    expect(sessions.isLost(bea.id, first.id)).toBe(false);
    sessions.lost(cat.id, first.id, true);
    expect(sessions.isLost(bea.id, first.id)).toBe(false);
    expect(idOf(sessions.take(bea.id, prekey))).toBe(idOf(first));
    sessions.lost(bea.id, new Uint8Array(8), false);
    expect(sessions.isLost(bea.id, new Uint8Array(8))).toBe(false);
    sessions.lost(bea.id, first.id, false);
    expect(sessions.isLost(bea.id, first.id)).toBe(true);
    sessions.proven(bea.id, first.id);
    const next = sessions.take(bea.id, prekey);
    expect(idOf(next)).not.toBe(idOf(first));
    expect(next.agreed).toBeDefined();
    sessions.lost(bea.id, first.id, true);
    expect(idOf(sessions.take(bea.id, prekey))).toBe(idOf(next));
  });

  test("nothing new is sealed in one that was ended, which is not lost", () => {
    const { sessions } = open();
    const first = sessions.take(bea.id, prekey);
    sessions.end(cat.id, first.id);
    expect(idOf(sessions.take(bea.id, prekey))).toBe(idOf(first));
    sessions.end(bea.id, first.id);
    const next = sessions.take(bea.id, prekey);
    expect(idOf(next)).not.toBe(idOf(first));
    expect(sessions.isLost(bea.id, first.id)).toBe(false);
    sessions.end(bea.id, first.id);
    expect(idOf(sessions.take(bea.id, prekey))).toBe(idOf(next));
  });

  test("each recipient, each start and each message that nobody keeps has its own", () => {
    const { sessions } = open();
    const kept = sessions.take(bea.id, prekey);
    const once = [sessions.once(bea.id, prekey), sessions.once(bea.id, prekey)];
    const seals = [kept, ...once, sessions.take(cat.id, prekey), open(6).sessions.take(bea.id, prekey)];
    expect(new Set(seals.map(idOf)).size).toBe(5);
    for (const { counter, agreed } of seals) expect([counter, agreed === undefined]).toEqual([0, false]);
    expect(sessions.take(bea.id, prekey)).toMatchObject({ id: kept.id, counter: 1 });
    sessions.proven(bea.id, once[0]!.id);
    expect(sessions.take(bea.id, prekey).agreed).toBeDefined();
  });

  test("keep nothing that leads back, to whatever recipients", async () => {
    const back = async (change?: (source: string) => string): Promise<{ before: number; after: number }> => {
      const { SendingSessions: Open } = await openSources(change);
      const sessions = new Open({ identity: ann, clock: new ManualClock(), random: seededRandom(8) });
      const count = { before: 0, after: 0 };
      const taken = [0, 1, 2, 3, 4].map(() => sessions.take(bea.id, prekey));
      sessions.take(cat.id, prekey);
      const found = new Set(reachableKeys(bytesIn(sessions)).map(formatHex));
      for (const { key } of taken) count.before += found.has(formatHex(key)) ? 1 : 0;
      for (const { key } of [5, 6, 7].map(() => sessions.take(bea.id, prekey)))
        count.after += found.has(formatHex(key)) ? 1 : 0;
      return count;
    };
    expect(await back()).toEqual({ before: 0, after: 3 });
    const withRoot = (source: string) =>
      source.replace("keys: new SendingKeys(root),", "root: root.slice(), keys: new SendingKeys(root),");
    expect(await back(withRoot)).toEqual({ before: 5, after: 3 });
  });

  test("two lives of one snapshot take the same places, and both are sealed", () => {
    const binding = { network: "telex", from: ann.id, to: bea.id, associated: new Uint8Array(3) };
    const lives = [open(7), open(7)].map(({ sessions }) => sessions);
    const taken = lives.map((life) => life.take(bea.id, prekey)) as [SessionSeal, SessionSeal];
    expect(taken[0]).toEqual(taken[1]);
    const sealed = taken.map((seal, at) => sealInSession(seal, binding, new Uint8Array(99).fill(at)));
    expect(Buffer.compare(sealed[0]!, sealed[1]!)).not.toBe(0);
  });

  test("a prekey of small order, or an id that is none, begins nothing", () => {
    const { sessions } = open();
    const weak = { keyId: 5, publicKey: new Uint8Array(32) };
    for (const take of [() => sessions.take(bea.id, weak), () => sessions.once(bea.id, weak)])
      expect(take).toThrow("small order");
    expect(() => sessions.take("a".repeat(52) as typeof bea.id, prekey)).toThrow("no usable node id");
    expect(sessions.take(bea.id, prekey).counter).toBe(0);
  });
});
