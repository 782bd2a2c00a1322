/** The parts that decide by themselves: expressions of strangers, keys, formulas, queues, tags and the hints they become. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeSelf, ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { Hints } from "./hints.ts";
import { Broadcasts, BROADCASTS_MAX } from "./memberlist/broadcasts.ts";
import { Timers } from "./memberlist/timers.ts";
import {
  Awareness,
  pushPullScale,
  retransmits,
  suspicionBounds,
  suspicionMs,
  timings,
} from "./memberlist/timing.ts";
import { keepKeyring, openKeyring, recallMembers, rememberMembers } from "./memory.ts";
import { FakeStorage } from "@godwit/sdk/testkit";
import { EventHistory, LamportClock } from "./serf/history.ts";
import { Keys } from "./serf/keys.ts";
import { findsPattern } from "./serf/pattern.ts";
import type { Entry } from "./serf/roll.ts";
import { distance, Vivaldi } from "./serf/vivaldi.ts";
import { makeTag, readTag, whereOf, withCapabilities } from "./tag.ts";
import { formatKey, Keyring, KEYS_MAX, parseKey } from "./wire/keyring.ts";
import { decodeKeyResponse, encodeKeyRequest, encodeTags } from "./wire/serf-messages.ts";

const key = (seed: number, length = 32) => seededRandom(seed).bytes(length);

describe("an expression of a stranger", () => {
  test("finds what RegExp finds", () => {
    const atom = fc.constantFrom(
      "a",
      "b",
      ".",
      "[ab]",
      "[^a]",
      "\\d",
      "\\.",
      "^",
      "$",
      "(a|b)",
      "(?:ab)",
      "1",
    );
    const piece = fc
      .tuple(atom, fc.constantFrom("", "*", "+", "?"))
      .map(([one, times]) => (one === "^" || one === "$" ? one : one + times));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(piece, fc.constant("|")), { maxLength: 8 }),
        fc.string({ unit: fc.constantFrom("a", "b", "1", "."), maxLength: 8 }),
        (pieces, text) => {
          const pattern = pieces.join("");
          expect(findsPattern(pattern, text)).toBe(new RegExp(pattern).test(text));
        },
      ),
      { numRuns: 1_000 },
    );
  });

  test("that would take a day takes a moment", () => {
    const startMs = performance.now();
    expect(findsPattern("(a*)*(a|a)*(a+)+$", `${"a".repeat(500)}b`)).toBe(false);
    expect(performance.now() - startMs).toBeLessThan(200);
  });

  test.each(["(", "a)", "[a", "*", "a{2}", "\\", "(?=a)", "(".repeat(17) + ")".repeat(17), "x".repeat(257)])(
    "%s is none",
    (pattern) => expect(findsPattern(pattern, "a")).toBeUndefined(),
  );
});

describe("keys", () => {
  test("are 16, 24 or 32 bytes of base64 and nothing else", () => {
    for (const length of [16, 24, 32])
      expect(parseKey(` ${Buffer.from(key(1, length)).toString("base64")}\n`)?.length).toBe(length);
    for (const bad of ["", "c2VjcmV0", Buffer.alloc(20).toString("base64"), "x".repeat(45), "!".repeat(44)])
      expect(parseKey(bad)).toBeUndefined();
  });

  test("rotate: a new one is installed, used, and the old one removed; the primary cannot be", () => {
    const ring = new Keyring([key(1)]);
    const sealed = ring.seal(Uint8Array.of(1), new Uint8Array(12), new Uint8Array(0));
    expect(() => ring.use(key(2))).toThrow("not in the keyring");
    ring.install(key(2));
    ring.use(key(2));
    expect(ring.open(sealed, new Uint8Array(0))).toEqual(Buffer.from([1]));
    expect(() => ring.remove(key(2))).toThrow("primary");
    ring.remove(key(1));
    expect(ring.open(sealed, new Uint8Array(0))).toBeUndefined();
    for (let i = 3; ring.keys.length < KEYS_MAX; i++) ring.install(key(i));
    expect(() => ring.install(key(99))).toThrow("remove one first");
  });

  test("outlive a restart, until the operator configures another", async () => {
    const storage = new FakeStorage();
    const ring = await openKeyring(storage, key(1));
    ring.install(key(2));
    ring.use(key(2));
    await keepKeyring(storage, key(1), ring);
    expect((await openKeyring(storage, key(1))).keys).toEqual([key(2), key(1)]);
    expect((await openKeyring(storage, key(3))).keys).toEqual([key(3)]);
    await storage.set("keys", Uint8Array.of(123));
    expect((await openKeyring(storage, key(1))).keys).toEqual([key(1)]);
  });
});

describe("a change of the keys", () => {
  const request = (of: number) => encodeKeyRequest(key(of));
  const answered = async (of: Promise<Uint8Array> | undefined) => decodeKeyResponse((await of)!);

  test("is answered when it is kept, and not before", async () => {
    const ring = new Keyring([key(1)]);
    const kept = Promise.withResolvers<void>();
    let isAnswered = false;
    const answer = answered(new Keys(ring, () => kept.promise).answer("install-key", request(2)));
    void answer.then(() => (isAnswered = true));
    await Bun.sleep(5);
    expect(isAnswered).toBe(false);
    kept.resolve();
    expect((await answer).isDone).toBe(true);
    expect(ring.has(key(2))).toBe(true);
  });

  test("that cannot be kept is taken back and said, and takes none with it that was made meanwhile", async () => {
    const ring = new Keyring([key(1), key(2)]);
    let isFull = true;
    const keys = new Keys(ring, async () => {
      await Bun.sleep(1);
      if (isFull) throw new Error("no space left");
    });
    const used = answered(keys.answer("use-key", request(2)));
    void used.then(() => (isFull = false));
    const installed = answered(keys.answer("install-key", request(3)));
    const listed = answered(keys.answer("list-keys", new Uint8Array(0)));
    expect(await used).toMatchObject({ isDone: false, message: "no space left" });
    expect((await installed).isDone).toBe(true);
    expect((await listed).primaryKey).toBe(formatKey(key(1)));
    expect(ring.keys).toEqual([key(1), key(2), key(3)]);
  });
});

describe("formulas", () => {
  test("are those of memberlist", () => {
    expect([1, 9, 10, 99, 100].map((nodes) => retransmits(4, nodes))).toEqual([4, 4, 8, 8, 12]);
    expect([1, 32, 33, 64, 65].map(pushPullScale)).toEqual([1, 1, 2, 2, 3]);
    expect(suspicionBounds(timings.lan, 100)).toEqual({ minMs: 8_000, maxMs: 48_000, confirmations: 2 });
    // Two others are needed to confirm.
    expect(suspicionBounds(timings.lan, 3)).toEqual({ minMs: 4_000, maxMs: 24_000, confirmations: 0 });
    const bounds = suspicionBounds(timings.lan, 100);
    expect([0, 1, 2, 3].map((confirmed) => suspicionMs(bounds, confirmed))).toEqual([
      48_000, 22_762, 8_000, 8_000,
    ]);
    const awareness = new Awareness();
    awareness.apply(20);
    expect([awareness.score, awareness.scale(1_000)]).toEqual([7, 8_000]);
  });
});

describe("news", () => {
  test("go those first that went least, and what is newer of the same thing takes the place of the older", () => {
    let dropped = 0;
    const queue = new Broadcasts(
      () => dropped++,
      () => {},
    );
    const text = (list: Uint8Array[]) => list.map((one) => Buffer.from(one).toString());
    let replaced = false;
    queue.add(Buffer.from("a old"), "a", () => (replaced = true));
    queue.add(Buffer.from("b"), "b");
    queue.add(Buffer.from("a new"), "a");
    expect(replaced).toBe(true);
    expect(text(queue.take(7, 2, 2))).toEqual(["a new"]);
    expect(text(queue.take(7, 2, 2))).toEqual(["b"]);
    expect(text(queue.take(100, 2, 2))).toEqual(["a new", "b"]);
    expect(queue.size).toBe(0);
    for (let i = 0; i < BROADCASTS_MAX + 10; i++) queue.add(Uint8Array.of(i));
    expect([queue.size, dropped]).toEqual([BROADCASTS_MAX, 10]);
  });

  test("events: each once, at most half a MiB of them", () => {
    const history = new EventHistory(new LamportClock());
    const event = (ltime: number, size: number) => ({
      ltime,
      name: "x",
      payload: new Uint8Array(size),
      canCoalesce: false,
    });
    expect([history.take(event(5, 1)), history.take(event(5, 1)), history.take(event(5, 2))]).toEqual([
      true,
      false,
      true,
    ]);
    for (let ltime = 6; ltime < 600; ltime++) history.take(event(ltime, 9_000));
    expect(history.bytes).toBeLessThan(524_288 + 9_100);
    expect(history.take(event(6, 7))).toBe(false);
  });
});

test("members are remembered, and damaged memory is none", async () => {
  const storage = new FakeStorage();
  const members = [{ name: "a", at: { address: "192.0.2.1", port: 1 } }];
  await rememberMembers(storage, members);
  expect(await recallMembers(storage)).toEqual(members);
  await storage.set("members", Buffer.from('[["a"]]'));
  expect(await recallMembers(storage)).toEqual([]);
});

test("coordinates come to tell how far others are", () => {
  const [a, b] = [new Vivaldi(seededRandom(1)), new Vivaldi(seededRandom(2))];
  for (let i = 0; i < 200; i++) {
    a.observe("b", b.own, 0.05);
    b.observe("a", a.own, 0.05);
  }
  expect(distance(a.own, b.own)).toBeCloseTo(0.05, 2);
  const before = a.own;
  a.observe("liar", { ...b.own, vector: [1] }, 0.05);
  a.observe("liar", b.own, Number.NaN);
  expect(a.own).toBe(before);
});

describe("a tag", () => {
  const at = { address: "192.0.2.7", port: 7_946 };

  test("says where the node is, in few bytes for what is at the member's own address", () => {
    expect(
      whereOf(
        ["tcp://198.51.100.1:1", "tcp://192.0.2.7:4860", "ws://192.0.2.7:80/x", "tcp://[2001:db8::1]:2"],
        at,
      ),
    ).toEqual(["tcp:4860", "tcp://198.51.100.1:1", "ws://192.0.2.7:80/x", "tcp://[2001:db8::1]:2"]);
    expect(whereOf([`tor://${"a".repeat(56)}.onion:4860`], at)).toEqual([
      `tor://${"a".repeat(56)}.onion:4860`,
    ]);
    expect(whereOf(["tcp://[2001:db8::9]:5"], { address: "2001:db8::9", port: 1 })).toEqual(["tcp:5"]);
  });

  test("holds for its name, address and port, and for nothing that was changed", async () => {
    const self = new FakeSelf();
    const tag = await makeTag(self, "a", at, ["tcp:4860", "tcp://198.51.100.1:1"]);
    const endpoints = ["tcp://192.0.2.7:4860", "tcp://198.51.100.1:1"];
    expect(await readTag(new FakeSelf(), "a", at, tag)).toEqual({ id: self.id, endpoints });
    expect(await readTag(self, "b", at, tag)).toBeUndefined();
    expect(await readTag(self, "a", { ...at, address: "192.0.2.8" }, tag)).toBeUndefined();
    expect(await readTag(self, "a", { ...at, port: 1 }, tag)).toBeUndefined();
    expect(await readTag(self, "a", at, tag.replace("4860", "4861"))).toBeUndefined();
    expect(await readTag(self, "a", at, tag.replace(self.id, new FakeSelf().id))).toBeUndefined();
    for (const odd of ["", "1", `2${tag.slice(1)}`, `${tag} `, "x".repeat(500)])
      expect(await readTag(self, "a", at, odd)).toBeUndefined();
  });
});

describe("what the machine is", () => {
  const words = ["relay", "arch-arm64", "radio-wifi"];
  const own = new Map([["godwit", "x".repeat(400)]]);

  test("is told beside the other tags, in whole words, as many as have room", () => {
    expect(withCapabilities(own, words)).toEqual({
      told: new Map([...own, ["capabilities", "relay,arch-arm64,radio-wifi"]]),
      untold: [],
    });
    const many = Array.from({ length: 15 }, (_, i) => `word-${i}-${"y".repeat(20)}`);
    const { told, untold } = withCapabilities(own, many);
    const count = told.get("capabilities")!.split(",").length;
    expect([...many.slice(0, count), ...untold]).toEqual(many);
    expect(encodeTags(told).length).toBeLessThanOrEqual(512);
    expect(() => encodeTags(new Map([...own, ["capabilities", many.slice(0, count + 1).join()]]))).toThrow();
  });

  test("leaves what the operator says under that name, and is nothing without words or room", () => {
    const said = new Map([...own, ["capabilities", "mine"]]);
    expect(withCapabilities(said, words)).toEqual({ told: said, untold: [] });
    expect(withCapabilities(own, [])).toEqual({ told: own, untold: [] });
    const full = new Map([["godwit", "x".repeat(490)]]);
    expect(withCapabilities(full, words)).toEqual({ told: full, untold: words });
  });
});

describe("hints", () => {
  async function rig() {
    const [own, other] = [new FakeSelf(), new FakeSelf()];
    const hints = new Map<string, string | undefined>();
    const entries = new Map<string, Entry>();
    const refused = new Set<string>();
    const clock = new ManualClock();
    const board = new Hints({
      ctx: {
        self: own,
        discovery: {
          hint: ({ endpoint, nodeId }) => void hints.set(endpoint, nodeId),
          withdraw: (endpoint) => void hints.delete(endpoint),
        },
      },
      timers: new Timers(clock, seededRandom(1)),
      entry: (name) => entries.get(name),
      refusalOf: ({ address }) => (refused.has(address) ? "a loopback address" : undefined),
      dropped() {},
    });
    const set = async (
      name: string,
      address: string,
      change: Partial<Entry> = {},
      signer: FakeSelf = other,
    ) => {
      const at = { address, port: 1 };
      const tag = await makeTag(signer, name, at, ["tcp:4860"]);
      entries.set(name, {
        name,
        at,
        meta: encodeTags(new Map([["godwit", tag]])),
        vsn: [],
        status: "alive",
        ltime: 1,
        goneMs: undefined,
        ...change,
      });
      board.look(name);
      await settled();
    };
    const settled = async () => {
      for (let i = 0; i < 40; i++) {
        clock.advance(50);
        await Promise.resolve();
      }
    };
    return { own, other, hints, entries, refused, board, set, settled };
  }

  test("come of members that prove a node, stay while they are failed, and go when they leave or are forgotten", async () => {
    const { other, hints, entries, board, set, settled } = await rig();
    await set("a", "192.0.2.1");
    expect([...hints]).toEqual([["tcp://192.0.2.1:4860", other.id]]);
    await set("a", "192.0.2.1", { status: "failed" });
    expect(hints.size).toBe(1);
    await set("a", "192.0.2.2");
    expect([...hints.keys()]).toEqual(["tcp://192.0.2.2:4860"]);
    await set("a", "192.0.2.2", { status: "left" });
    expect(hints.size).toBe(0);
    await set("a", "192.0.2.2");
    entries.delete("a");
    board.look("a");
    await settled();
    expect([hints.size, board.standingOf("a")]).toEqual([0, undefined]);
  });

  test("do not come of a member without a tag, with another's, at a refused address, or of this node itself", async () => {
    const { own, hints, entries, refused, board, set, settled } = await rig();
    await set("plain", "192.0.2.1", { meta: encodeTags(new Map([["role", "x"]])) });
    refused.add("127.0.0.1");
    await set("near", "127.0.0.1");
    expect(board.standingOf("near")).toMatchObject({ why: "a loopback address", hints: [] });
    await set("self", "192.0.2.9", {}, own);
    await set("honest", "192.0.2.3");
    entries.set("thief", { ...entries.get("honest")!, name: "thief" });
    board.look("thief");
    await settled();
    expect(board.standingOf("thief")?.why).toBe("its tag is not signed by the node that it names");
    expect([...hints.keys()]).toEqual(["tcp://192.0.2.3:4860"]);
  });
});
