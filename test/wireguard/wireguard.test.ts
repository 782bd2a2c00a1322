/** Nodes in namespaces whose only links run through tunnels of real wireguard-go processes. */
import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { command } from "../../scripts/netlab-parts.ts";
import {
  daemonPid,
  delivers,
  entry,
  haveAgreed,
  interfacesOf,
  label,
  meshOnSegment,
  peersOf,
  WgNet,
  type WgNode,
  wgOf,
  whyNoWireguard,
} from "./wg-net.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
async function net(): Promise<WgNet> {
  const w = await WgNet.create();
  cleanups.push(() => w.close());
  return w;
}
const wgTest = (name: string, run: () => Promise<void>, timeoutMs = 60_000) =>
  test.skipIf(whyNoWireguard !== undefined)(label(name), run, timeoutMs);
const isAlive = (pid: number) =>
  existsSync(`/proc/${pid}/stat`) && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");

wgTest(
  "static lists make a mesh, and it outlives a new address, its daemons, restarts and crashes",
  async () => {
    const w = await net();
    const { nodes, ports, lan } = await meshOnSegment(w);
    const [a, b, c] = nodes;
    await delivers(a.node, b.node);
    await delivers(b.node, c.node);
    await delivers(c.node, a.node);
    expect(await wgOf(a.node)).toMatchObject({ state: "running", reason: null });
    await a.node.until(
      "preshared keys of all pairs",
      async () => haveAgreed(a, b) && haveAgreed(b, c) && haveAgreed(a, c),
      20_000,
    );
    // Ordinary programs reach the others as well, and no keepalive is sent where there is no NAT.
    for (const { address } of [b, c]) expect(a.host.canReach(address)).toBe(true);
    expect([...peersOf(a).values()].map(({ keepalive }) => keepalive)).toEqual(["off", "off"]);

    // b gets another address: its packets say so to the others, and its record too.
    const moved = lan.addresses(99);
    ports[1]!.readdress(moved);
    await a.node.until(
      "the new endpoint",
      async () =>
        [`${moved.v4}:51820`, `[${moved.v6}]:51820`].includes(peersOf(a).get(b.publicKey())!.endpoint),
      30_000,
    );
    await delivers(a.node, b.node);
    await delivers(c.node, b.node);

    // Its daemon dies: another one comes up under the same name, and what was agreed holds from the first handshake on.
    const killed = daemonPid(b);
    process.kill(killed, "SIGKILL");
    await b.node.until(
      "another wireguard-go",
      async () => daemonPid(b) !== killed && interfacesOf(b.host).includes(b.interfaceName),
      20_000,
    );
    await delivers(a.node, b.node);
    expect(haveAgreed(a, b)).toBe(true);
    expect(peersOf(a).get(b.publicKey())!.handshake).toBeGreaterThan(0);

    // The node restarts: nothing of it is left in between.
    const before = daemonPid(c);
    await c.node.kill("SIGTERM");
    expect(interfacesOf(c.host)).toEqual(["lo", ports[2]!.device].sort());
    expect([isAlive(before), existsSync(`/var/run/wireguard/${c.interfaceName}.sock`)]).toEqual([
      false,
      false,
    ]);
    await c.node.start();
    await delivers(b.node, c.node);

    // It crashes: the next life takes the same interface name, address and key, and ends what the last one left.
    const orphan = daemonPid(c);
    await c.node.kill("SIGKILL");
    await c.node.start();
    await delivers(a.node, c.node);
    expect([isAlive(orphan), interfacesOf(c.host)]).toEqual([
      false,
      ["lo", c.interfaceName, ports[2]!.device].sort(),
    ]);
  },
  100_000,
);

wgTest(
  "one packet in three lost: what is sent arrives all the same",
  async () => {
    const w = await net();
    const [ha, hb] = [w.net.host("a"), w.net.host("b")];
    const cable = w.net.link(ha, hb, { units: "packets" });
    const [a, b] = [await w.add("AAA-A", ha), await w.add("BBB-B", hb)];
    await a.node.configure([entry(b, cable.b.addresses.v4!)]);
    await b.node.configure([entry(a, cable.a.addresses.v4!)]);
    cable.lose({ ab: 0.33, ba: 0.33 });
    await Promise.all([a.node.start(), b.node.start()]);
    for (let i = 0; i < 5; i++) {
      await delivers(a.node, b.node, 60_000);
      await delivers(b.node, a.node, 60_000);
    }
    expect(
      await a.node
        .json("/messages?box=inbox")
        .then((box) => (box as { messages: unknown[] }).messages.length),
    ).toBe(5);
  },
  90_000,
);

