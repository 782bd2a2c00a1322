/** What a linked neighbour may have carried: how much, how often, of whose. Neighbours are real keys; their messages arrive as the host hands them over. */
import { expect, test } from "bun:test";
import { itemSalt } from "@godwit/sdk";
import { FakePeers, FakeSelf, seededRandom } from "@godwit/sdk/testkit";
import { placeOf } from "./board.ts";
import { type CarriedItem, decodeCarry, encodeFound, encodeLookUp, encodePut } from "./carry.ts";
import { idBytes, MeshKeys, PLUGIN, SEED_PURPOSE } from "./keys.ts";
import { encodeRecord } from "./record.ts";
import { link, type MeshNode, TestMesh, until } from "./testing.ts";

const MINUTE_MS = 60_000;
const random = seededRandom(11);

/** Linked to `carrier`, and says what a test wants. */
class Neighbour {
  readonly self = new FakeSelf({ plugin: PLUGIN });
  /** What came back. */
  readonly heard: Uint8Array[] = [];
  readonly #carrier: MeshNode;
  #seq = 0;

  constructor(carrier: MeshNode, secret = "ours") {
    this.self.secrets = [secret];
    this.#carrier = carrier;
    const peers = new FakePeers({ id: this.self.id });
    peers.onMessage((_from, message) => void this.heard.push(message));
    FakePeers.join(peers, carrier.host.peers);
  }

  async item(endpoint: string): Promise<CarriedItem> {
    const keys = new MeshKeys((await this.self.meshSeeds(SEED_PURPOSE))[0]!);
    const key = idBytes(this.self.id)!;
    const record = encodeRecord({ callsign: undefined, endpoints: [endpoint] });
    const value = keys.seal(placeOf(key, itemSalt(PLUGIN, keys.label)), record, random);
    const seq = ++this.#seq;
    const signature = await this.self.signItem({ label: keys.label, seq, value });
    return { key, label: keys.label, seq, value, signature };
  }

  say(message: Uint8Array): void {
    this.#carrier.host.peers.receive(this.self.id, message);
  }

  async put(times: number, endpoint = "tor://n.onion:1"): Promise<void> {
    for (let n = 0; n < times; n++) this.say(encodePut(await this.item(endpoint)));
  }

  get found(): CarriedItem[] {
    return this.heard.flatMap((bytes) => {
      const message = decodeCarry(bytes);
      return message?.kind === "found" ? message.items : [];
    });
  }
}

/** Messages of neighbours by what came of them. */
function outcomes({ host }: MeshNode): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [key, count] of host.counters) {
    const outcome = /^carried\{outcome="?(\w+)"?\}$/.exec(key)?.[1];
    if (outcome !== undefined) found[outcome] = count;
  }
  return found;
}

test("of one neighbour eight items at once and one a minute after that, whatever others bring", async () => {
  await using mesh = new TestMesh();
  const carrier = await mesh.add({ endpoints: [] });
  const [greedy, other] = [new Neighbour(carrier), new Neighbour(carrier)];
  await greedy.put(40);
  expect(outcomes(carrier)).toEqual({ put: 8, limited: 32 });
  await other.put(8, "tor://other.onion:1");
  expect(outcomes(carrier)).toEqual({ put: 16, limited: 32 });
  expect(carrier.host.hints.has("tor://other.onion:1")).toBe(true);
  mesh.clock.advance(2 * MINUTE_MS);
  await greedy.put(10);
  expect(outcomes(carrier)).toEqual({ put: 18, limited: 40 });
});

test("an item is its bringer's own, signed, of a live secret, and no longer than an item of the DHT", async () => {
  await using mesh = new TestMesh();
  const carrier = await mesh.add({ endpoints: [] });
  const [one, other, stranger] = [
    new Neighbour(carrier),
    new Neighbour(carrier),
    new Neighbour(carrier, "theirs"),
  ];
  const item = await one.item("tor://one.onion:1");
  other.say(encodePut(item));
  one.say(encodePut({ ...item, seq: item.seq + 1 }));
  stranger.say(encodePut(await stranger.item("tor://stranger.onion:1")));
  expect(outcomes(carrier)).toEqual({ refused: 3 });
  one.say(encodePut({ ...item, value: random.bytes(997) }));
  expect(outcomes(carrier)).toEqual({ refused: 3, malformed: 1 });
  expect(carrier.host.hints.size).toBe(0);
  one.say(encodePut(item));
  expect(outcomes(carrier)).toEqual({ refused: 3, malformed: 1, put: 1 });
  expect([...carrier.host.hints.keys()]).toEqual(["tor://one.onion:1"]);
});

test("of one neighbour four questions at once and one a minute after that, each answered with 24 nodes at most", async () => {
  await using mesh = new TestMesh();
  const carrier = await mesh.add({ endpoints: [] });
  for (let n = 0; n < 40; n++) await new Neighbour(carrier).put(1, `tor://n${n}.onion:1`);
  expect(carrier.host.hints.size).toBe(40);
  const [asker, other] = [new Neighbour(carrier), new Neighbour(carrier)];
  asker.say(encodeLookUp());
  await until("the answer", () => asker.found.length > 0);
  await Bun.sleep(50);
  expect(new Set(asker.found.map(({ signature }) => Buffer.from(signature).toString("hex"))).size).toBe(24);
  for (let n = 0; n < 20; n++) asker.say(encodeLookUp());
  expect(outcomes(carrier)).toEqual({ put: 40, asked: 4, limited: 17 });
  other.say(encodeLookUp());
  expect(outcomes(carrier)).toEqual({ put: 40, asked: 5, limited: 17 });
  mesh.clock.advance(MINUTE_MS);
  for (let n = 0; n < 5; n++) asker.say(encodeLookUp());
  expect(outcomes(carrier)).toEqual({ put: 40, asked: 6, limited: 21 });
});

test("answers are taken of whom it asked, for two minutes, 24 nodes of each", async () => {
  await using mesh = new TestMesh();
  const carrier = await mesh.add({ endpoints: [] });
  const asking = await mesh.add({ endpoints: [], config: { listen: [], bootstrap: [] } });
  const many = await Promise.all(
    Array.from({ length: 30 }, (_, n) => new Neighbour(carrier).item(`tor://n${n}.onion:1`)),
  );
  const [small] = encodeFound(many.slice(0, 20));
  asking.host.peers.receive(carrier.host.self.id, small!);
  expect(outcomes(asking)).toEqual({ unasked: 1 });
  expect(asking.host.hints.size).toBe(0);
  link(asking.host, carrier.host);
  await until("it is asked", () => asking.host.peers.sent.some(({ message }) => message[0] === 2));
  await until("it is answered", () => (outcomes(asking)["found"] ?? 0) > 0);
  const answer = Buffer.concat([...encodeFound(many)].map((part, n) => part.subarray(n === 0 ? 0 : 1)));
  asking.host.peers.receive(carrier.host.self.id, answer);
  expect(asking.host.hints.size).toBe(24);
  mesh.clock.advance(121_000);
  asking.host.peers.receive(carrier.host.self.id, small!);
  expect(outcomes(asking)["unasked"]).toBe(2);
});
