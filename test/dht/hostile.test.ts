/**
 * Hostile nodes of the DHT and hostile members, over the kernel's UDP: items that are forged, stale, oversized or salted otherwise; slots that are
 * poisoned; a table that one liar would fill; floods. The honest ones go on finding each other, and nothing grows past its bound.
 */
import { expect, test } from "bun:test";
import type { udp } from "bun";
import { itemMessage, itemSalt } from "@godwit/sdk";
import { FakeSelf } from "@godwit/sdk/testkit";
import { type Encodable, encodeBencode } from "../../plugins/discovery-dht/bencode.ts";
import { NODES_PER_SOURCE_MAX } from "../../plugins/discovery-dht/client.ts";
import { MeshKeys, PLUGIN, publishedPeriods, SEED_PURPOSE } from "../../plugins/discovery-dht/keys.ts";
import { ITEMS_PER_SOURCE_MAX } from "../../plugins/discovery-dht/kept.ts";
import { compactOf } from "../../plugins/discovery-dht/krpc.ts";
import { encodeSlot } from "../../plugins/discovery-dht/record.ts";
import { hinted, TestMesh, until as untilHinted } from "../../plugins/discovery-dht/testing.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { freshAddress, newIdentity, type Place, signItem, Swarm, type SwarmNode, until } from "./swarm.ts";

const random = systemRandom;

type Answer = { readonly t: Buffer; readonly y: string; readonly body: string };

/** A socket that says whatever a test wants. */
class Liar {
  readonly host: string;
  port = 0;
  readonly id = random.bytes(20);
  /** What it answers to a query; undefined: nothing. */
  answer: (query: string, transaction: Buffer) => Encodable | undefined = () => undefined;
  readonly heard: Answer[] = [];
  #socket: udp.Socket<"buffer"> | undefined;

  private constructor(host: string) {
    this.host = host;
  }

  static async open(host = freshAddress()): Promise<Liar> {
    const liar = new Liar(host);
    liar.#socket = await Bun.udpSocket({
      hostname: host,
      port: 0,
      binaryType: "buffer",
      socket: {
        data(socket, bytes, port, address) {
          const text = bytes.toString("latin1");
          const t = Buffer.from(/1:t(?:4|2|8):([^]{2,8}?)1:y/.exec(text)?.[1] ?? "", "latin1");
          const y = /1:y1:(.)/.exec(text)?.[1] ?? "";
          liar.heard.push({ t, y, body: text });
          const answer = y === "q" ? liar.answer(text, t) : undefined;
          if (answer !== undefined) socket.send(encodeBencode(answer), port, address);
        },
      },
    });
    liar.port = liar.#socket.port;
    return liar;
  }

  send(to: Place, message: Encodable | Uint8Array): void {
    this.#socket!.send(message instanceof Uint8Array ? message : encodeBencode(message), to.port, to.host);
  }

  async ask(to: Place, q: string, a: { [key: string]: Encodable }): Promise<string> {
    const t = Buffer.from(random.bytes(2));
    this.send(to, { t, y: "q", q, a: { id: this.id, ...a } });
    let found: Answer | undefined;
    await until(
      `an answer to ${q}`,
      () => (found = this.heard.find((one) => one.t.equals(t))) !== undefined,
      2_000,
    );
    return found!.body;
  }

  async token(of: Place, target: Uint8Array): Promise<Buffer> {
    const body = await this.ask(of, "get", { target });
    return Buffer.from(/5:token20:([^]{20})/.exec(body)![1]!, "latin1");
  }

  close(): void {
    this.#socket!.close();
  }
}

const label = random.bytes(8);
const salt = itemSalt(PLUGIN, label);
const fields = ({ key, salt: of, seq, value, signature }: ReturnType<typeof signItem>) => ({
  ...{ k: key, salt: of, seq, v: value, sig: signature },
});
const nodesOf = (count: number) => async (swarm: Swarm) => {
  await swarm.add();
  await swarm.grow(count - 1);
};

