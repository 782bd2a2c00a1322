/**
 * Real daemons (0.4.7) in namespaces in a line, and real nodes whose links run through the overlay alone: over daemons of the
 * system, over daemons that the nodes supervise, and the SDK's conformance suite over one.
 */
import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab } from "../../scripts/netlab.ts";
import type { NetHost, NetLink } from "../../scripts/netlab-parts.ts";
import { PEERING_PORT, whyNoYggdrasil, YggdrasilDaemon } from "./daemon.ts";

const why = whyNoYggdrasil();
const suffix = why === undefined ? "" : ` [skipped: ${why}]`;
const isSkipped = why !== undefined && process.env["CI"] !== "true";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Line {
  readonly lab: Lab;
  readonly hosts: readonly [NetHost, NetHost, NetHost];
  readonly ab: NetLink;
  readonly bc: NetLink;
}

async function line(): Promise<Line> {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  const net = NetLab.create();
  cleanups.push(() => net.close());
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  const hosts = [net.host("a"), net.host("b"), net.host("c")] as const;
  return { lab, hosts, ab: net.link(hosts[0], hosts[1]), bc: net.link(hosts[1], hosts[2]) };
}

async function delivers(from: LabNode, to: LabNode): Promise<void> {
  const id = await from.send({ to: to.callsign, body: "over the overlay" });
  await from.until(
    `a message to ${to.callsign}`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    40_000,
  );
}

interface Status {
  readonly address: string;
  readonly subnet: string;
  readonly transports: readonly {
    name: string;
    state: string;
    listen: readonly string[];
    reason: string | null;
  }[];
}
interface Peers {
  readonly peers: readonly { readonly links: readonly { readonly transport: string }[] }[];
  readonly overlays: readonly {
    readonly transport: string;
    readonly type: string;
    readonly address: string;
    readonly subnet: string;
    readonly mtu: number;
    readonly sessions: number;
    readonly peers: readonly { readonly address: string; readonly remote: string; readonly up: boolean }[];
  }[];
}
const statusOf = (node: LabNode) => node.json<Status>("/mesh/status");
const overlayOf = async (node: LabNode) =>
  (await statusOf(node)).transports.find(({ name }) => name === "overlay")!;
const neighboursOf = async (node: LabNode) =>
  (await node.json<Peers>("/mesh/peers")).overlays[0]?.peers ?? [];

