/** Whole meshes over the kernel's sockets. Each test has its own, and they wait more than they compute: they run side by side. */
import { expect, test } from "bun:test";
import type { udp } from "bun";
import { itemMessage } from "@godwit/sdk";
import { FakeSelf, FakeStorage, seededRandom } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { type Encodable, encodeBencode } from "./bencode.ts";
import { formatId, idBytes, MeshKeys, PLUGIN, type Period, publishedPeriods, SEED_PURPOSE } from "./keys.ts";
import { targetOf } from "./kept.ts";
import { decodeSlot, encodeSlot } from "./record.ts";
import { slotOf } from "./rendezvous.ts";
import { hinted, link, loopbackAddress, type MeshNode, TestMesh, until } from "./testing.ts";

const DAY_MS = 86_400_000;
/** By the clock of the mesh: as soon as a slot that two wrote at once has to name both. */
const MENDED_MS = 28_000;

test.concurrent(
  "nodes of one secret find each other, those of another find nobody, and a record that changes replaces its hints",
  async () => {
    await using mesh = new TestMesh();
    const a = await mesh.add({ endpoints: ["tcp://192.0.2.1:4860"] });
    const b = await mesh.add({ endpoints: ["tcp://192.0.2.2:4860", "tor://b.onion:1"] });
    const stranger = await mesh.add({ secrets: ["theirs"], endpoints: ["tcp://192.0.2.3:4860"] });
    await until("a finds b", () => hinted(a, "tcp://192.0.2.2:4860") && hinted(a, "tor://b.onion:1"));
    await until("b finds a", () => hinted(b, "tcp://192.0.2.1:4860"));
    expect(a.host.hints.get("tcp://192.0.2.2:4860")).toMatchObject({ nodeId: b.host.self.id });
    b.host.self.set(["tcp://192.0.2.22:4860"]);
    await until("the new place", () => hinted(a, "tcp://192.0.2.22:4860"));
    expect(hinted(a, "tcp://192.0.2.2:4860")).toBe(false);
    expect(stranger.host.hints.size).toBe(0);
    expect([...a.host.hints.keys()]).toEqual(["tcp://192.0.2.22:4860"]);
  },
  120_000,
);

test.concurrent(
  "a secret that is replaced: nodes meet under each that is live, and one that has only the old one is met until it ends",
  async () => {
    await using mesh = new TestMesh();
    const both = await mesh.add({ secrets: ["new", "old"], endpoints: ["tcp://192.0.2.1:1"] });
    const old = await mesh.add({ secrets: ["old"], endpoints: ["tcp://192.0.2.2:1"] });
    const fresh = await mesh.add({ secrets: ["new"], endpoints: ["tcp://192.0.2.3:1"] });
    await until(
      "both sides",
      () => hinted(both, "tcp://192.0.2.2:1") && hinted(both, "tcp://192.0.2.3:1"),
      20_000,
    );
    await until("the old one", () => hinted(old, "tcp://192.0.2.1:1"));
    await until("the new one", () => hinted(fresh, "tcp://192.0.2.1:1"));
    expect([hinted(old, "tcp://192.0.2.3:1"), hinted(fresh, "tcp://192.0.2.2:1")]).toEqual([false, false]);
  },
  120_000,
);

test.concurrent(
  "a node in 1970, one a week behind and one in 2099 are found, and find the others",
  async () => {
    await using mesh = new TestMesh();
    const now = await mesh.add({ endpoints: ["tcp://192.0.2.1:1"] });
    await until("it is published", () => (now.host.gauges.get("nodes") ?? 0) >= 0);
    const worlds = [0, Date.now() - 7 * DAY_MS, Date.UTC(2099, 0, 1)].map((epochMs) => new TestMesh(epochMs));
    try {
      const others = await Promise.all(
        worlds.map((world, n) =>
          world.add({ endpoints: [`tcp://192.0.2.${10 + n}:1`], config: { bootstrap: [now.place] } }),
        ),
      );
      for (const [n, other] of others.entries()) {
        await until(`number ${n} finds the one with a clock`, () => hinted(other, "tcp://192.0.2.1:1"));
        await until(`it finds number ${n}`, () => hinted(now, `tcp://192.0.2.${10 + n}:1`));
      }
    } finally {
      await Promise.all(worlds.map((world) => world[Symbol.asyncDispose]()));
    }
  },
  180_000,
);

