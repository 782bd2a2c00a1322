/**
 * `kill -9` at each named step of the custody protocol, for the source, the relay and the recipient: whatever had been
 * durable by then is delivered, and nothing twice. The victim runs from source behind step-preload.ts in its first life,
 * as the compiled binary in its second; the other two are the binary throughout.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { closeClusters, Cluster, type Message } from "./cluster.ts";
import { Ledger, type Sent } from "./ledger.ts";

afterAll(closeClusters);

const root = join(import.meta.dir, "../..");
const FROM_SOURCE = [
  process.execPath,
  "--preload",
  join(import.meta.dir, "step-preload.ts"),
  join(root, "runtime/main.ts"),
];
const TIMEOUT_MS = 90_000;
/** Meshes of three processes that run at once. */
const AT_ONCE = 4;
/** A step is met within this, or it does not exist. */
const REACH_MS = 20_000;

type Role = "source" | "relay" | "recipient";
const VICTIMS: Readonly<Record<Role, string>> = { source: "DUN-A", relay: "LON-B", recipient: "NYC-C" };

/** With `:2` and so on the step is passed once before: mostly it is then that of the receipt on its way back. */
const STEPS: Readonly<Record<Role, readonly string[]>> = {
  source: [
    "commit:outbox-queued:before",
    "commit:outbox-queued:after",
    "send:bundle:after",
    "frame:ack:before",
    "frame:bundle:before", // the receipt has come
    "commit:outbox-delivered:before",
    "commit:outbox-delivered:after",
    "send:ack:after", // of the receipt
  ],
  relay: [
    "frame:bundle:before",
    "commit:transit:before",
    "commit:transit:after",
    "send:ack:after",
    "send:bundle:after",
    "frame:ack:before",
    "commit:release:before",
    "commit:release:after",
    "commit:transit:before:2",
    "commit:transit:after:2",
    "send:bundle:after:2",
    "commit:release:before:2",
  ],
  recipient: [
    "frame:bundle:before",
    "commit:inbox:before",
    "commit:inbox:after",
    "send:ack:after",
    "commit:transit:before", // its receipt
    "commit:transit:after",
    "send:bundle:after",
    "commit:release:before",
    "commit:release:after",
  ],
};

const LARGE_STEPS: Readonly<Record<Role, readonly string[]>> = {
  source: ["send:offer:after", "frame:want:before", "send:chunk:after:20"],
  relay: [
    "frame:offer:before",
    "send:want:after",
    "commit:chunk:before",
    "commit:chunk:after",
    "commit:transit:before",
    "commit:transit:after",
    "send:chunk:after:20",
    // While it still arrives.
    "send:offer:after",
    "frame:want:before",
  ],
  recipient: ["frame:chunk:before:20", "commit:chunk:after", "commit:inbox:before", "commit:inbox:after"],
};

/**
 * What was acknowledged is durable: from here on the message reaches its inbox although every node that had it before
 * is gone for good. Without this a source that keeps its copy would hide a relay that lies.
 */
const ALONE_STEPS: Readonly<Record<"relay" | "recipient", readonly string[]>> = {
  relay: ["send:ack:after", "send:bundle:after", "frame:ack:before"],
  recipient: ["send:ack:after", "commit:transit:before"],
};

let running = 0;
const waiting: (() => void)[] = [];