test("what is put: forged, stale, oversized and tokenless items are not kept, one source keeps its share", async () => {
  await using swarm = new Swarm();
  await nodesOf(3)(swarm);
  const victim = swarm.nodes[0]!;
  const liar = await Liar.open();
  const owner = newIdentity();
  const token = await liar.token(victim, random.bytes(20));
  const right = signItem(owner, label, 5, Buffer.from("right"));
  const { client } = victim;
  const kept = () => client.keptCount;
  expect(await liar.ask(victim, "put", { token, ...fields(right) })).toContain("1:y1:r");
  expect(kept()).toBe(1);
  const forged = { ...fields(right), v: Buffer.from("forged"), seq: 6 };
  liar.send(victim, { t: "aa", y: "q", q: "put", a: { id: liar.id, token, ...forged } });
  for (const [a, why] of [
    [fields(signItem(owner, label, 4, Buffer.from("stale"))), "302"],
    [{ ...fields(right), v: new Uint8Array(1_000) }, "205"],
    [{ ...fields(right), token: random.bytes(20) }, "203"],
  ] as const)
    expect(await liar.ask(victim, "put", { token, ...a })).toContain(`i${why}e`);
  // Right in itself, but an item of another salt: nobody who looks for this one is given it.
  const elsewhere = signItem(owner, random.bytes(8), 9, Buffer.from("elsewhere"));
  expect(await liar.ask(victim, "put", { token, ...fields(elsewhere) })).toContain("1:y1:r");
  const found = await swarm.nodes[1]!.client.get(owner.publicKey, salt);
  expect([found?.seq, Buffer.from(found!.value).toString()]).toEqual([5, "right"]);

  let refused = 0;
  for (let n = 0; n < ITEMS_PER_SOURCE_MAX + 40 && refused < 3; n++) {
    const item = signItem(newIdentity(), label, 1, random.bytes(10));
    const body = await liar.ask(victim, "put", { token, ...fields(item) }).catch(() => "");
    if (body.includes("i202e")) refused++;
    // No faster than it may.
    await Bun.sleep(12);
  }
  expect(kept()).toBeLessThanOrEqual(ITEMS_PER_SOURCE_MAX);
  expect(victim.counts.get("fault") ?? 0).toBe(0);
  const honest = signItem(newIdentity(), label, 1, Buffer.from("honest"));
  expect(await swarm.nodes[1]!.client.put(honest)).toBeGreaterThan(0);
  liar.close();
}, 30_000);

test("what is got: nodes that answer with forged, foreign, stale or oversized items change nothing", async () => {
  await using swarm = new Swarm();
  await nodesOf(4)(swarm);
  const owner = newIdentity();
  const right = signItem(owner, label, 7, Buffer.from("right"));
  expect(await swarm.nodes[1]!.client.put(right)).toBeGreaterThan(0);
  const lies = [
    { ...fields(right), v: Buffer.from("forged"), seq: 8 },
    { ...fields(right), seq: 99 },
    fields(signItem(newIdentity(), label, 50, Buffer.from("another's"))),
    fields(signItem(owner, random.bytes(8), 50, Buffer.from("another salt"))),
    fields(signItem(owner, label, 6, Buffer.from("stale"))),
    { ...fields(right), v: new Uint8Array(1_200) },
    { ...fields(right), k: new Uint8Array(32), sig: new Uint8Array(64) },
  ];
  const liars: Liar[] = [];
  for (const lie of lies) {
    const liar = await Liar.open();
    liars.push(liar);
    liar.answer = (_query, t) => ({
      t,
      y: "r",
      r: { id: liar.id, token: "tok", nodes: "", ...lie, salt: undefined },
    });
    for (const { client } of swarm.nodes) client.meet(liar.host, liar.port);
  }
  const asker = swarm.nodes[3]!;
  await until("the liars are in the table", () => asker.client.nodeCount >= 3 + lies.length);
  for (let n = 0; n < 5; n++) {
    const found = await asker.client.get(owner.publicKey, salt);
    expect([found?.seq, Buffer.from(found!.value).toString()]).toEqual([7, "right"]);
  }
  expect(liars.every(({ heard }) => heard.some(({ body }) => body.includes("3:get")))).toBe(true);
  for (const liar of liars) liar.close();
}, 30_000);