test.concurrent(
  "the sequence goes on over restarts, and over a state that was lost",
  async () => {
    await using mesh = new TestMesh();
    const a = await mesh.add({ endpoints: ["tcp://192.0.2.1:1"] });
    await mesh.add({ endpoints: ["tcp://192.0.2.2:1"] });
    const self = new FakeSelf({ plugin: PLUGIN });
    const storage = new FakeStorage();
    let before = 0;
    for (const [n, kept] of [storage, storage, new FakeStorage()].entries()) {
      const place = `tcp://192.0.2.${100 + n}:1`;
      const { host } = await mesh.add({ self, storage: kept, endpoints: [place] });
      await until(`life ${n} is seen`, () => hinted(a, place));
      const seq = Number(new TextDecoder().decode(await kept.get("seq")));
      expect(seq).toBeGreaterThan(before);
      before = seq;
      await host.stop();
    }
  },
  90_000,
);

test.concurrent(
  "a member without a socket is carried: found by others, and told of them, through the member that it is linked to",
  async () => {
    await using mesh = new TestMesh();
    const carrier = await mesh.add({ endpoints: ["tor://carrier.onion:1"] });
    const other = await mesh.add({ endpoints: ["tor://other.onion:1"] });
    await until("the two know each other", () => hinted(carrier, "tor://other.onion:1"));
    const torOnly = await mesh.add({
      endpoints: ["tor://silent.onion:1"],
      config: { listen: [], bootstrap: [] },
    });
    link(torOnly.host, carrier.host);
    await until("it is told of others", () => hinted(torOnly, "tor://other.onion:1"));
    expect(hinted(torOnly, "tor://carrier.onion:1")).toBe(true);
    await until("it is found", () => hinted(other, "tor://silent.onion:1"));
    expect(other.host.hints.get("tor://silent.onion:1")).toMatchObject({ nodeId: torOnly.host.self.id });
    expect([...torOnly.host.counters.keys()].some((name) => name.startsWith("bytes"))).toBe(false);
  },
  180_000,
);

/** `count` nodes whose ids have one slot as their first choice. */
function sameSlot(count: number): FakeSelf[] {
  const found = [new FakeSelf({ plugin: PLUGIN })];
  const slot = slotOf(idBytes(found[0]!.id)!, 0);
  while (found.length < count) {
    const other = new FakeSelf({ plugin: PLUGIN });
    if (slotOf(idBytes(other.id)!, 0) === slot) found.push(other);
  }
  return found;
}

test.concurrent(
  "two who share a slot and write it at once find each other at once, and soon every copy of it names both",
  async () => {
    const round = async () => {
      await using mesh = new TestMesh();
      const selves = sameSlot(2) as [FakeSelf, FakeSelf];
      const [a, b] = await Promise.all([
        mesh.add({ self: selves[0], endpoints: ["tor://a.onion:1"] }),
        mesh.add({ self: selves[1], endpoints: ["tor://b.onion:1"] }),
      ]);
      await until("a finds b", () => hinted(a, "tor://b.onion:1"));
      await until("b finds a", () => hinted(b, "tor://a.onion:1"));
      const stores = await Promise.all([a, b].map(({ place }) => SlotStore.open(place, selves[0])));
      const named = async () => {
        const counts: number[] = [];
        for (const store of stores)
          for (const period of publishedPeriods(Date.now())) {
            const { ids } = await store.get(period);
            counts.push(selves.filter(({ id }) => ids.includes(id)).length);
          }
        return counts;
      };
      // They look again, each in its time. Nothing else would mend it: nobody comes, and an hour is far.
      const mended = async () => {
        const endMs = mesh.clock.monotonicMs() + MENDED_MS;
        while (mesh.clock.monotonicMs() < endMs && (await named()).some((count) => count < 2))
          await Bun.sleep(30);
        expect(await named()).toEqual(Array.from({ length: 8 }, () => 2));
      };
      await mended();
      // The same by intent: each in the store of the other, with one sequence. A slot is healed once a minute.
      mesh.clock.advance(61_000);
      for (const [side, store] of stores.entries())
        for (const period of publishedPeriods(Date.now()))
          await store.put(period, [selves[1 - side]!.id], (await store.get(period)).seq + 1);
      expect(await named()).toEqual(Array.from({ length: 8 }, () => 1));
      await mended();
      for (const store of stores) store.close();
      const c = await mesh.add({ endpoints: ["tor://c.onion:1"] });
      await until("c finds both", () => ["a", "b"].every((name) => hinted(c, `tor://${name}.onion:1`)));
    };
    await Promise.all(Array.from({ length: 4 }, round));
  },
  180_000,
);

