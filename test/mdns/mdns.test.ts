/**
 * Nodes that were told nothing find each other on a LAN: over a cable that is plugged in, with the real Avahi in both directions, on two
 * interfaces of one subnet, and while liars shout. Every host is a network namespace; Avahi has a bus and a /run of its own.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from "../../runtime/wire/constants.ts";
import { Slowness } from "../../scripts/slowness.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";
import { Avahi, whyNoAvahi } from "./avahi.ts";

const why = whyNoNetLab() ?? whyNoAvahi();
const title = `on a LAN${why === undefined ? "" : ` [skipped: ${why}]`}`;
/** From cable to link, ms. */
const CABLE_MS = 2_000;

/** Forged senders, and nodes that each of them names: ten thousand. */
const SENDERS = 100;
const INSTANCES_EACH = 100;
/** From the start of an honest node to its link, ms, while all of those speak. */
const HONEST_MS = 15_000;
const GROWN_MIB_MAX = 64;

const MDNS = `[discovery.lan]
type = "mdns"
`;

interface PeersAnswer {
  readonly peers: readonly { readonly id: string; readonly links: readonly { readonly address: string }[] }[];
}

interface DiscoveryAnswer {
  readonly hints: readonly {
    readonly endpoint: string;
    readonly id: string | null;
    readonly source: string;
    readonly verdict: string;
  }[];
}

const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;
const peersOf = async (node: LabNode): Promise<string[]> =>
  (await node.json<PeersAnswer>("/mesh/peers")).peers.flatMap(({ id, links }) =>
    links.length > 0 ? [id] : [],
  );
const hintsOf = async (node: LabNode) => (await node.json<DiscoveryAnswer>("/mesh/discovery")).hints;
const rssOf = (pid: number): number =>
  1_024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))![1]);
