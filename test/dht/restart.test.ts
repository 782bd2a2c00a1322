/** Nodes that begin anew know nothing of the tokens they gave: what is put after that finds takers all the same. */
import { expect, test } from "bun:test";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { newIdentity, signItem, Swarm } from "./swarm.ts";

const NODES = 8;

test("an item is put again after everybody who took it has begun anew", async () => {
  await using swarm = new Swarm();
  await swarm.add();
  await swarm.grow(NODES - 1);
  const { client } = swarm.nodes[0]!;
  const [owner, label] = [newIdentity(), systemRandom.bytes(8)];
  const put = (seq: number) => client.put(signItem(owner, label, seq, Buffer.from(String(seq))));
  expect(await put(1)).toBeGreaterThan(3);
  for (const node of swarm.nodes.slice(1)) {
    await swarm.remove(node);
    await swarm.add({ host: node.host, port: node.port, id: node.id });
  }
  expect(await put(2)).toBeGreaterThan(3);
});
