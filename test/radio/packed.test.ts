/** The radio's owner where it is not trusted: in a Worker and in a process that the kernel locks in, on a line and over TCP. */
import { afterAll, afterEach, beforeAll, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { askPlugin, bundle, install } from "../sandbox/lab.ts";
import { Ether } from "./ether.ts";
import type { EmulatedRadio } from "./radio.ts";

interface Shown {
  readonly phase: string;
  readonly trouble: string | null;
  readonly radio: { readonly number: number } | null;
}

let code: Uint8Array;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  code = await bundle("packed-radio");
}, 120_000);
// The table takes a path under /dev alone.
const folder = mkdtempSync("/dev/shm/godwit-radio-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(level: string, connect: string, grant: readonly string[]): Promise<LabNode> {
  const lab = await Lab.create();
  ends.push(() => lab.close());
  const node = await lab.add({
    callsign: "RAD-A",
    extra: `[services.pi]\ntype = "packed-radio"\ntrust = "${level}"\ngrant = ${JSON.stringify(grant)}\nconnect = "${connect}"`,
  });
  await install(node.stateDir, {
    id: "packed-radio",
    namespace: "service",
    permissions: ["net.tcp", "serial:*", "service.offer:*"],
    code,
  });
  await node.start(60_000);
  return node;
}

const show = (node: LabNode) => askPlugin<Shown>(node, "packed-radio", "show");

const untilReady = (node: LabNode, { number }: EmulatedRadio) =>
  node.until(
    "the radio to be ready",
    async () => {
      const { phase, radio } = await show(node);
      return phase === "ready" && radio?.number === number;
    },
    60_000,
  );

test.each(["contained", "untrusted"])(
  "of a %s plugin a radio on a line is known, lost when it is unplugged, and known again",
  async (level) => {
    const ether = new Ether({ preset: "shortTurbo" });
    ends.push(() => ether.close());
    const radio = ether.radio({ bootMs: 50 });
    const link = join(folder, `${level}-radio`);
    radio.openPty({ link });
    const node = await start(level, `serial:${link}`, [`serial:${folder}/*-radio`, "service.offer:radio.pi"]);
    await untilReady(node, radio);
    radio.unplug();
    await node.until("the radio to be lost", async () => (await show(node)).phase !== "ready", 60_000);
    radio.plug();
    radio.openPty({ link });
    await untilReady(node, radio);
  },
  180_000,
);

test("an untrusted one that was granted no line says how to grant it", async () => {
  const node = await start("untrusted", "serial:/dev/ttyACM9", ["service.offer:radio.pi"]);
  await node.until(
    "a refusal",
    async () => (await show(node)).trouble?.includes('grant = ["serial:/dev/ttyACM9"]') === true,
    60_000,
  );
}, 120_000);

test("an untrusted one reaches a radio over TCP with a grant of sockets", async () => {
  const ether = new Ether({ preset: "shortTurbo" });
  ends.push(() => ether.close());
  const radio = ether.radio({ bootMs: 50 });
  const { port } = await radio.listenTcp();
  const node = await start("untrusted", `tcp://127.0.0.1:${port}`, ["net.tcp", "service.offer:radio.pi"]);
  await untilReady(node, radio);
}, 120_000);