test.skipIf(isSkipped)(
  `over daemons of the system: restart, new key, a peer that goes, one that discovery brings${suffix}`,
  async () => {
    const { lab, hosts, ab, bc } = await line();
    const daemons = hosts.map((host) => new YggdrasilDaemon(lab.dir, host));
    for (const daemon of daemons) cleanups.push(() => daemon.stop());
    const own = `tcp://${ab.a.addresses.v4}:${PEERING_PORT}`;
    // B's operator has a peer of his own there, which is nobody's to take away.
    const [, atB] = await Promise.all([
      daemons[0]!.configure(),
      daemons[1]!.configure({ Peers: [own] }),
      daemons[2]!.configure(),
    ]);
    for (const daemon of daemons) daemon.start();
    const addressOf = (daemon: YggdrasilDaemon) => daemon.ask<{ address: string; subnet: string }>("getself");
    const announced = `tcp://${bc.a.addresses.v4}:${PEERING_PORT}`;
    const node = (i: number, more: string, peers: readonly string[]) =>
      lab.add({
        callsign: ["AAA-A", "BBB-B", "CCC-C"][i]!,
        namespace: hosts[i]!.namespace,
        listen: [],
        peers,
        extra: `[transports.overlay]\ntype = "yggdrasil"\nadmin = "${daemons[i]!.admin}"\n${more}`,
      });
    const withPeer = `peers = ["tcp://${ab.b.addresses.v4}:${PEERING_PORT}"]\n`;
    const a = await node(0, withPeer, [`yggdrasil://[${atB}]:4862`]);
    const b = await node(1, `peers = ["${own}"]\nannounce = ["${announced}"]\n`, []);
    // C knows of B's daemon only by what B announces.
    const c = await node(2, "peers_from_discovery = true\n", [`yggdrasil://[${atB}]:4862?peer=${announced}`]);
    await Promise.all([a, b, c].map((one) => one.start()));
    await delivers(a, c);

    await b.until("a running transport", async () => (await overlayOf(b)).state === "running", 10_000);
    expect((await overlayOf(b)).listen).toEqual([`yggdrasil://[${atB}]:4862?peer=${announced}`]);
    const { address, subnet } = await statusOf(b);
    const self = await addressOf(daemons[1]!);
    expect({ address, subnet }).toEqual({ address: self.address, subnet: self.subnet });
    const ends = [await addressOf(daemons[0]!), await addressOf(daemons[2]!)].map((end) => end.address);
    await b.until(
      "both neighbours of its daemon",
      async () => {
        const seen = new Set((await neighboursOf(b)).map((peer) => peer.address));
        return seen.size === 2 && ends.every((end) => seen.has(end));
      },
      10_000,
    );
    const { overlays, peers } = await b.json<Peers>("/mesh/peers");
    expect(overlays).toMatchObject([{ transport: "overlay", type: "yggdrasil", address: atB, mtu: 53_049 }]);
    await b.until(
      "its sessions",
      async () => (await b.json<Peers>("/mesh/peers")).overlays[0]!.sessions >= 1,
      10_000,
    );
    expect(peers.flatMap(({ links }) => links.map(({ transport }) => transport))).toEqual([
      "yggdrasil",
      "yggdrasil",
    ]);
    const { checks } = await b.json<{ checks: { name: string; reason: string }[] }>("/health");
    expect(checks.find(({ name }) => name === "transport.overlay")!.reason).toMatch(
      /overlay peers: \d of \d up/,
    );

    // A stopped neighbour is gone from the peers within 5 s; the daemon is back with another key.
    await daemons[0]!.stop();
    await a.until("the loss to show", async () => (await overlayOf(a)).state === "degraded", 10_000);
    await b.until("A's daemon to be gone", async () => (await neighboursOf(b)).length === 1, 5_000);
    const renewed = await daemons[0]!.configure();
    daemons[0]!.start();
    await a.until(
      "the new address",
      async () => (await overlayOf(a)).listen[0] === `yggdrasil://[${renewed}]:4862`,
      15_000,
    );
    expect((await statusOf(a)).address).toBe(renewed);
    await delivers(c, a);

    // Peers go with the table that named them, and only they.
    expect(await daemons[0]!.peers()).toContain(`tcp://${ab.b.addresses.v4}:${PEERING_PORT}`);
    await a.reconfigure({
      extra: `[transports.overlay]\ntype = "yggdrasil"\nadmin = "${daemons[0]!.admin}"\n`,
    });
    await a.json("/reload", { method: "POST" });
    await a.until(
      "its peer to go",
      async () => !(await daemons[0]!.peers()).includes(`tcp://${ab.b.addresses.v4}:${PEERING_PORT}`),
      10_000,
    );
    await b.kill("SIGTERM");
    await c.kill("SIGTERM");
    await a.until(
      "the discovered peer to go with C",
      async () => !(await daemons[2]!.peers()).includes(announced),
      10_000,
    );
    // What B's operator wrote down stays, though the daemon may only call there again within a minute.
    expect(await daemons[1]!.knows(own)).toBe(true);
    expect(await daemons[1]!.knows("tcp://192.0.2.7:9001")).toBe(false);
  },
  110_000,
);

/** Processes whose arguments name a file below the folder. */
const daemonsOf = (node: LabNode): number[] =>
  readdirSync("/proc").flatMap((pid) => {
    try {
      const isOurs = readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(
        join(node.stateDir, "plugin-files"),
      );
      return isOurs ? Number(pid) : [];
    } catch {
      return [];
    }
  });

