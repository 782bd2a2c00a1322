/**
 * Against an independent implementation: what libtorrent puts, salted and updated, Godwit's client gets, and the other way, while nodes of the DHT come
 * and go. A node's record put by libtorrent under the node's key is a hint like any other.
 */
import { expect, test } from "bun:test";
import { itemSalt } from "@godwit/sdk";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { PLUGIN } from "../../plugins/discovery-dht/keys.ts";
import { expandedKey, newIdentity, signItem, Swarm, until, whyNoLibtorrent } from "./swarm.ts";

const why = whyNoLibtorrent();
const NODES = 20;
const CHURN_MS = 2_000;
const GONE_EACH = 4;
const CHANGES = 4;
/** How long it may take among nodes that go and come, on a machine that has other things to do. */
const CHURNED_MS = 90_000;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/**
 * Until `stop`: a node goes without a word, and comes back at its place with nothing in its store, as after a restart; now and then another one comes
 * elsewhere instead, but seldom, because libtorrent waits 15 s for each that is gone. The first stays, for those who are told of it.
 */
class Churn implements AsyncDisposable {
  readonly #running: Promise<void>;
  #isOver = false;
  changes = 0;

  constructor(swarm: Swarm) {
    this.#running = this.#run(swarm);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #run(swarm: Swarm): Promise<void> {
    while (!this.#isOver) {
      const node = swarm.nodes[1 + systemRandom.below(swarm.nodes.length - 1)]!;
      await swarm.remove(node);
      await swarm.add(
        ++this.changes % GONE_EACH === 0 ? {} : { host: node.host, port: node.port, id: node.id },
      );
      await Bun.sleep(CHURN_MS);
    }
  }
}

test.skipIf(why !== undefined && process.env["CI"] !== "true")(
  `libtorrent puts and Godwit gets, and the other way, salted and updated, while 20 nodes churn${why === undefined ? "" : ` [skipped: ${why}]`}`,
  async () => {
    await using swarm = new Swarm();
    await swarm.add();
    await swarm.grow(NODES - 1);
    const peer = await swarm.libtorrent();
    await using churn = new Churn(swarm);
    const { client } = swarm.nodes[0]!;
    const label = systemRandom.bytes(8);
    const salt = itemSalt(PLUGIN, label);
    const [theirs, ours] = [newIdentity(), newIdentity()];
    const seqs: number[] = [];
    for (let round = 1; round <= 3 || churn.changes < CHANGES; round++) {
      const value = Buffer.from(`libtorrent ${round}`);
      const put = { ask: "put", private: hex(expandedKey(theirs)), value: hex(value) };
      const asked = { ...put, public: hex(theirs.publicKey), salt: hex(salt) };
      // Who holds it may be gone before libtorrent, which waits for the dead, is done: then it puts it again.
      await until(
        `what libtorrent put, ${round}`,
        async () => {
          if (((await peer.ask(asked)) as number) === 0) return false;
          const item = await client.get(theirs.publicKey, salt);
          return item !== undefined && Buffer.from(item.value).equals(value) && seqs.push(item.seq) > 0;
        },
        CHURNED_MS,
      );
      const seq = 10 * round;
      const item = signItem(ours, label, seq, Buffer.from(`godwit ${round}`));
      // The same holds for who took it, and for a lookup among those that went.
      await until("somebody takes it", async () => (await client.put(item)) > 0, CHURNED_MS);
      await until(`what Godwit put, ${round}`, async () => {
        const found = await peer.ask({ ask: "get", public: hex(ours.publicKey), salt: hex(salt) });
        const { value: got, seq: at } = (found ?? {}) as { value?: string; seq?: number };
        return at === seq && got === hex(item.value);
      });
    }
    await churn.stop();
    // Older than what is there: no node that has the newer one takes it.
    const [newer, older] = [4_000, 3_999].map((seq) => signItem(ours, label, seq, Buffer.from(String(seq))));
    expect(await client.put(newer!)).toBeGreaterThan(0);
    await client.put(older!);
    expect((await client.get(ours.publicKey, salt))?.seq).toBe(4_000);
    expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
    expect(await client.get(theirs.publicKey, itemSalt(PLUGIN, systemRandom.bytes(8)))).toBeUndefined();
    console.log(`  rounds ${seqs.length}, nodes that went and came meanwhile ${churn.changes}`);
  },
  300_000,
);