wgTest(
  "interfaces of others stay as they are, and a name that is taken is not taken over",
  async () => {
    const w = await net();
    const host = w.net.host("a");
    const foreign = `gwf${process.pid}`;
    const daemon = Bun.spawn([...host.prefix, "wireguard-go", "-f", foreign], {
      stdout: "ignore",
      stderr: "ignore",
    });
    cleanups.push(async () => {
      daemon.kill();
      await daemon.exited;
    });
    const key = join(w.lab.dir, "foreign.key");
    await Bun.write(key, command(["wg", "genkey"]));
    while (!interfacesOf(host).includes(foreign)) await Bun.sleep(10);
    host.exec("wg", "set", foreign, "private-key", key, "listen-port", "51999");
    host.ip("addr", "add", "10.9.9.1/24", "dev", foreign);
    const look = () =>
      [host.exec("wg", "show", foreign, "dump"), host.ip("addr", "show", "dev", foreign)].join("\n");
    const before = look();

    const beside = await w.add("AAA-A", host);
    await beside.node.start();
    await beside.node.until(
      "its own interface",
      async () => (await wgOf(beside.node)).state === "running",
      15_000,
    );
    await beside.node.kill("SIGTERM");
    expect(look()).toBe(before);

    await beside.node.reconfigure({
      extra: `[transports.wg]\ntype = "wireguard"\ninterface = "${foreign}"\n`,
    });
    await beside.node.start();
    await beside.node.until(
      "the refusal",
      async () => (await wgOf(beside.node)).state === "degraded",
      15_000,
    );
    await beside.node.until(
      "its reason",
      async () => ((await wgOf(beside.node)).reason ?? "").includes("is not this node's"),
      15_000,
    );
    await beside.node.kill("SIGTERM");
    expect([look(), daemon.exitCode]).toEqual([before, null]);
  },
  60_000,
);

wgTest(
  "a new key is announced, comes into force, and no secret is told to anybody",
  async () => {
    const w = await net();
    const { nodes } = await meshOnSegment(w);
    const [a, b, c] = nodes;
    await delivers(a.node, b.node);
    await delivers(c.node, b.node);
    await a.node.until("preshared keys", async () => haveAgreed(a, b) && haveAgreed(a, c), 20_000);
    const secrets = new Set<string>();
    const note = () => {
      for (const one of nodes) {
        secrets.add(one.privateKey());
        for (const { preshared } of peersOf(one).values()) if (preshared !== "(none)") secrets.add(preshared);
      }
    };
    note();
    const old = b.publicKey();
    command([binaryPath, "wg", "rotate", "--socket", b.node.socketPath]);
    await a.node.until(
      "the new key everywhere",
      async () =>
        b.publicKey() !== old &&
        [a, c].every((one) => peersOf(one).has(b.publicKey()) && !peersOf(one).has(old)) &&
        b.host.exec("wg", "show", b.interfaceName, "public-key").trim() === b.publicKey(),
      30_000,
    );
    await delivers(a.node, b.node);
    await delivers(b.node, c.node);
    await a.node.until("a preshared key for it", async () => haveAgreed(a, b), 30_000);
    note();
    // It comes back under the new key, which the others' lists do not know.
    for (let crash = 0; crash < 3; crash++) {
      await b.node.kill("SIGKILL");
      await b.node.start();
      await delivers(c.node, b.node);
    }
    note();
    expect(secrets.size).toBeGreaterThanOrEqual(7);
    await expectHidden(w, nodes, [...secrets]);
  },
  100_000,
);