/** The copy of one node, of the slot of another: asked by somebody who is no node (BEP 43), so that no table grows by it. */
class SlotStore {
  readonly #keys: MeshKeys;
  readonly #salt: Buffer;
  #ask: (query: Encodable) => void = () => {};
  #heard: (text: string) => void = () => {};
  #socket: udp.Socket<"buffer"> | undefined;

  private constructor(keys: MeshKeys, salt: Buffer) {
    this.#keys = keys;
    this.#salt = salt;
  }

  static async open(place: string, self: FakeSelf): Promise<SlotStore> {
    const keys = new MeshKeys((await self.meshSeeds(SEED_PURPOSE))[0]!);
    const store = new SlotStore(keys, Buffer.from(`slot ${slotOf(idBytes(self.id)!, 0)}`));
    const [host, port] = place.split(":") as [string, string];
    const data = (_socket: unknown, bytes: Buffer) => store.#heard(bytes.toString("latin1"));
    const socket = await Bun.udpSocket({
      ...{ hostname: loopbackAddress(), port: 0, binaryType: "buffer", socket: { data } },
    });
    store.#ask = (query) => void socket.send(encodeBencode(query), Number(port), host);
    store.#socket = socket;
    return store;
  }

  async get(
    period: Period,
  ): Promise<{ readonly seq: number; readonly ids: readonly string[]; readonly token: Buffer }> {
    const { publicKey } = this.#keys.meeting(period);
    const target = Buffer.from(targetOf({ key: publicKey, salt: this.#salt, value: publicKey }), "hex");
    const text = await this.#answer("get", { target });
    const value = bytesAfter(/1:v(\d+):/, text);
    const plain = this.#keys.open(Buffer.concat([publicKey, this.#salt]), value);
    const ids = (plain === undefined ? undefined : decodeSlot(plain)) ?? [];
    return {
      ...{ seq: Number(/3:seqi(\d+)e/.exec(text)?.[1] ?? 0), ids: ids.map(formatId) },
      token: bytesAfter(/5:token(\d+):/, text),
    };
  }

  async put(period: Period, ids: readonly string[], seq: number): Promise<void> {
    const key = this.#keys.meeting(period);
    const plain = encodeSlot(ids.map((id) => idBytes(id)!));
    const v = this.#keys.seal(Buffer.concat([key.publicKey, this.#salt]), plain, seededRandom(seq));
    const { token } = await this.get(period);
    const sig = key.sign(itemMessage(this.#salt, seq, v));
    const answer = await this.#answer("put", { token, k: key.publicKey, salt: this.#salt, seq, v, sig });
    expect(answer).toContain("1:y1:r");
  }

  close(): void {
    this.#socket?.close();
  }

  #answer(q: string, a: { readonly [key: string]: Encodable }): Promise<string> {
    const answer = new Promise<string>((resolve) => (this.#heard = resolve));
    this.#ask({ t: "aa", y: "q", q, ro: 1, a: { id: Buffer.alloc(20, 7), ...a } });
    return answer;
  }
}

function bytesAfter(head: RegExp, text: string): Buffer {
  const match = head.exec(text);
  if (match === null) return Buffer.alloc(0);
  const at = match.index + match[0].length;
  return Buffer.from(text.slice(at, at + Number(match[1])), "latin1");
}

test.concurrent(
  "two halves of a DHT that both wrote one slot while they were apart find each other after the heal",
  async () => {
    await using mesh = new TestMesh();
    const selves = sameSlot(4);
    const place = (n: number) => `tor://${"abcd"[n]!}.onion:1`;
    const add = async (n: number, first?: MeshNode) =>
      await mesh.add({
        ...{ self: selves[n]!, endpoints: [place(n)] },
        config: { bootstrap: first === undefined ? [] : [first.place] },
      });
    const [a, c] = [await add(0), await add(2)];
    const halves = [
      [a, await add(1, a)],
      [c, await add(3, c)],
    ] as const;
    for (const [half, [one, other]] of halves.entries())
      await until(
        `half ${half} is whole`,
        () => hinted(one, place(2 * half + 1)) && hinted(other, place(2 * half)),
      );
    const across = () =>
      halves.flatMap((half, n) =>
        half.flatMap(({ host }) => [2, 3].map((m) => host.hints.has(place((m + 2 * n) % 4)))),
      );
    expect(across()).toEqual(Array.from({ length: 8 }, () => false));
    // Who knows both halves brings them together, and is no member of either's mesh.
    await mesh.add({ secrets: ["theirs"], endpoints: [], config: { bootstrap: [a.place, c.place] } });
    await until("each has found those of the other half", () => across().every(Boolean), 60_000);
  },
  180_000,
);

test.concurrent(
  "two who are linked hear within minutes of those who come up beside them: both may have looked before the other spoke",
  async () => {
    await using mesh = new TestMesh();
    const [one, other] = [await mesh.add(), await mesh.add()];
    await until(
      "they found each other",
      () => one.host.hints.size === 1 && other.host.hints.size === 1,
      20_000,
    );
    link(one.host, other.host);
    // Who is linked has looked and found nobody else.
    for (let n = 0; n < 20; n++) {
      mesh.clock.advance(1_000);
      await Bun.sleep(20);
    }
    const late = await mesh.add({ endpoints: ["tor://late.onion:1"] });
    for (let n = 0; n < 240 && !hinted(one, "tor://late.onion:1"); n++) {
      mesh.clock.advance(1_000);
      await Bun.sleep(20);
    }
    expect(hinted(one, "tor://late.onion:1")).toBe(true);
    expect(late.host.hints.size).toBeGreaterThan(0);
  },
  60_000,
);

test.concurrent(
  "a DHT that grows: what a node said is put to those that came since, and no more once nobody comes",
  async () => {
    await using mesh = new TestMesh();
    const speaker = await mesh.add({ endpoints: ["tor://speaker.onion:1"] });
    const add = () => mesh.add({ secrets: ["theirs"], endpoints: [] });
    const kept = ({ host }: MeshNode) => host.gauges.get("kept") ?? 0;
    const seqOf = async () => Number(new TextDecoder().decode(await speaker.host.storage.get("seq")));
    const step = async (what: string, isSo: () => boolean) => {
      for (let n = 0; n < 80 && !isSo(); n++) {
        mesh.clock.advance(1_000);
        await Bun.sleep(50);
      }
      await until(what, isSo, 1);
    };
    // Its item, and its id in a slot of each of four periods.
    const early = await add();
    await step("the first one keeps it", () => kept(early) === 5);
    const late = [await add(), await add()];
    await step("those that came later keep it too", () => late.every((node) => kept(node) === 5));
    const seq = await seqOf();
    mesh.clock.advance(1_800_000);
    await Bun.sleep(1_000);
    expect(await seqOf()).toBe(seq);
  },
  60_000,
);

test("the public DHT is joined with a warning, and only when it is asked for", async () => {
  const validate = async (table: object) =>
    (await plugin.config["~standard"].validate(table)) as { value: unknown };
  const warnings = async (table: object) => plugin.warnings!((await validate(table)).value);
  expect(await warnings({})).toEqual([]);
  expect((await warnings({ public: true }))[0]).toContain("strangers of the public DHT");
});
