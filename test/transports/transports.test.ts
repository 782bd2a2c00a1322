/** Real nodes, one message over each transport, and what only real paths do to UDP. */
import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import { Slowness } from "../../scripts/slowness.ts";
import { BadWire } from "./bad-wire.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function newLab(): Promise<Lab> {
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  return lab;
}

interface PeersBody {
  readonly peers: readonly {
    readonly callsign: string | null;
    readonly state: string;
    readonly links: readonly { readonly transport: string; readonly address: string }[];
  }[];
}

const linksOf = async (node: LabNode, callsign: string) =>
  (await node.json<PeersBody>("/mesh/peers")).peers.find((peer) => peer.callsign === callsign)?.links ?? [];

async function deliver(from: LabNode, to: LabNode, body: Uint8Array, timeoutMs = 15_000): Promise<void> {
  const hash = Bun.hash(body);
  const id = await from.sendBytes(body, { to: to.callsign });
  await from.until(
    `${body.length} bytes to be delivered`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    timeoutMs,
  );
  const inbox = await to.box<{ id: string }>("inbox");
  const got = await (await to.api(`/messages/${inbox[0]!.id}/body`)).bytes();
  expect(Bun.hash(got)).toBe(hash);
}

/** A - B - C: both outer ones dial the middle at `endpoint`, each with its own table of the transport. */
async function line(lab: Lab, scheme: string, middle: string, outer: string, endpoint: string, bytes = 100) {
  const [a, b, c] = await Promise.all([
    lab.add({ callsign: "AAA-A", peers: [endpoint], advertise: [], extra: outer }),
    lab.add({ callsign: "BBB-B", advertise: [], extra: middle }),
    lab.add({ callsign: "CCC-C", peers: [endpoint], advertise: [], extra: outer }),
  ]);
  await b.start();
  await Promise.all([a.start(), c.start()]);
  await deliver(a, c, crypto.getRandomValues(new Uint8Array(bytes)));
  for (const node of [a, c])
    expect((await linksOf(node, "BBB-B")).map(({ transport }) => transport)).toEqual([scheme]);
  return { a: a, b: b, c: c };
}

const table = (type: string, lines: string) => `[transports.other]\ntype = "${type}"\n${lines}\n`;