async function inTurn(play: () => Promise<void>): Promise<void> {
  // oxlint-disable-next-line eslint/no-unmodified-loop-condition -- other turns modify it
  while (running >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
  try {
    await play();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

function splitStep(text: string): { step: string; count: number } {
  const match = /^(.*?)(?::(\d+))?$/.exec(text)!;
  return { step: match[1]!, count: Number(match[2] ?? 1) };
}

/** Until it is accepted; the key makes a lost answer harmless. */
async function offer(mesh: Cluster, ledger: Ledger, sent: Sent, body: Uint8Array): Promise<void> {
  const endMs = performance.now() + TIMEOUT_MS / 2;
  for (;;) {
    try {
      const fields = { to: "NYC-C", idempotency_key: sent.nonce };
      return ledger.accept(sent, await mesh.node("DUN-A").sendBytes(body, fields));
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await Bun.sleep(50);
    }
  }
}

/** A line of three whose victim dies at the step; then `play` goes on with a message offered. */
async function untilDead(
  role: Role,
  stepText: string,
  size: number,
  play: (mesh: Cluster, ledger: Ledger, first: Sent, offering: Promise<void>) => Promise<void>,
): Promise<void> {
  const { step, count } = splitStep(stepText);
  const mesh = await Cluster.open(
    {
      callsigns: ["DUN-A", "LON-B", "NYC-C"],
      links: [
        ["DUN-A", "LON-B"],
        ["LON-B", "NYC-C"],
      ],
    },
    true,
  );
  try {
    const victim = mesh.node(VICTIMS[role]);
    const env = { CHAOS_STEP: step, CHAOS_STEP_COUNT: String(count) };
    await victim.reconfigure({ command: FROM_SOURCE, env });
    await mesh.startAll();
    const ledger = new Ledger(mesh);
    const { sent, body } = ledger.offer("DUN-A", "NYC-C", size);
    const offering = offer(mesh, ledger, sent, body);
    const end = await Promise.race([victim.ended(), Bun.sleep(REACH_MS).then(() => "never got there")]);
    expect(end).toBe("SIGKILL");
    await victim.kill("SIGKILL");
    await victim.reconfigure({ command: [binaryPath], env: {} });
    await play(mesh, ledger, sent, offering);
  } finally {
    await mesh.close();
  }
}

const dieAt = (role: Role, step: string, size: number): Promise<void> =>
  untilDead(role, step, size, async (mesh, ledger, first, offering) => {
    // Another one behind it must not be held up, nor mistaken for the first.
    const second = ledger.offer("DUN-A", "NYC-C", 100);
    const offeringToo = offer(mesh, ledger, second.sent, second.body);
    await mesh.node(VICTIMS[role]).start();
    await Promise.all([offering, offeringToo]);
    for (const sent of [first, second.sent]) await mesh.outcome("DUN-A", sent.id!, TIMEOUT_MS / 2);
    await ledger.readOutbox(mesh.node("DUN-A"));
    await ledger.judge();
    await Promise.all(mesh.nodes.map((node) => node.kill("SIGTERM")));
    expect(ledger.verifyReceipts()).toBe(2);
    expect(ledger.faults).toEqual([]);
  });

const surviveAlone = (role: "relay" | "recipient", step: string): Promise<void> =>
  untilDead(role, step, 300, async (mesh, ledger, first, offering) => {
    await offering;
    const gone = role === "relay" ? ["DUN-A"] : ["DUN-A", "LON-B"];
    for (const callsign of gone) await mesh.node(callsign).kill("SIGKILL");
    await mesh.node(VICTIMS[role]).start();
    const recipient = mesh.node("NYC-C");
    const inbox = () => recipient.box<Message>("inbox");
    await recipient.until("the message", async () => (await inbox()).length > 0, 10_000);
    const [message, ...more] = await inbox();
    expect(more).toEqual([]);
    expect(message!.id).toBe(first.id!);
    expect(ledger.accepted).toBe(1);
  });

for (const role of ["source", "relay", "recipient"] as const) {
  describe(`the ${role} is killed at`, () => {
    for (const step of STEPS[role])
      test.concurrent(step, () => inTurn(() => dieAt(role, step, 300)), TIMEOUT_MS * 4);
    for (const step of LARGE_STEPS[role])
      test.concurrent(`${step}, 2 MiB`, () => inTurn(() => dieAt(role, step, 2 ** 21)), TIMEOUT_MS * 4);
  });
}

for (const role of ["relay", "recipient"] as const)
  describe(`all before the ${role} are gone for good, and it is killed at`, () => {
    for (const step of ALONE_STEPS[role])
      test.concurrent(step, () => inTurn(() => surviveAlone(role, step)), TIMEOUT_MS * 4);
  });
