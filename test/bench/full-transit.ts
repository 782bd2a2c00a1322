/**
 * `bun test/bench/full-transit.ts [--bundles N] [--binary FILE]...`: a relay of dist/godwit with so many bundles of 600 bytes in its store, for a node that is
 * known and gone: how long it takes to start, resident memory and processor time at rest, and how long until the node that is back has taken them all. Each
 * `FILE` is another build, measured after this one on a copy of the same store.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { parseNodeId } from "../../runtime/kernel/ids.ts";
import { formatBase32 } from "../../runtime/kernel/ids.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { openSqliteStore } from "../../runtime/store/sqlite.ts";
import type { StoreOp } from "../../runtime/store/types.ts";
import { encodeBundleHeader, makeBundle } from "../../runtime/wire/bundle.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { LATER_MS, rest } from "./at-rest.ts";
import { idOf, metricOf } from "./probe.ts";

const SEALED_BYTES = 600;
const SOURCES = 100;
const COMMIT_ROWS = 500;
const DELIVERY_MS = 600_000;
const LIFETIME_MS = 86_400_000;

const { values } = parseArgs({
  options: { bundles: { type: "string", default: "100000" }, binary: { type: "string", multiple: true } },
});
const bundles = Number(values.bundles);
const room = `[delivery]\ntransit_messages_max = ${2 * bundles}`;

for (const binary of [binaryPath, ...(values.binary ?? [])]) {
  const lab = await Lab.create();
  try {
    await measure(lab, binary);
  } finally {
    await lab.close();
  }
}

async function measure(lab: Lab, binary: string): Promise<void> {
  const command = [binary];
  const recipient = await lab.add({ callsign: "LON-B", network: "bench", command });
  const peers = [recipient.endpoint];
  const relay = await lab.add({ callsign: "NYC-C", network: "bench", command, peers, extra: room });
  await recipient.start();
  await relay.start();
  const to = await idOf(recipient);
  await recipient.kill("SIGKILL");
  await relay.kill("SIGTERM");
  await fill(relay, to);
  console.log(binary);
  const startMs = performance.now();
  await relay.start();
  console.log(`  start ${(performance.now() - startMs).toFixed(0)} ms`);
  await rest(relay, "full");
  await rest(relay, "a minute later", LATER_MS);
  const backMs = performance.now();
  await recipient.start();
  const isOver = async () => (await metricOf(relay, "godwit_queue_messages")) === 0;
  await relay.until("an empty queue", isOver, DELIVERY_MS, 500);
  console.log(
    `  all gone ${((performance.now() - backMs) / 1_000).toFixed(1)} s after the recipient was back`,
  );
  await rest(relay, "then");
}

/** Rows as a relay writes them. Nobody can open what they hold: the recipient acknowledges it and forgets it. */
async function fill(relay: LabNode, to: string): Promise<void> {
  const store = await openSqliteStore({ path: join(relay.stateDir, "godwit.db"), log: silentLog });
  const destination = parseNodeId(to);
  const sources = Array.from({ length: SOURCES }, () => generateIdentity(systemRandom).id);
  let ops: StoreOp[] = [];
  for (let n = 0; n < bundles; n++) {
    const source = sources[n % SOURCES]!;
    const header = { kind: 0, priority: 2, source, destination, lifetimeMs: LIFETIME_MS } as const;
    const { id, sealed } = makeBundle(header, systemRandom.bytes(SEALED_BYTES));
    const atMs = Date.now();
    const meta = {
      header: formatBase32(encodeBundleHeader(header)),
      from: source,
      remainingMs: LIFETIME_MS,
      atRunMs: 0,
      atWallMs: atMs,
      hops: 1,
      trace: [{ node: source, atMs }],
    };
    const slot = { order: n + 1, group: `${header.priority} ${destination}` };
    ops.push({ op: "put", in: "transit", key: id, meta: JSON.stringify(meta), slot, body: sealed });
    if (ops.length < COMMIT_ROWS) continue;
    await store.commit(ops);
    ops = [];
  }
  await store.commit(ops);
  await store.close();
}
