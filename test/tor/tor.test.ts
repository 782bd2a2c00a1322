/**
 * The real tor: a private network, three nodes that listen nowhere but at onion addresses. DUN-A and LON-B share one
 * daemon, NYC-C has a child of its own. Everything runs in one namespace without a way out, where the kernel counts datagrams.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab } from "../../scripts/netlab.ts";
import { TorNet, type TorProcess, whyNoTorNet } from "./tor-net.ts";

const why = whyNoTorNet();
const title = `over the real tor${why === undefined ? "" : ` [skipped: ${why}]`}`;

interface TransportView {
  readonly type: string;
  readonly state: string;
  readonly listen: readonly string[];
  readonly reason: string | null;
}
interface PeerView {
  readonly callsign: string | null;
  readonly links: readonly { readonly address: string; readonly transport: string }[];
}

const shared = '[transports.tor]\ntype = "tor"\ncontrol = "127.0.0.1:9051"\n';

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  let network: NetLab;
  let tor: TorNet;
  let daemon: TorProcess;
  let lab: Lab;
  let a: LabNode;
  let b: LabNode;
  let c: LabNode;

  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    network = NetLab.create();
    const host = network.host("tor");
    tor = new TorNet(host);
    tor.start();
    daemon = tor.client("daemon", { socks: 9050, control: 9051 });
    daemon.start();
    lab = await Lab.create();
    const add = (callsign: string, extra: string) =>
      lab.add({ callsign, namespace: host.namespace, listen: [], extra });
    a = await add("DUN-A", shared);
    b = await add("LON-B", shared);
    c = await add(
      "NYC-C",
      `[transports.tor]\ntype = "tor"\nmode = "supervised"\ntorrc = ${JSON.stringify(tor.clientLines)}\n`,
    );
    await Promise.all([a.start(), b.start(), c.start()]);
    await Promise.all([onionOf(a), onionOf(b), onionOf(c)]);
    const hub = await onionOf(b);
    await Promise.all([tell(a, hub), tell(c, hub)]);
    await whole();
  }, 100_000);

  afterAll(async () => {
    await lab?.close();
    await tor?.close();
    await network?.close();
  });

  const transport = async (node: LabNode): Promise<TransportView> =>
    (await node.json<{ transports: TransportView[] }>("/mesh/status")).transports.find(
      ({ type }) => type === "tor",
    )!;

  /** Waits until it is published. */
  async function onionOf(node: LabNode): Promise<string> {
    await node.until(
      "its onion address",
      async () => (await transport(node)).listen.length === 1,
      90_000,
      100,
    );
    return (await transport(node)).listen[0]!;
  }

  async function tell(node: LabNode, ...peers: string[]): Promise<void> {
    await node.configure(peers);
    await node.json("/reload", { method: "POST" });
  }

  const links = async (node: LabNode) =>
    (await node.json<{ peers: PeerView[] }>("/mesh/peers")).peers.flatMap((peer) => peer.links);
  const linked = (node: LabNode, count: number) =>
    node.until(`${count} links`, async () => (await links(node)).length >= count, 60_000, 100);

  async function deliver(from: LabNode, to: LabNode, body: string): Promise<void> {
    const id = await from.send({ to: to.callsign, body });
    await from.until(
      `the receipt of "${body}"`,
      async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
      60_000,
      50,
    );
  }

  async function received(node: LabNode): Promise<string[]> {
    const inbox = await node.box<{ id: string }>("inbox");
    const bodies = inbox.map(({ id }) => node.json<{ body: string }>(`/messages/${id}`));
    return (await Promise.all(bodies)).map(({ body }) => body).sort();
  }

  // The tests run in any order, and each leaves the mesh as it found it.
  const whole = () => Promise.all([linked(a, 1), linked(b, 2), linked(c, 1)]);

  test("three nodes that are nowhere but at onion addresses are one mesh", async () => {
    await Promise.all([deliver(a, c, "one"), deliver(c, a, "two"), deliver(b, a, "three")]);
    for (const node of [a, b, c]) {
      for (const { address, transport: scheme } of await links(node)) {
        expect(scheme).toBe("tor");
        expect(address).toMatch(/^tor:\/\/([a-z2-7]{56}\.onion:4860|anonymous)$/);
      }
      await node.until(
        "a running transport",
        async () => (await transport(node)).state === "running",
        10_000,
      );
    }
    expect(await received(c)).toContain("one");
  }, 90_000);

  test("mail crosses a restart of tor and the death of a node, once, and the addresses stay", async () => {
    const [atA, atB] = [await onionOf(a), await onionOf(b)];
    await daemon.stop("SIGKILL");
    await a.until("the loss", async () => (await links(a)).length === 0, 20_000);
    const id = await a.send({ to: "NYC-C", body: "through the restart" });
    daemon.start();
    await a.until(
      "the receipt",
      async () => (await a.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
      90_000,
      50,
    );
    await b.kill("SIGKILL");
    const second = await c.send({ to: "DUN-A", body: "past the dead hub" });
    await b.start();
    await c.until(
      "the second receipt",
      async () => (await c.json<{ state: string }>(`/messages/${second}`)).state === "delivered",
      90_000,
      50,
    );
    expect([await onionOf(a), await onionOf(b)]).toEqual([atA, atB]);
    expect((await received(c)).filter((body) => body === "through the restart")).toHaveLength(1);
    expect((await received(a)).filter((body) => body === "past the dead hub")).toHaveLength(1);
    await whole();
  }, 180_000);

  test("names go to tor and to nobody else: the namespace sends no datagram", async () => {
    const sent = (): number => {
      const inside = tor.host.exec("cat", "/proc/net/snmp", "/proc/net/snmp6");
      const [header = "", values = ""] = inside.split("\n").filter((line) => line.startsWith("Udp: "));
      const column = header.split(" ").indexOf("OutDatagrams");
      return Number(values.split(" ")[column]) + Number(/Udp6OutDatagrams\s+(\d+)/.exec(inside)![1]);
    };
    /** Connections of nodes to the daemon's SOCKS port (9050 is 0x235A), seen from their end. */
    const streams = () => tor.host.exec("cat", "/proc/net/tcp").match(/ 0100007F:235A 01 /g)?.length ?? 0;
    const before = streams();
    await tell(a, await onionOf(b), "tor://peer.example.org:4860", "tor://other.example.org:4860");
    await a.until("both names to be with tor", async () => streams() >= before + 2, 30_000);
    expect(sent()).toBe(0);
    // The count works: the system's resolver would have been seen.
    try {
      tor.host.exec(
        "bun",
        "-e",
        'require("dgram").createSocket("udp4").send("x", 53, "127.0.0.1", () => process.exit())',
      );
    } finally {
      expect(sent()).toBe(1);
    }
    await tell(a, await onionOf(b));
    await whole();
  }, 60_000);

  test("keys and cookies are in no log, no answer, no process list and no file of others", async () => {
    const folder = join(c.stateDir, "plugin-files", "transport.tor");
    const cookies = [join(folder, "data", "control_auth_cookie"), join(daemon.folder, "control_auth_cookie")];
    const secrets = ["ED25519-V3:", ...cookies.map((path) => readFileSync(path).toString("hex"))];
    const said: string[] = [];
    for (const node of [a, b, c]) {
      said.push(node.logTail);
      for (const path of ["/health", "/mesh/status", "/mesh/peers", "/mesh/discovery", "/metrics"])
        said.push(await (await node.api(path)).text());
    }
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        said.push(readFileSync(`/proc/${pid}/cmdline`, "latin1"));
      } catch {
        // Gone meanwhile.
      }
    }
    expect(said.some((text) => text.includes(join(folder, "torrc")))).toBe(true);
    for (const text of said)
      for (const secret of secrets) expect(text.toLowerCase()).not.toContain(secret.toLowerCase());
    const files = readdirSync(c.stateDir, { recursive: true }).map((name) => join(c.stateDir, String(name)));
    expect(files.length).toBeGreaterThan(5);
    expect(
      files.filter((path) => existsSync(path) && (statSync(path).mode & 0o007) !== 0 && !isShielded(path)),
    ).toEqual([]);
  });

  /** Its folder lets nobody in. */
  const isShielded = (path: string): boolean => (statSync(join(path, "..")).mode & 0o007) === 0;

  test("an address for some only: the client it names comes in, others do not, and neighbours learn the new address", async () => {
    const before = await onionOf(b);
    await c.reconfigure({
      extra: `[transports.tor]\ntype = "tor"\nmode = "supervised"\nclient_key = true\ntorrc = ${JSON.stringify(tor.clientLines)}\n`,
    });
    await c.kill("SIGTERM");
    await c.start();
    await c.until("its client key", async () => /onion client key/.test(c.logTail), 10_000);
    const key = /"public_key":"([A-Z2-7]{52})"/.exec(c.logTail)![1]!;
    await onionOf(c);
    // Another name is another instance, with a key of its own.
    await b.reconfigure({
      extra: `[transports.closed]\ntype = "tor"\ncontrol = "127.0.0.1:9051"\nclients = ["${key}"]\n`,
    });
    await b.json("/reload", { method: "POST" });
    const after = await onionOf(b);
    expect(after).not.toBe(before);
    await Promise.all([tell(a, after), tell(c, after)]);
    await linked(c, 1);
    await a.until("the refusal", async () => a.logTail.includes(after), 60_000, 100);
    expect((await links(a)).map(({ address }) => address)).not.toContain(after);
    await b.reconfigure({ extra: shared });
    await b.json("/reload", { method: "POST" });
    expect(await onionOf(b)).toBe(before);
    await Promise.all([tell(a, before), tell(c, before)]);
    await whole();
  }, 120_000);

  test("a tor of our own ends with its node, even with one that is killed", async () => {
    const torOf = () =>
      readdirSync("/proc").filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(join(c.stateDir, "plugin-files"));
        } catch {
          return false;
        }
      });
    expect(torOf()).toHaveLength(1);
    const [first] = torOf();
    await c.kill("SIGKILL");
    // By the kernel: tor itself would look for its owner only every 15 s.
    await c.until("no orphan", async () => !torOf().includes(first!), 5_000, 20);
    await c.start();
    await c.until("another tor", async () => torOf().some((pid) => pid !== first), 20_000);
    await onionOf(c);
    await c.kill("SIGTERM");
    expect(torOf()).toEqual([]);
    await c.start();
    await onionOf(c);
    await whole();
  }, 90_000);
});