const linksOf = async (node: LabNode): Promise<string[]> =>
  (await node.json<PeersAnswer>("/mesh/peers")).peers.flatMap(({ links }) =>
    links.map(({ address }) => address),
  );

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  const open: { close(): Promise<void> }[] = [];
  afterAll(async () => {
    for (const one of open.reverse()) await one.close();
  });

  async function opened(): Promise<{ net: NetLab; lab: Lab }> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const net = NetLab.create();
    open.push(net);
    const lab = await Lab.create();
    open.push(lab);
    return { net, lab };
  }

  const node = (lab: Lab, host: NetHost, listen: string, extra = MDNS) =>
    lab.add({ callsign: host.name, namespace: host.namespace, listen: [listen], extra });

  test.each([
    ["both", "[::]:4860"],
    ["v4", "0.0.0.0:4860"],
    ["none", "[::]:4860"],
  ] as const)("from cable to link in two seconds, addresses: %s", async (families, listen) => {
    const { net, lab } = await opened();
    const [a, b] = [net.host(`DUN-${families}`), net.host(`LON-${families}`)];
    const cable = net.link(a, b, { families: families === "none" ? "v6" : families });
    if (families === "none") for (const port of [cable.a, cable.b]) port.readdress({});
    const [one, other] = [await node(lab, a, listen), await node(lab, b, listen)];
    cable.down();
    await Promise.all([one.start(), other.start()]);
    const took: number[] = [];
    using slowness = new Slowness();
    for (let round = 0; round < 5; round++) {
      const startMs = performance.now();
      cable.up();
      await one.until("the link", async () => (await linksOf(one)).length > 0, 20_000, 5);
      took.push(performance.now() - startMs);
      cable.down();
      await one.until("its end", async () => (await linksOf(one)).length === 0, 30_000, 5);
      await other.until("its end", async () => (await linksOf(other)).length === 0, 30_000, 5);
    }
    console.log(`  from cable to link (${families}): ${took.map((ms) => ms.toFixed(0)).join(", ")} ms`);
    expect(Math.max(...took)).toBeLessThan(CABLE_MS * slowness.factor);
  });

  test("Avahi finds a node with two interfaces in one subnet, and a node finds who is published by Avahi", async () => {
    const { net, lab } = await opened();
    const [a, b] = [net.host("DUN-A"), net.host("LON-B")];
    const lan = net.lan("lan");
    const own = [lan.join(a), lan.join(a)];
    lan.join(b);
    const avahi = await Avahi.start(b);
    open.push(avahi);
    const one = await node(lab, a, "[::]:4860");
    await one.start();
    const id = await idOf(one);
    const short = id.slice(0, 10);
    let lines: string[] = [];
    await one.until(
      "Avahi to find it",
      async () => {
        lines = avahi.browse("_godwit._tcp").filter((line) => line.startsWith("="));
        return lines.length > 0;
      },
      30_000,
      200,
    );
    await avahi.untilHeld(own.map(({ addresses: { v4 } }) => `${short}.local\tIN\tA ${v4}`));
    await avahi.untilHeld(own.map(({ addresses: { v6 } }) => `${short}.local\tIN\tAAAA ${v6}`));
    for (const line of lines) {
      const [, , , name, , , host, address, port, text] = line.split(";");
      expect([name, host, port]).toEqual([short, `${short}.local`, "4860"]);
      expect(own.flatMap(({ addresses }) => Object.values(addresses) as string[])).toContain(address!);
      for (const pair of [
        `id=${id}`,
        "callsign=DUN-A",
        `protocol=${PROTOCOL_VERSION_MIN}-${PROTOCOL_VERSION_MAX}`,
      ])
        expect(text).toContain(`"${pair}"`);
    }
    expect(avahi.types().some((line) => line.includes("_godwit._tcp"))).toBe(true);

    // Somebody who speaks no multicast DNS itself, behind what an operator tells Avahi of it.
    const other = await node(lab, b, "[::]:4860", "");
    await other.start();
    const otherId = await idOf(other);
    avahi.publish("The node of the house. Really", "_godwit._tcp", 4860, `id=${otherId}`);
    await one.until("the link", async () => (await peersOf(one)).includes(otherId), 15_000);
    const { hints } = await one.json<DiscoveryAnswer>("/mesh/discovery");
    expect(hints.filter((hint) => hint.id === otherId).map(({ source }) => source)).toContain(
      "discovery.lan",
    );

    await one.kill("SIGTERM");
    // RFC 6762 section 10.1: a record is gone a second after its goodbye; its time to live is 75 minutes.
    const endMs = performance.now() + 5_000;
    const isHeld = () => avahi.browse("_godwit._tcp").some((line) => line.includes(id));
    while (isHeld() && performance.now() < endMs) await Bun.sleep(100);
    expect(isHeld()).toBe(false);
  });

  test("a node hears of both interfaces that another has in its subnet, and of what is left when one goes", async () => {
    const { net, lab } = await opened();
    const [a, b] = [net.host("DUN-A"), net.host("LON-B")];
    const lan = net.lan("lan");
    const own = [lan.join(a, { families: "v4" }), lan.join(a, { families: "v4" })];
    lan.join(b, { families: "v4" });
    const [one, other] = [await node(lab, a, "0.0.0.0:4860"), await node(lab, b, "0.0.0.0:4860")];
    await Promise.all([one.start(), other.start()]);
    const id = await idOf(one);
    const heard = async () =>
      (await hintsOf(other))
        .filter((hint) => hint.source === "discovery.lan" && hint.id === id)
        .map(({ endpoint }) => endpoint)
        .sort();
    const endpoints = own.map((port) => port.endpoint("v4"));
    await other.until("both addresses", async () => Bun.deepEquals(await heard(), endpoints), 10_000);
    await other.until("the link", async () => (await peersOf(other)).includes(id), 10_000);
    own[0]!.up(false);
    const startMs = performance.now();
    await one.until(
      "a link over the other one",
      async () => (await linksOf(one)).some((address) => !address.includes(own[0]!.addresses.v4!)),
      20_000,
    );
    await other.until("it, too", async () => (await peersOf(other)).includes(id), 20_000);
    console.log(`  linked again over the other interface: ${(performance.now() - startMs).toFixed(0)} ms`);
  });

  test("a node that was told of nobody says so, and finds the LAN as soon as it is told to", async () => {
    const { net, lab } = await opened();
    const [a, b] = [net.host("DUN-A"), net.host("LON-B")];
    const cable = net.link(a, b);
    const other = await node(lab, b, "[::]:4860");
    const one = await node(lab, a, "[::]:4860", "");
    await Promise.all([one.start(), other.start()]);
    const adviceOf = async () => (await one.json<{ advice: string[] }>("/mesh/status")).advice;
    const advice = await adviceOf();
    expect(advice[0]).toContain("nobody is known here");
    expect(advice.at(-1)).toBe(
      `[discovery.lan] type = "mdns", which finds the nodes of this LAN (${cable.a.device})`,
    );
    expect(one.logLines.filter((line) => line.includes('"event":"nobody is known"'))).toHaveLength(1);
    await one.reconfigure({ extra: MDNS });
    await one.json("/reload", { method: "POST" });
    await one.until("the link", async () => (await linksOf(one)).length > 0, 10_000);
    expect(await adviceOf()).toEqual([]);
    const id = await idOf(other);
    // It may have been called by the other before it had heard of it.
    await one.until(
      "the hint under its source",
      async () =>
        (await hintsOf(one)).some(
          (hint) => hint.source === "discovery.lan" && hint.id === id && hint.verdict === "linked",
        ),
      10_000,
    );
  });

  test("a hundred forged senders with ten thousand nodes: bounded, counted, and an honest node has its link", async () => {
    const { net, lab } = await opened();
    const [a, b, liar] = [net.host("DUN-A"), net.host("LON-B"), net.host("LIAR-C")];
    const lan = net.lan("lan");
    for (const host of [a, b]) lan.join(host, { families: "v4" });
    const { device } = lan.join(liar, { families: "v4" });
    const first = lan.addresses(100).v4;
    const prefix = first.replace(/\d+$/, "");
    for (let i = 0; i < SENDERS; i++) liar.ip("addr", "add", `${prefix}${100 + i}/24`, "dev", device);
    liar.ip("addr", "add", "192.0.2.1/24", "dev", device);
    // Who dials a liar hears nothing, for as long as he waits.
    liar.nft(
      "inet",
      "deaf",
      "chain in { type filter hook input priority 0; policy accept; meta l4proto tcp drop; }",
    );
    const one = await node(lab, a, "0.0.0.0:4860");
    await one.start();
    const before = rssOf(one.pid!);
    const forger = Bun.spawn(
      [
        ...liar.prefix,
        process.execPath,
        join(import.meta.dir, "forger.ts"),
        ...[first, String(SENDERS), String(INSTANCES_EACH), "192.0.2.1"],
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    open.push({
      async close() {
        forger.kill("SIGKILL");
        await forger.exited;
      },
    });
    await forger.stdout.getReader().read();
    await one.until("a table full of lies", async () => (await hintsOf(one)).length >= 500, 20_000);
    const took: number[] = [];
    for (let round = 0; round < 3; round++) {
      const other = await lab.add({
        callsign: b.name,
        folder: `honest-${round}`,
        namespace: b.namespace,
        listen: ["0.0.0.0:4860"],
        extra: MDNS,
      });
      const startMs = performance.now();
      await other.start();
      const id = await idOf(other);
      await one.until("the honest one", async () => (await peersOf(one)).includes(id), 60_000);
      took.push(performance.now() - startMs);
      await other.kill("SIGKILL");
    }
    const hints = (await hintsOf(one)).filter(({ source }) => source === "discovery.lan");
    const metrics = await (await one.api("/metrics")).text();
    const dropped = (reason: string) =>
      Number(
        new RegExp(`^godwit_plugin_mdns_dropped_total\\{[^}]*reason="${reason}"[^}]*\\} (\\d+)`, "m").exec(
          metrics,
        )?.[1] ?? 0,
      );
    const grownMiB = (rssOf(one.pid!) - before) / 2 ** 20;
    const reasons = ["too_big", "too_many_records", "malformed", "port", "off_link", "rate"];
    console.log(
      `  honest links behind ${SENDERS} liars: ${took.map((ms) => ms.toFixed(0)).join(", ")} ms; ${hints.length} hints, ${grownMiB.toFixed(1)} MiB more; dropped ${reasons.map((reason) => `${reason} ${dropped(reason)}`).join(", ")}`,
    );
    expect(Math.max(...took)).toBeLessThan(HONEST_MS);
    expect(hints.length).toBeLessThanOrEqual(4_096);
    expect(grownMiB).toBeLessThan(GROWN_MIB_MAX);
    for (const reason of reasons) expect([reason, dropped(reason) > 0]).toEqual([reason, true]);
    expect((await one.json<{ status: string }>("/health")).status).toBe("ok");
  }, 120_000);
});
