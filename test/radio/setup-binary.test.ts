/** `godwit radio setup` of the compiled binary: over a pseudo-terminal and TCP, with both firmwares, beside a node that has the radio and without one. */
import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { Ether } from "./ether.ts";
import type { EmulatedRadio } from "./radio.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function newLab(): Promise<Lab> {
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  return lab;
}

function newRadio(options: Parameters<Ether["radio"]>[0] = {}): EmulatedRadio {
  const ether = new Ether({ preset: "longFast" });
  cleanups.push(() => ether.close());
  return ether.radio({ bootMs: 100, beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 }, ...options });
}

const idOf = ({ number }: EmulatedRadio) => `!${number.toString(16).padStart(8, "0")}`;

async function setup(node: LabNode, words: readonly string[], before: readonly string[] = []) {
  const command = [...before, binaryPath, "radio", "setup", "--config", node.configPath, ...words];
  const child = Bun.spawn(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] },
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out, err, code };
}

const show = (node: LabNode) =>
  node.json<{ phase: string; radio: { channels: readonly { name: string }[]; board: string } | null }>(
    "/plugins/radio/requests",
    {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ request: "show" }),
    },
  );

test.each(["2.7", "2.8"] as const)(
  "a radio of %s is set up from nothing, its node runs by it, and then it is the node's",
  async (firmware) => {
    const radio = newRadio({ firmware, region: "UNSET" });
    const { path } = radio.openPty();
    const node = await (await newLab()).add({ callsign: "PI-A", advertise: [] });
    await node.configure([]);
    const first = await setup(node, ["--port", path]);
    expect([first.code, first.out]).toEqual([0, expect.stringContaining("on the air  no region, LongFast")]);
    expect(radio.settings.channels.filter(({ settings }) => settings?.name === "godwit")).toEqual([]);

    const words = ["--port", path, "--region", "EU_868", "--write-device", "--confirm", idOf(radio), "--yes"];
    const second = await setup(node, words);
    expect([second.code, second.err]).toEqual([0, "changing the radio; it restarts, and is asked again\n"]);
    expect(second.out).toContain("the radio has taken it, and says so\nthe channel's key is in ");
    expect(readFileSync(node.configPath, "utf8")).toContain(`connect = "serial:${path}"`);

    await node.start();
    await node.until("its radio to be ready", async () => (await show(node)).phase === "ready", 20_000);
    expect((await show(node)).radio).toMatchObject({
      board: "HELTEC_V3",
      channels: [{ name: "LongFast" }, { name: "godwit", isPublic: false }],
    });

    const beside = await setup(node, []);
    expect([beside.code, beside.err]).toEqual([0, ""]);
    expect(beside.out).toContain(`number      ${idOf(radio)}  radio 1\n`);
    expect(beside.out).toContain(
      "the node that runs here has it as [services.radio]: this is what the node says",
    );
    const refused = await setup(node, words);
    expect([refused.code, refused.err]).toEqual([
      1,
      expect.stringContaining("a port has one owner: stop the node"),
    ]);
    expect(await show(node)).toMatchObject({ phase: "ready" });
  },
  60_000,
);

test("a radio on the network that a node has is not called a second time: its node would lose it", async () => {
  const radio = newRadio();
  const { port } = await radio.listenTcp();
  const calls: Socket[] = [];
  const counting = createServer((socket) => {
    calls.push(socket);
    const onward = connect(port, "127.0.0.1");
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) end.on("error", () => {});
  }).listen(0, "127.0.0.1");
  cleanups.push(() => {
    for (const socket of calls) socket.destroy();
    counting.close();
  });
  await new Promise((resolve) => counting.once("listening", resolve));
  const host = `127.0.0.1:${(counting.address() as { port: number }).port}`;
  const node = await (await newLab()).add({ callsign: "PI-A", advertise: [] });
  await node.configure([]);
  expect((await setup(node, ["--host", host, "--yes"])).code).toBe(0);
  expect(calls).toHaveLength(1);
  await node.start();
  await node.until("its radio to be ready", async () => (await show(node)).phase === "ready", 20_000);
  const { out } = await setup(node, ["--host", host, "--json"]);
  expect(JSON.parse(out)).toMatchObject({
    radio: { is_of_node: true, number: idOf(radio), board: "HELTEC_V3", role: "CLIENT" },
    changes: [],
  });
  expect(calls).toHaveLength(2);
}, 60_000);

test.skipIf(process.getuid?.() !== 0)("whoever may not open the port is told which group may", async () => {
  const radio = newRadio();
  const { path } = radio.openPty();
  const node = await (await newLab()).add({ callsign: "PI-A", advertise: [] });
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const child = Bun.spawn([...nobody, binaryPath, "radio", "setup", "--port", path], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    cwd: "/",
    env: { PATH: process.env["PATH"], HOME: node.dir },
  });
  const [err, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  expect([code, err]).toEqual([
    1,
    expect.stringContaining(
      `${path}: this user may not open it: sudo usermod -aG dialout $USER, and log in again; for this command alone: sudo godwit radio setup`,
    ),
  ]);
});
