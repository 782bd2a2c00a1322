import { expect, test } from "bun:test";
import { FakeSelf, FakeStorage } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { encodeBencode } from "./bencode.ts";
import { formatId, idBytes, MeshKeys, PLUGIN, publishedPeriods, SEED_PURPOSE } from "./keys.ts";
import { targetOf } from "./kept.ts";
import { decodeSlot } from "./record.ts";
import { slotOf } from "./rendezvous.ts";
import { hinted, link, loopbackAddress, type MeshNode, TestMesh, until } from "./testing.ts";

const DAY_MS = 86_400_000;

test("nodes of one secret find each other, those of another find nobody, and a record that changes replaces its hints", async () => {
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
}, 120_000);

test("a secret that is replaced: nodes meet under each that is live, and one that has only the old one is met until it ends", async () => {
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
}, 120_000);

test("a node in 1970, one a week behind and one in 2099 are found, and find the others", async () => {
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
}, 180_000);

test("the sequence goes on over restarts, and over a state that was lost", async () => {
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
}, 90_000);

test("a member without a socket is carried: found by others, and told of them, through the member that it is linked to", async () => {
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
}, 180_000);

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

test("two who share a slot and write it at once find each other at once, and soon every copy of it names both", async () => {
  for (let n = 0; n < 4; n++) {
    await using mesh = new TestMesh();
    const selves = sameSlot(2) as [FakeSelf, FakeSelf];
    const [a, b] = await Promise.all([
      mesh.add({ self: selves[0], endpoints: ["tor://a.onion:1"] }),
      mesh.add({ self: selves[1], endpoints: ["tor://b.onion:1"] }),
    ]);
    await until("a finds b", () => hinted(a, "tor://b.onion:1"));
    await until("b finds a", () => hinted(b, "tor://a.onion:1"));
    // They look again, each in its time. Nothing else would mend it: nobody comes, and an hour is far.
    const copies = async () => (await Promise.all([a, b].map(({ place }) => copiesOf(place, selves)))).flat();
    for (let step = 0; step < 100 && (await copies()).some((count) => count < 2); step++) {
      mesh.clock.advance(250);
      await Bun.sleep(30);
    }
    expect(await copies()).toEqual(Array.from({ length: 8 }, () => 2));
    const c = await mesh.add({ endpoints: ["tor://c.onion:1"] });
    await until("c finds both", () => ["a", "b"].every((name) => hinted(c, `tor://${name}.onion:1`)));
  }
}, 180_000);

/** How many of `selves` the one copy at `place` names, of their slot in each period. */
async function copiesOf(place: string, selves: readonly FakeSelf[]): Promise<number[]> {
  const keys = new MeshKeys((await selves[0]!.meshSeeds(SEED_PURPOSE))[0]!);
  const slot = slotOf(idBytes(selves[0]!.id)!, 0);
  const salt = Buffer.from(`slot ${slot}`);
  const [host, port] = place.split(":") as [string, string];
  const socket = await Bun.udpSocket({
    hostname: loopbackAddress(),
    port: 0,
    binaryType: "buffer",
    socket: { data: (_socket, bytes) => heard(bytes) },
  });
  let heard: (bytes: Buffer) => void = () => {};
  try {
    const counts: number[] = [];
    for (const period of publishedPeriods(Date.now())) {
      const { publicKey } = keys.meeting(period);
      const target = Buffer.from(targetOf({ key: publicKey, salt, value: publicKey }), "hex");
      const answer = new Promise<Buffer>((resolve) => (heard = resolve));
      // BEP 43: it is asked by somebody who is no node, so that its table stays as it is.
      const query = { t: "aa", y: "q", q: "get", ro: 1, a: { id: Buffer.alloc(20, 7), target } };
      socket.send(encodeBencode(query), Number(port), host);
      const text = (await answer).toString("latin1");
      const [head, length] = /1:v(\d+):/.exec(text) ?? ["", "0"];
      const at = text.indexOf(head) + head.length;
      const value = Buffer.from(text.slice(at, at + Number(length)), "latin1");
      const plain = keys.open(Buffer.concat([publicKey, salt]), value);
      const ids = (plain === undefined ? undefined : decodeSlot(plain)) ?? [];
      counts.push(selves.filter(({ id }) => ids.some((bytes) => formatId(bytes) === id)).length);
    }
    return counts;
  } finally {
    socket.close();
  }
}

test("two halves of a DHT that both wrote one slot while they were apart find each other after the heal", async () => {
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
}, 180_000);

test("the public DHT is joined with a warning, and only when it is asked for", async () => {
  const validate = async (table: object) =>
    (await plugin.config["~standard"].validate(table)) as { value: unknown };
  const warnings = async (table: object) => plugin.warnings!((await validate(table)).value);
  expect(await warnings({})).toEqual([]);
  expect((await warnings({ public: true }))[0]).toContain("strangers of the public DHT");
});
