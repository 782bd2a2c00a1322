/**
 * What the DHT of twenty nodes may cost and take: from a put to a get elsewhere, and the bytes of an hour in which nothing happens. Figures are
 * printed; docs/dht.md has them.
 */
import { expect, test } from "bun:test";
import { itemSalt } from "@godwit/sdk";
import { PLUGIN } from "../../plugins/discovery-dht/keys.ts";
import { link, TestMesh, until as untilHinted } from "../../plugins/discovery-dht/testing.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { newIdentity, percentile, signItem, Swarm } from "./swarm.ts";

const NODES = 20;
const PUTS = 60;
const PUT_TO_GET_MS = 500;
const IDLE_BYTES_PER_SECOND = 60;
const HOURS = 3;
const HOUR_MS = 3_600_000;
/** UDP and IPv4. */
const HEADERS_BYTES = 28;

test(`twenty nodes: what one puts another gets within ${PUT_TO_GET_MS} ms, p95`, async () => {
  await using swarm = new Swarm();
  await swarm.add();
  await swarm.grow(NODES - 1);
  const label = systemRandom.bytes(8);
  const times: number[] = [];
  for (let n = 0; n < PUTS; n++) {
    const item = signItem(newIdentity(), label, 1, systemRandom.bytes(996));
    const [from, to] = [swarm.nodes[n % NODES]!, swarm.nodes[(n * 7 + 3) % NODES]!];
    const startedMs = performance.now();
    expect(await from.client.put(item)).toBeGreaterThan(0);
    const found = await to.client.get(item.key, itemSalt(PLUGIN, label));
    times.push(performance.now() - startedMs);
    expect(Buffer.from(found!.value).equals(item.value)).toBe(true);
  }
  const [median, p95] = [percentile(times, 0.5), percentile(times, 0.95)];
  console.log(`  put to get among ${NODES}: median ${median.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms`);
  expect(p95).toBeLessThanOrEqual(PUT_TO_GET_MS);
}, 60_000);

test(`twenty linked members, three hours: at most ${IDLE_BYTES_PER_SECOND} B/s a node, both directions, headers counted`, async () => {
  await using mesh = new TestMesh();
  for (let n = 0; n < NODES; n++) await mesh.add();
  await untilHinted(
    "all are found",
    () => mesh.nodes.every(({ host }) => host.hints.size >= NODES - 2),
    40_000,
  );
  for (const [n, { host }] of mesh.nodes.entries())
    for (const other of mesh.nodes.slice(n + 1)) link(host, other.host);
  const sum = (name: string) =>
    mesh.nodes.reduce(
      (total, { host }) =>
        total + [...host.counters].reduce((all, [key, count]) => all + (key.startsWith(name) ? count : 0), 0),
      0,
    );
  // What goes out is as many datagrams as what comes in, here.
  const spent = () => sum("bytes{") + 2 * HEADERS_BYTES * sum("datagrams{");
  const settled = async () => {
    for (let before = -1, now = spent(); before !== now; before = now, now = spent()) await Bun.sleep(1_000);
  };
  await settled();
  const before = spent();
  for (let hour = 0; hour < HOURS; hour++) {
    mesh.clock.advance(HOUR_MS);
    await settled();
  }
  const perSecond = (spent() - before) / NODES / (HOURS * (HOUR_MS / 1_000));
  console.log(`  ${HOURS} hours of ${NODES} linked members: ${perSecond.toFixed(1)} B/s a node`);
  expect(perSecond).toBeLessThanOrEqual(IDLE_BYTES_PER_SECOND);
}, 90_000);
