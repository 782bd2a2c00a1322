/**
 * `bun test/bench/full-outbox.ts [--messages N] [--binary FILE]...`: so many messages of 512 bytes for a node that is known and gone, sent through the API of
 * dist/godwit: processor time a message, resident memory and processor time at rest, in the life that accepted them and in the next, how long that one takes to
 * start, and how long until all are delivered once the recipient is back. Each `FILE` is another build, measured after this one.
 */
import { parseArgs } from "node:util";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { LATER_MS, rest } from "./at-rest.ts";
import { idOf, metricOf } from "./probe.ts";
import { cpuMs } from "./process.ts";

const BODY_BYTES = 512;
const SENDERS = 64;
const DELIVERY_MS = 600_000;

const { values } = parseArgs({
  options: { messages: { type: "string", default: "100000" }, binary: { type: "string", multiple: true } },
});
const messages = Number(values.messages);
const room = `[delivery]\noutbox_messages_max = ${2 * messages}\ninbox_messages_max = ${4 * messages}`;

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
  const recipient = await lab.add({ callsign: "LON-B", network: "bench", command, extra: room });
  const peers = [recipient.endpoint];
  const source = await lab.add({ callsign: "DUN-A", network: "bench", command, peers, extra: room });
  await recipient.start();
  await source.start();
  const to = await idOf(recipient);
  await recipient.kill("SIGKILL");
  console.log(binary);
  const startMs = performance.now();
  const before = cpuMs(source.pid!);
  const body = new Uint8Array(BODY_BYTES);
  await Promise.all(
    Array.from({ length: SENDERS }, async (_, first) => {
      for (let n = first; n < messages; n += SENDERS) await source.sendBytes(body, { to });
    }),
  );
  const seconds = (performance.now() - startMs) / 1_000;
  const cpuUs = ((cpuMs(source.pid!) - before) * 1_000) / messages;
  console.log(
    `  accepted ${messages} in ${seconds.toFixed(1)} s, ${cpuUs.toFixed(0)} us of processor time each`,
  );
  await rest(source, "in that life");
  await source.kill("SIGTERM");
  const againMs = performance.now();
  await source.start();
  console.log(`  next start ${(performance.now() - againMs).toFixed(0)} ms`);
  await rest(source, "in the next");
  await rest(source, "a minute later", LATER_MS);
  const backMs = performance.now();
  await recipient.start();
  const isOver = async () => (await metricOf(source, "godwit_queue_messages")) === 0;
  await source.until("the receipts", isOver, DELIVERY_MS, 500);
  console.log(
    `  all delivered ${((performance.now() - backMs) / 1_000).toFixed(1)} s after the recipient was back`,
  );
  await rest(source, "then");
}