test("a table full of one liar's ids: it gets four places, and what is put and got does not go through it", async () => {
  await using swarm = new Swarm();
  const victim = await swarm.add();
  const host = freshAddress();
  const owner = newIdentity();
  const item = signItem(owner, label, 1, Buffer.from("whatever"));
  const liars: Liar[] = [];
  for (let n = 0; n < 60; n++) {
    const liar = await Liar.open(host);
    liars.push(liar);
    // Names more of itself, each nearer to whatever is asked for, and says that it keeps nothing.
    liar.answer = (query, t) => {
      const target = Buffer.from(/(?:6:target|9:info_hash)20:([^]{20})/.exec(query)?.[1] ?? "", "latin1");
      const id = target.length === 20 ? Buffer.from(target) : Buffer.from(liar.id);
      id[19]! ^= n;
      const nodes = compactOf(liars.slice(0, 8).map((one) => ({ id: one.id, host, port: one.port })));
      return { t, y: "r", r: { id: liar.id, token: "tok", nodes } };
    };
    liar.send(victim, { t: "aa", y: "q", q: "ping", a: { id: liar.id } });
    if (n < 6) victim.client.meet(host, liar.port);
  }
  await until("the table has what it takes of them", () => victim.client.nodeCount >= NODES_PER_SOURCE_MAX);
  await swarm.grow(9);
  expect(victim.client.nodes.filter((node) => node.host === host).length).toBeLessThanOrEqual(
    NODES_PER_SOURCE_MAX,
  );
  await until("honest ones", () => swarm.nodes.every(({ client }) => client.nodeCount >= 6));
  expect(await victim.client.put(item)).toBeGreaterThan(3);
  for (const { client } of swarm.nodes.slice(1))
    expect(Buffer.from((await client.get(owner.publicKey, salt))!.value).toString()).toBe("whatever");
  for (const { client } of swarm.nodes)
    expect(client.nodes.filter((node) => node.host === host).length).toBeLessThanOrEqual(
      NODES_PER_SOURCE_MAX,
    );
  for (const liar of liars) liar.close();
}, 40_000);

test("answers that nobody asked for, and answers from elsewhere, put nobody into the table", async () => {
  await using swarm = new Swarm();
  const victim = await swarm.add();
  const liar = await Liar.open();
  for (let n = 0; n < 100; n++)
    liar.send(victim, { t: random.bytes(4), y: "r", r: { id: random.bytes(20), token: "t", nodes: "" } });
  await until("they are counted", () => (victim.counts.get("unasked") ?? 0) >= 100);
  // It asks, and does not answer when it is asked back.
  liar.send(victim, { t: "aa", y: "q", q: "find_node", a: { id: liar.id, target: random.bytes(20) } });
  await until("it is asked back", () =>
    liar.heard.some(({ y, body }) => y === "q" && body.includes("4:ping")),
  );
  expect(victim.client.nodeCount).toBe(0);
  // BEP 43: who says that it answers nobody is not asked.
  const quiet = await Liar.open();
  quiet.send(victim, { t: "ab", y: "q", q: "ping", a: { id: quiet.id }, ro: 1 });
  await until("it is answered", () => quiet.heard.length > 0);
  expect(quiet.heard.every(({ y }) => y === "r")).toBe(true);
  liar.close();
  quiet.close();
}, 20_000);