test.skipIf(isSkipped)(
  `over daemons of their own, which find one another by multicast, and end with their nodes${suffix}`,
  async () => {
    const { lab, hosts } = await line();
    const nodes = await Promise.all(
      hosts.map((host, i) =>
        lab.add({
          callsign: ["AAA-A", "BBB-B", "CCC-C"][i]!,
          namespace: host.namespace,
          listen: [],
          extra: `[transports.overlay]\ntype = "yggdrasil"\nmode = "supervised"\nmulticast = [".*"]\ninterface = "ygg0"\nmtu = 1500\n`,
        }),
      ),
    );
    const [a, b, c] = nodes as [LabNode, LabNode, LabNode];
    await Promise.all(nodes.map((node) => node.start()));
    await Promise.all([delivers(a, c), delivers(c, a)]);
    const addressOf = async (node: LabNode) => (await statusOf(node)).address;
    const before = await addressOf(a);
    expect((await a.json<Peers>("/mesh/peers")).overlays[0]!.mtu).toBe(1_500);

    // Nobody else reads its key, and nobody sees it.
    const folder = join(a.stateDir, "plugin-files", "transport.overlay");
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const key = readFileSync(join(folder, "yggdrasil.key"), "utf8").trim();
    for (const name of ["yggdrasil.key", "yggdrasil.conf"])
      expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    const said = await Promise.all(
      ["/mesh/status", "/mesh/peers", "/health", "/metrics", "/mesh/discovery"].map(async (path) =>
        (await a.api(path)).text(),
      ),
    );
    const arguments_ = readdirSync("/proc").flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "latin1")];
      } catch {
        return [];
      }
    });
    expect(readFileSync(join(folder, "yggdrasil.conf"), "utf8")).toContain(key);
    for (const text of [...said, ...arguments_, a.logTail]) expect(text).not.toContain(key);

    // A node that is killed takes its daemon with it, and has its address again.
    const [pid] = daemonsOf(a);
    expect(daemonsOf(a)).toHaveLength(1);
    await a.kill("SIGKILL");
    await b.until("no orphan", async () => daemonsOf(a).length === 0, 5_000);
    await a.start();
    await delivers(a, c);
    expect(await addressOf(a)).toBe(before);
    expect(daemonsOf(a)).not.toContain(pid!);

    // A daemon that dies alone comes back.
    process.kill(daemonsOf(b)[0]!, "SIGKILL");
    await delivers(c, a);

    // Another key, another address, and others hear of it.
    await a.reconfigure({
      extra: `[transports.overlay]\ntype = "yggdrasil"\nmode = "supervised"\nkey = "derived"\nmulticast = [".*"]\ninterface = "ygg0"\n`,
    });
    await a.json("/reload", { method: "POST" });
    await a.until(
      "another address",
      async () => {
        const now = await statusOf(a);
        return (
          now.address !== before && now.address.startsWith("2") && (await overlayOf(a)).state === "running"
        );
      },
      20_000,
    );
    await delivers(c, a);
    await Promise.all(nodes.map((node) => node.kill("SIGTERM")));
    expect(nodes.flatMap(daemonsOf)).toEqual([]);
  },
  110_000,
);

test.skipIf(isSkipped)(
  `the conformance suite of transports passes over a real daemon${suffix}`,
  async () => {
    const net = NetLab.create();
    cleanups.push(() => net.close());
    const lab = await Lab.create();
    cleanups.push(() => lab.close());
    const daemon = new YggdrasilDaemon(lab.dir, net.host("a"));
    cleanups.push(() => daemon.stop());
    await daemon.configure();
    daemon.start();
    const deadline = performance.now() + 15_000;
    while (!daemon.host.ip("-6", "addr", "show").includes("/7")) {
      if (performance.now() > deadline) throw new Error("the daemon has no address");
      await Bun.sleep(50);
    }
    const run = Bun.spawn(
      [...daemon.host.prefix, process.execPath, "test", join(import.meta.dir, "conformance-run.ts")],
      { env: { ...process.env, GODWIT_TEST_YGGDRASIL: daemon.admin }, stdout: "pipe", stderr: "pipe" },
    );
    const [out, err] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    expect({ code: await run.exited, text: `${out}${err}`.slice(-3_000) }).toMatchObject({ code: 0 });
    expect(Number(/(\d+) pass/.exec(err)?.[1])).toBeGreaterThanOrEqual(20);
  },
  60_000,
);