/** Neither as `wg` writes them nor in hex: not in logs, the API, arguments, environments, or a file that others may read. */
async function expectHidden(w: WgNet, nodes: readonly WgNode[], secrets: readonly string[]): Promise<void> {
  const needles = secrets.flatMap((text) => {
    const bytes = Buffer.from(text, "base64");
    return [text, bytes.toString("hex"), bytes.toString("base64url"), bytes.toString("latin1")];
  });
  const places = new Map<string, string>();
  for (const { node } of nodes) {
    places.set(`log of ${node.callsign}`, node.logTail);
    for (const path of [
      "/health",
      "/mesh/status",
      "/mesh/peers",
      "/mesh/routes",
      "/mesh/members",
      "/mesh/names",
      "/metrics",
    ])
      places.set(`${node.callsign} ${path}`, await (await node.api(path)).text());
    places.set(
      `show of ${node.callsign}`,
      command([binaryPath, "wg", "show", "--json", "--socket", node.socketPath]),
    );
  }
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    for (const file of ["cmdline", "environ"])
      try {
        places.set(`/proc/${pid}/${file}`, readFileSync(`/proc/${pid}/${file}`, "latin1"));
      } catch {
        // It has ended.
      }
  const walk = (dir: string): void => {
    for (const found of readdirSync(dir, { withFileTypes: true })) {
      const path = join(dir, found.name);
      if (found.isDirectory()) walk(path);
      else if (found.isFile() && (statSync(path).mode & 0o077) !== 0)
        places.set(path, readFileSync(path, "latin1"));
      // What holds a secret is for its owner alone.
      else if (found.isFile() && path.includes("plugin-files"))
        expect([path, statSync(path).mode & 0o777]).toEqual([path, 0o600]);
    }
  };
  walk(w.lab.dir);
  for (const [place, text] of places)
    for (const needle of needles) expect([place, text.includes(needle)]).toEqual([place, false]);
}

wgTest(
  "a plain device is let in: it reaches the node, and a node behind that",
  async () => {
    const w = await net();
    const hosts = ["a", "b", "c", "p"].map((name) => w.net.host(name));
    const [ha, hb, hc, hp] = hosts as [
      (typeof hosts)[0],
      (typeof hosts)[0],
      (typeof hosts)[0],
      (typeof hosts)[0],
    ];
    const [ab, bc, pa] = [w.net.link(ha, hb), w.net.link(hb, hc), w.net.link(hp, ha)];
    const table = `routed = true\nforward = true\nipv4_pool = "10.77.0.0/16"`;
    const [a, b, c] = [
      await w.add("AAA-A", ha, { table }),
      await w.add("BBB-B", hb, { table }),
      await w.add("CCC-C", hc, { table }),
    ];
    // a and c cannot reach each other; b is the way.
    await a.node.configure([entry(b, ab.b.addresses.v4!)]);
    await b.node.configure([entry(a, ab.a.addresses.v4!), entry(c, bc.b.addresses.v4!)]);
    await c.node.configure([entry(b, bc.a.addresses.v4!)]);
    await Promise.all([a, b, c].map(({ node }) => node.start()));
    await delivers(a.node, c.node);
    await a.node.until("a way to c through b", async () => a.host.canReach(c.address), 40_000);

    const printed = command([
      binaryPath,
      ...[
        "wg",
        "peer-config",
        "phone",
        "--endpoint",
        `${pa.b.addresses.v4!}:51820`,
        "--socket",
        a.node.socketPath,
      ],
    ]);
    const name = `gwp${process.pid}`;
    const daemon = Bun.spawn([...hp.prefix, "wireguard-go", "-f", name], {
      stdout: "ignore",
      stderr: "ignore",
    });
    cleanups.push(async () => {
      daemon.kill();
      await daemon.exited;
    });
    while (!interfacesOf(hp).includes(name)) await Bun.sleep(10);
    // What wg-quick does with such a file.
    const value = (field: string) => new RegExp(`^${field} = (.*)$`, "m").exec(printed)![1]!;
    const file = join(w.lab.dir, "phone.conf");
    await Bun.write(file, printed.replaceAll(/^(?:Address|MTU) = .*\n/gm, ""));
    hp.exec("wg", "setconf", name, file);
    hp.ip("addr", "add", value("Address"), "dev", name);
    hp.ip("link", "set", "dev", name, "mtu", value("MTU"), "up");
    for (const network of value("AllowedIPs").split(", ")) hp.ip("route", "add", network, "dev", name);
    await a.node.until("the node from the phone", async () => hp.canReach(a.address), 15_000);
    await a.node.until("c from the phone", async () => hp.canReach(c.address), 15_000);
    const phone = value("Address").split("/")[0]!;
    expect(hc.canReach(phone)).toBe(true);
    // The pool: the same address for b wherever it is asked for.
    const ipv4 = (
      JSON.parse(command([binaryPath, "wg", "show", "--json", "--socket", b.node.socketPath])) as {
        ipv4: string;
      }
    ).ipv4;
    expect(a.host.canReach(ipv4)).toBe(true);
    expect(printed.includes(a.privateKey())).toBe(false);

    command([binaryPath, "wg", "remove", "phone", "--socket", a.node.socketPath]);
    await a.node.until("the phone to be out", async () => !hp.canReach(a.address), 15_000);
  },
  100_000,
);