test("a flood of garbage and of queries from one address costs a bounded part, and others are served meanwhile", async () => {
  await using swarm = new Swarm();
  await nodesOf(4)(swarm);
  const [victim, ...others] = swarm.nodes as [SwarmNode, ...SwarmNode[]];
  const owner = newIdentity();
  await others[0]!.client.put(signItem(owner, label, 1, Buffer.from("there")));
  const liar = await Liar.open();
  const query = encodeBencode({ t: "aa", y: "q", q: "get", a: { id: liar.id, target: random.bytes(20) } });
  const before = process.cpuUsage();
  const startedMs = performance.now();
  let sent = 0;
  for (let turn = 0; turn < 100; turn++) {
    for (let n = 0; n < 200; n++) {
      const noise = random.bytes(1 + random.below(1_400));
      liar.send(victim, n % 4 === 0 ? noise : n % 4 === 1 ? Buffer.from("d".repeat(1_400)) : query);
      sent++;
    }
    await Bun.sleep(1);
    if (turn % 20 !== 10) continue;
    for (const { client } of others) expect((await client.get(owner.publicKey, salt))?.seq).toBe(1);
    expect((await victim.client.get(owner.publicKey, salt))?.seq).toBe(1);
  }
  const seconds = (performance.now() - startedMs) / 1_000;
  const { user, system } = process.cpuUsage(before);
  console.log(
    `  ${sent} datagrams in ${seconds.toFixed(1)} s, ${((user + system) / 1_000).toFixed(0)} ms of processor time with both ends`,
  );
  const limited = victim.counts.get("limited") ?? 0;
  const answered = liar.heard.filter(({ y }) => y !== "q").length;
  expect(limited).toBeGreaterThan(1_000);
  // Its share: 150 at once and 20 a second after that.
  expect(answered).toBeLessThanOrEqual(150 + 20 * (seconds + 1));
  expect(victim.counts.get("fault") ?? 0).toBe(0);
  liar.close();
}, 40_000);

test("poisoned slots: a member that writes others out, with sequences of the far future, keeps nobody from being found", async () => {
  await using mesh = new TestMesh();
  const a = await mesh.add({ endpoints: ["tcp://192.0.2.1:1"] });
  const b = await mesh.add({ endpoints: ["tcp://192.0.2.2:1"] });
  await mesh.add({ endpoints: ["tcp://192.0.2.3:1"] });
  await untilHinted(
    "they know each other",
    () => hinted(a, "tcp://192.0.2.2:1") && hinted(b, "tcp://192.0.2.1:1"),
    20_000,
  );
  const member = new FakeSelf({ plugin: PLUGIN });
  member.secrets = ["ours"];
  const keys = new MeshKeys((await member.meshSeeds(SEED_PURPOSE))[0]!);
  await using swarm = new Swarm();
  const [first] = a.place.split(":");
  const poisoner = await swarm.add({ first: { host: first!, port: Number(a.place.split(":")[1]) } });
  await until("the poisoner knows the others", () => poisoner.client.nodeCount >= 3);
  let taken = 0;
  for (const period of publishedPeriods(Date.now()))
    for (let slot = 0; slot < 8; slot++) {
      const meeting = keys.meeting(period);
      const slotSalt = Buffer.from(`slot ${slot}`);
      const junk = encodeSlot(Array.from({ length: 30 }, () => random.bytes(32)));
      const value = keys.seal(Buffer.concat([meeting.publicKey, slotSalt]), junk, random);
      for (const seq of [Math.floor(Date.now() / 1_000), 2 ** 53 - 1]) {
        const signature = meeting.sign(itemMessage(slotSalt, seq, value));
        taken += await poisoner.client.put({ key: meeting.publicKey, salt: slotSalt, seq, value, signature });
      }
    }
  // The first kind is within the bound, and taken; the second nobody takes, or nobody could ever write these slots again.
  expect(taken).toBeGreaterThan(0);
  const newcomer = await mesh.add({ endpoints: ["tcp://192.0.2.9:1"] });
  await untilHinted(
    "the newcomer finds all",
    () => [1, 2, 3].every((n) => hinted(newcomer, `tcp://192.0.2.${n}:1`)),
    40_000,
  );
  await untilHinted("it is found", () => hinted(a, "tcp://192.0.2.9:1"), 60_000);
}, 120_000);
