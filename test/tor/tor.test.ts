/**
 * The real tor: a private network, three nodes that listen nowhere but at onion addresses. DUN-A and LON-B share one
 * daemon, A by its unix socket with the cookie, B by its port with a password; NYC-C has a child of its own. Everything runs
 * in one namespace without a way out, where the kernel counts what is sent.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
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
  readonly links: readonly {
    readonly address: string;
    readonly transport: string;
    readonly up_seconds: number;
  }[];
}

const PASSWORD = 'a "quoted\\ one #7';

/** Between A and the daemon's control socket: lets the connection be lost while tor and its streams live. */
class ControlDoor {
  readonly path: string;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  isShut = false;
  count = 0;

  constructor(path: string, target: string) {
    this.path = path;
    this.#server = createServer((near) => {
      if (this.isShut) return void near.destroy();
      this.count++;
      const far = createConnection(target);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on("error", () => {});
        one.on("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    }).listen(path);
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }
}

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  let network: NetLab;
  let tor: TorNet;
  let daemon: TorProcess;
  let lab: Lab;
  let a: LabNode;
  let b: LabNode;
  let c: LabNode;
  let door: ControlDoor;
  /** Of B. Its key comes from the identity, and the password opens because the cookie cannot be read. */
  let byPassword: string;

  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    network = NetLab.create();
    const host = network.host("tor");
    tor = new TorNet(host);
    tor.start();
    daemon = tor.client("daemon", { socks: 9050, control: 9051, password: PASSWORD });
    lab = await Lab.create();
    writeFileSync(join(lab.dir, "tor-password"), `${PASSWORD}\n`, { mode: 0o600 });
    door = new ControlDoor(join(lab.dir, "door.sock"), join(daemon.folder, "control.sock"));
    byPassword = `[transports.tor]\ntype = "tor"\ncontrol = "127.0.0.1:9051"\nkey = "derived"\ncontrol_password = "file:${join(lab.dir, "tor-password")}"\ncookie_file = "/nonexistent/cookie"\n`;
    const add = (callsign: string, extra: string) =>
      lab.add({ callsign, namespace: host.namespace, listen: [], extra });
    a = await add("DUN-A", `[transports.tor]\ntype = "tor"\ncontrol = "unix:${door.path}"\n`);
    b = await add("LON-B", byPassword);
    c = await add(
      "NYC-C",
      `[transports.tor]\ntype = "tor"\nmode = "supervised"\ntorrc = ${JSON.stringify(tor.clientLines)}\n`,
    );
    await Promise.all([a.start(), b.start()]);
    // Tor is not there yet, and that is said; then it comes.
    for (const node of [a, b])
      await node.until(
        "the reason to wait",
        async () => /no control of tor/.test((await transport(node)).reason ?? ""),
        10_000,
      );
    await tor.ready();
    daemon.start();
    await c.start();
    await Promise.all([onionOf(a), onionOf(b), onionOf(c)]);
    const hub = await onionOf(b);
    await Promise.all([tell(a, hub), tell(c, hub)]);
    await whole();
  }, 150_000);

  afterAll(async () => {
    door?.close();
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
    const cookie = () => readFileSync(join(daemon.folder, "control_auth_cookie")).toString("hex");
    const before = cookie();
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
    expect(cookie()).not.toBe(before);
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

  test("names go to tor and to nobody else: nothing in the namespace asks a name server, and no datagram is sent", async () => {
    // Of every packet that leaves a socket: to any port of names, of any kind but TCP, past loopback.
    tor.host.nft(
      "inet",
      "watch",
      `counter names {}
       counter strange {}
       counter away {}
       chain out {
         type filter hook output priority 0; policy accept;
         meta l4proto { tcp, udp } th dport { 53, 137, 853, 5353, 5355 } counter name names
         meta l4proto udp counter name strange
         oifname != "lo" meta l4proto != ipv6-icmp counter name away
       }`,
    );
    const seen = (): Record<string, number> =>
      Object.fromEntries(
        [
          ...tor.host
            .exec("nft", "list", "table", "inet", "watch")
            .matchAll(/counter (\w+) \{\s*packets (\d+)/g),
        ].map(([, name, packets]) => [name!, Number(packets)]),
      );
    /** Connections of nodes to the daemon's SOCKS port (9050 is 0x235A), seen from their end. */
    const streams = () => tor.host.exec("cat", "/proc/net/tcp").match(/ 0100007F:235A 01 /g)?.length ?? 0;
    const before = streams();
    await tell(a, await onionOf(b), "tor://peer.example.org:4860", "tor://other.example.org:4860");
    await a.until("both names to be with tor", async () => streams() >= before + 2, 30_000);
    expect(seen()).toEqual({ names: 0, strange: 0, away: 0 });
    // The watch works: the system's resolver would have been seen.
    tor.host.exec(
      "bun",
      "-e",
      'const s = require("dgram").createSocket("udp4"); s.send("x", 53, "127.0.0.1", () => require("net").connect(53, "127.0.0.1").on("error", () => process.exit()))',
    );
    expect(seen()).toEqual({ names: 2, strange: 1, away: 0 });
    tor.host.nft("inet", "watch", "");
    await tell(a, await onionOf(b));
    await whole();
  }, 60_000);

  test("the control connection is lost while links live: nothing ends, nothing is withdrawn, and it comes back", async () => {
    const at = await onionOf(a);
    const upSeconds = async () => (await links(a)).map(({ up_seconds }) => up_seconds);
    const since = performance.now() - (await upSeconds())[0]! * 1_000;
    door.isShut = true;
    door.cut();
    await a.until(
      "the loss",
      async () => /no control of tor/.test((await transport(a)).reason ?? ""),
      10_000,
    );
    await Promise.all([deliver(a, b, "without control"), deliver(c, a, "back without control")]);
    expect((await transport(a)).listen).toEqual([at]);
    const { count } = door;
    door.isShut = false;
    await a.until("the control", async () => (await transport(a)).state === "running", 30_000);
    expect(door.count).toBe(count + 1);
    // The link is the one of before.
    expect((await upSeconds())[0]!).toBeGreaterThanOrEqual(
      Math.floor((performance.now() - since) / 1_000) - 2,
    );
    expect(await onionOf(a)).toBe(at);
  }, 90_000);

  test("a clearnet peer is reached by an exit, and a tor of our own gets in by a bridge", async () => {
    const bridge = tor.bridge("bridge", 5_050);
    bridge.process.start();
    const plain = await lab.add({ callsign: "OSL-D", namespace: tor.host.namespace });
    await plain.start();
    await plain.until(
      "the bridge",
      async () => existsSync(join(bridge.process.folder, "fingerprint")),
      10_000,
    );
    const inside = await lab.add({
      callsign: "ROM-E",
      namespace: tor.host.namespace,
      listen: [],
      peers: [`tor://127.0.0.1:${plain.linkPort}`],
      extra: `[transports.tor]\ntype = "tor"\nmode = "supervised"\nlisten = []\nbridges = ["${bridge.line()}"]\ntorrc = ${JSON.stringify(tor.clientLines)}\n`,
    });
    await inside.start();
    await deliver(inside, plain, "by bridge and exit");
    const [link] = await links(inside);
    expect(link).toMatchObject({ transport: "tor", address: `tor://127.0.0.1:${plain.linkPort}` });
    // Its first hop is the bridge and nothing else: none of the authorities' ports.
    const torPid = readdirSync("/proc").find((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(join(inside.stateDir, "plugin-files"));
      } catch {
        return false;
      }
    });
    const sockets = tor.host.exec("ss", "-Htnp", "state", "established").split("\n");
    const firstHops = sockets.filter((line) => line.includes(`pid=${torPid},`) && !line.includes("*"));
    expect(firstHops.length).toBeGreaterThan(0);
    for (const line of firstHops) expect(line).toContain("127.0.0.1:5050");
    await Promise.all([inside.kill("SIGTERM"), plain.kill("SIGTERM"), bridge.process.stop()]);
  }, 120_000);

  test("keys and cookies are in no log, no answer, no process list and no file of others", async () => {
    const folder = join(c.stateDir, "plugin-files", "transport.tor");
    const cookies = [join(folder, "data", "control_auth_cookie"), join(daemon.folder, "control_auth_cookie")];
    const secrets = ["ED25519-V3:", PASSWORD, ...cookies.map((path) => readFileSync(path).toString("hex"))];
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
    await b.reconfigure({ extra: byPassword });
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