describe("one message over", () => {
  test("tcp on IPv6", async () => {
    const port = freePort();
    const middle = table("tcp", `listen = ["[::1]:${port}"]`);
    await line(await newLab(), "tcp", middle, "", `tcp://[::1]:${port}`);
  }, 30_000);

  test("tcp to a name with both families", async () => {
    const port = freePort();
    const middle = table("tcp", `listen = ["127.0.0.1:${port}"]`);
    await line(await newLab(), "tcp", middle, "", `tcp://localhost:${port}`);
  }, 30_000);

  test("ws", async () => {
    const port = freePort();
    const middle = table("websocket", `listen = ["127.0.0.1:${port}"]`);
    await line(await newLab(), "ws", middle, table("websocket", ""), `ws://127.0.0.1:${port}/godwit`);
  }, 30_000);

  test("wss with a certificate of one's own, checked", async () => {
    const lab = await newLab();
    const [cert, key] = [join(lab.dir, "cert.pem"), join(lab.dir, "key.pem")];
    const made = Bun.spawnSync([
      ...["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"],
      ...["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
    ]);
    expect(made.exitCode).toBe(0);
    const port = freePort();
    const middle = table("websocket", `listen = ["127.0.0.1:${port}"]\ncert = "${cert}"\nkey = "${key}"`);
    const endpoint = `wss://localhost:${port}/godwit`;
    await line(lab, "wss", middle, table("websocket", `ca = "${cert}"`), endpoint);
    const stranger = await lab.add({
      ...{ callsign: "DDD-D", peers: [endpoint], advertise: [], extra: table("websocket", "") },
    });
    await stranger.start();
    await stranger.until(
      "the certificate to be refused",
      async () => stranger.logTail.includes("dial failed"),
      5_000,
    );
    expect(await linksOf(stranger, "BBB-B")).toEqual([]);
  }, 30_000);

  const tinyproxy = Bun.which("tinyproxy", { PATH: `${process.env["PATH"]}:/usr/bin:/usr/sbin` });
  test.skipIf(tinyproxy === null && process.env["CI"] !== "true")(
    `ws through a real HTTP proxy that wants a password${tinyproxy === null ? " [skipped: tinyproxy is not installed]" : ""}`,
    async () => {
      const lab = await newLab();
      const [port, proxyPort] = [freePort(), freePort()];
      const conf = join(lab.dir, "proxy.conf");
      const log = join(lab.dir, "proxy.log");
      chmodSync(lab.dir, 0o755);
      writeFileSync(log, "");
      chmodSync(log, 0o666);
      writeFileSync(
        conf,
        `Port ${proxyPort}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nLogFile "${log}"\nLogLevel Connect\n` +
          "BasicAuth mesh geheim\n",
      );
      const proxy = Bun.spawn([tinyproxy!, "-d", "-c", conf], { stdio: ["ignore", "ignore", "ignore"] });
      cleanups.push(async () => {
        proxy.kill();
        await proxy.exited;
      });
      const middle = table("websocket", `listen = ["127.0.0.1:${port}"]`);
      const outer = table("websocket", `proxy = "http://mesh:geheim@127.0.0.1:${proxyPort}"`);
      await line(lab, "ws", middle, outer, `ws://127.0.0.1:${port}/godwit`);
      expect(await Bun.file(log).text()).toContain(`CONNECT 127.0.0.1:${port}`);
    },
    30_000,
  );

  test("udp, 4 MB", async () => {
    const port = freePort();
    const middle = table("udp", `listen = ["127.0.0.1:${port}"]`);
    const outer = table("udp", `listen = []`);
    await line(await newLab(), "udp", middle, outer, `udp://127.0.0.1:${port}`, 4_000_000);
  }, 60_000);
});

describe("udp", () => {
  async function pair(faults: Partial<BadWire["faults"]>, mtuMax = 8_952) {
    const lab = await newLab();
    const port = freePort();
    const wire = await BadWire.open(port);
    cleanups.push(() => wire.close());
    Object.assign(wire.faults, faults);
    const of = (listen: string) => table("udp", `listen = ${listen}\nmtu_max = ${mtuMax}`);
    const [a, b] = await Promise.all([
      lab.add({ callsign: "AAA-A", peers: [wire.endpoint], advertise: [], extra: of("[]") }),
      lab.add({ callsign: "BBB-B", advertise: [], extra: of(`["127.0.0.1:${port}"]`) }),
    ]);
    await Promise.all([a.start(), b.start()]);
    return { lab, wire, a: a, b: b };
  }
  const linked = (from: LabNode, to: LabNode, timeoutMs = 10_000) =>
    from.until("a link", async () => (await linksOf(from, to.callsign)).length > 0, timeoutMs);

  test("loses, repeats and reorders: everything arrives, at the smallest size as well", async () => {
    const { a, b } = await pair({ loss: 0.05, repeat: 0.03, late: 0.05 }, 1_200);
    await linked(a, b);
    await deliver(a, b, crypto.getRandomValues(new Uint8Array(1_000_000)), 30_000);
    await deliver(b, a, crypto.getRandomValues(new Uint8Array(100_000)), 30_000);
  }, 70_000);

  test("a third of all datagrams lost: the hello comes again and the link stands in seconds", async () => {
    const { a, b } = await pair({ loss: 0.33 });
    await linked(a, b, 8_000);
  }, 30_000);

  test("a path whose size falls is noticed, and mail goes on", async () => {
    const { wire, a, b } = await pair({});
    await linked(a, b);
    await deliver(a, b, crypto.getRandomValues(new Uint8Array(500_000)));
    expect(wire.largest).toBeGreaterThan(1_452);
    wire.faults.mtu = 1_300;
    await deliver(a, b, crypto.getRandomValues(new Uint8Array(500_000)), 20_000);
  }, 60_000);

  test("the far end's address changes: the link stays", async () => {
    const { wire, a, b } = await pair({});
    await linked(b, a);
    const [before] = await linksOf(b, "AAA-A");
    wire.rebind();
    await deliver(a, b, new Uint8Array(1_000).fill(1));
    await b.until(
      "the link to follow",
      async () => (await linksOf(b, "AAA-A"))[0]?.address !== before!.address,
      8_000,
    );
    await deliver(b, a, new Uint8Array(1_000).fill(2));
    expect(b.logTail).not.toContain("link down");
  }, 40_000);

  test("a far end that is killed and started again is met again within two seconds", async () => {
    const lab = await newLab();
    const ports = [freePort(), freePort()] as const;
    const endpoints = ports.map((port) => `udp://127.0.0.1:${port}`);
    const of = (port: number) => table("udp", `listen = ["127.0.0.1:${port}"]`);
    const a = await lab.add({
      callsign: "AAA-A",
      peers: [endpoints[1]!],
      advertise: [],
      extra: of(ports[0]),
    });
    const b = await lab.add({ callsign: "BBB-B", peers: [], advertise: [], extra: of(ports[1]) });
    await Promise.all([a.start(), b.start()]);
    await linked(b, a);
    await deliver(a, b, new Uint8Array(100));
    await b.kill("SIGKILL");
    await b.start();
    using slowness = new Slowness();
    const startedMs = performance.now();
    await b.until("a link again", async () => (await linksOf(b, "AAA-A")).length > 0, 5_000, 5);
    expect(performance.now() - startedMs).toBeLessThan(2_000 * slowness.factor);
    await deliver(a, b, new Uint8Array(200));
  }, 40_000);
});
