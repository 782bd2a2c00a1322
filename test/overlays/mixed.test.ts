/**
 * One mesh over everything: a ring of four nodes, each pair of neighbours over a network of another kind, real daemons and a
 * real kernel throughout. Each kind is killed in turn while mail flows both ways; the mail moves, whole and once, and the
 * node can say why.
 *
 *   DUN-A --- Tor --- LON-B
 *     |                 |
 *    TCP               BETWEEN_B_AND_C
 *     |                 |
 *   PAR-D - Yggdrasil - NYC-C
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, type LabNode } from "../../scripts/lab.ts";
import type { NetLink } from "../../scripts/netlab.ts";
import { NetMesh, report } from "../net/net-mesh.ts";
import { TorNet, type TorProcess, whyNoTorNet } from "../tor/tor-net.ts";
import { PEERING_PORT, whyNoYggdrasil, YggdrasilDaemon } from "../yggdrasil/daemon.ts";
import { BETWEEN_B_AND_C } from "./between.ts";

const why = whyNoTorNet() ?? whyNoYggdrasil() ?? BETWEEN_B_AND_C.whyNot();
const title = `over Tor, ${BETWEEN_B_AND_C.name}, Yggdrasil and TCP at once${why === undefined ? "" : ` [skipped: ${why}]`}`;

const [A, B, C, D] = ["DUN-A", "LON-B", "NYC-C", "PAR-D"] as const;
type Callsign = typeof A | typeof B | typeof C | typeof D;
const FOUR = [A, B, C, D] as const;
/** Between two messages of a stream. */
const PACE_MS = 40;
const STREAM = 30;
/**
 * Until the first message after a kill has its receipt: what is wanted where the end is seen, and where it is silent. The
 * figures are printed beside it; a test fails only beyond the slack, for machines that do other things as well.
 */
const GOAL_MS = { seen: 300, silent: 2_500 } as const;
const SLACK_MS = 5_000;

interface Why {
  readonly reachable: boolean;
  readonly candidates: readonly {
    readonly callsign: string | null;
    readonly selected: boolean;
    readonly reason: string;
  }[];
  readonly explanation: readonly string[];
}

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  let mesh: NetMesh;
  let tor: TorNet;
  let torOfA: TorProcess;
  let overlays: readonly [YggdrasilDaemon, YggdrasilDaemon];
  let wires: Record<"bc" | "cd" | "da", NetLink>;

  const node = (callsign: Callsign): LabNode => mesh.node(callsign);
  const whyOf = (from: Callsign, to: Callsign) => node(from).json<Why>(`/mesh/routes/${to}/why`);
  const nextHop = async (from: Callsign, to: Callsign) =>
    (await whyOf(from, to)).candidates.find(({ selected }) => selected)?.callsign;

  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    mesh = await NetMesh.open();
    const { net } = mesh;
    const hosts = FOUR.map((callsign) => net.host(callsign));
    const torHost = net.host("tor");
    const [a, b, c, d] = hosts as [
      (typeof hosts)[0],
      (typeof hosts)[0],
      (typeof hosts)[0],
      (typeof hosts)[0],
    ];
    tor = new TorNet(torHost);
    tor.start();
    // Each node is beside a tor of its own: by unix sockets outwards, by a wire for what comes in.
    const ways = ([a, b] as const).map((host, n) => {
      const folder = join(tor.folder, `of-${host.name}`);
      const socks = `unix:${join(folder, "socks.sock")}`;
      const process = tor.client(`of-${host.name}`, { socks, control: 9_051 + n });
      const wire = net.link(torHost, host);
      const config = [
        "[transports.onion]",
        'type = "tor"',
        `socks = "${socks}"`,
        `control = "unix:${join(folder, "control.sock")}"`,
        `listen = ["${wire.b.addresses.v4}:0"]`,
      ].join("\n");
      process.start();
      return { process, config };
    });
    torOfA = ways[0]!.process;
    wires = { bc: net.link(b, c), cd: net.link(c, d), da: net.link(d, a) };
    overlays = [new YggdrasilDaemon(mesh.dir, c), new YggdrasilDaemon(mesh.dir, d)];
    const peering = `tcp://${wires.cd.b.addresses.v4}:${PEERING_PORT}`;
    const [, atD] = await Promise.all(overlays.map((daemon) => daemon.configure()));
    for (const daemon of overlays) daemon.start();
    const overlay = (n: 0 | 1, peers: readonly string[]) =>
      `[transports.overlay]\ntype = "yggdrasil"\nadmin = "${overlays[n].admin}"\npeers = ${JSON.stringify(peers)}\n`;
    const between = BETWEEN_B_AND_C.configure(wires.bc);
    const tcp = wires.da.a.endpoint();
    // Listening ends first, as far as others must know where they are.
    await mesh.start(d, [], { listen: [tcp.replace("tcp://", "")], extra: overlay(1, []) });
    await mesh.start(c, [`yggdrasil://[${atD}]:4862`], {
      listen: [],
      extra: `${overlay(0, [peering])}\n${between.c}`,
    });
    await mesh.start(b, await BETWEEN_B_AND_C.peersOfB(wires.bc, node(C)), {
      listen: [],
      extra: `${ways[1]!.config}\n${between.b}`,
    });
    await node(B).until("its onion address", async () => (await onionOfB()) !== undefined, 120_000, 100);
    await mesh.start(a, [(await onionOfB())!, tcp], { listen: [], extra: ways[0]!.config });
    await ring();
    await mesh.untilWhole(60_000);
  }, 200_000);

  afterAll(async () => {
    await mesh?.close();
    for (const daemon of overlays ?? []) await daemon.stop("SIGKILL");
    await tor?.close();
  });

  const onionOfB = async () => {
    const { transports } = await node(B).json<{ transports: { name: string; listen: string[] }[] }>(
      "/mesh/status",
    );
    return transports.find(({ name }) => name === "onion")?.listen[0];
  };

  /** Every link is there, and over what it is meant to be. */
  async function ring(): Promise<void> {
    for (const [from, to, transport] of [
      [A, B, "tor"],
      [B, C, BETWEEN_B_AND_C.scheme],
      [C, D, "yggdrasil"],
      [D, A, "tcp"],
    ] as const) {
      await mesh.untilLink(from, to, true, 60_000);
      await mesh.untilLink(to, from, true, 60_000);
      const { peers } = await node(from).json<{
        peers: { callsign: string; links: { transport: string }[] }[];
      }>("/mesh/peers");
      const links = peers.find(({ callsign }) => callsign === to)!.links;
      expect(links.map((link) => link.transport)).toEqual([transport]);
    }
  }

  /** Mail both ways at a steady pace while `kill` happens in its middle. Answers how long the first two after it took. */
  async function flow(one: Callsign, other: Callsign, what: string, kill: () => Promise<void> | void) {
    const moved: Promise<number>[] = [];
    for (let i = 0; i < STREAM; i++) {
      const after = i === STREAM / 2;
      if (after) await kill();
      const startedMs = performance.now();
      for (const [from, to] of [
        [one, other],
        [other, one],
      ] as const) {
        const id = await mesh.send(from, to, `${what} ${i}`);
        if (after) moved.push(mesh.delivered(from, id).then(() => performance.now() - startedMs));
      }
      await Bun.sleep(PACE_MS);
    }
    const [there, back] = (await Promise.all(moved)) as [number, number];
    report(`${what}: ${one} to ${other}, until the receipt`, `${Math.round(there)} ms`);
    report(`${what}: ${other} to ${one}, until the receipt`, `${Math.round(back)} ms`);
    return Math.max(there, back);
  }

  /** The direct way is gone from the candidates or not chosen, another is, and words say which and at what. */
  async function explained(from: Callsign, to: Callsign, through: Callsign, what: string): Promise<void> {
    await node(from).until(
      `a way to ${to} through ${through}`,
      async () => (await nextHop(from, to)) === through,
      20_000,
    );
    const { candidates, explanation, reachable } = await whyOf(from, to);
    expect(reachable).toBe(true);
    expect(candidates.find(({ callsign }) => callsign === to)).toBeUndefined();
    expect(candidates.find(({ selected }) => selected)!.reason).toContain("cheapest");
    expect(explanation[0]).toMatch(/^goes through [a-z2-7]{10} at \d+/);
    const said = Bun.spawnSync([binaryPath, "why", to, "--socket", node(from).socketPath]).stdout.toString();
    expect(said).toContain(through);
    report(`${what}: godwit why ${to} at ${from}`, explanation[0]!);
  }

  test("a message each way between all pairs", async () => {
    for (const from of FOUR)
      for (const to of FOUR) if (from !== to) await mesh.exchange(from, to, `${from} to ${to}`);
    await mesh.checkOnce();
  }, 90_000);

  const cases = [
    {
      kind: "TCP",
      ends: [D, A],
      ways: [C, B],
      end: "seen",
      kill: () => wires.da.down(),
      heal: () => wires.da.up(),
    },
    {
      kind: BETWEEN_B_AND_C.name,
      ends: [B, C],
      ways: [A, D],
      end: "silent",
      kill: () => BETWEEN_B_AND_C.kill(wires.bc, [node(B), node(C)]),
      heal: () => BETWEEN_B_AND_C.heal(wires.bc, [node(B), node(C)]),
    },
    {
      kind: "Yggdrasil",
      ends: [C, D],
      ways: [B, A],
      // One end sees its interface go, the other hears nothing.
      end: "silent",
      kill: () => overlays[0].stop("SIGKILL"),
      heal: () => overlays[0].start(),
    },
  ] as const;

  for (const { kind, ends, ways, end, kill, heal } of cases)
    test(`${kind} is killed: mail between its ends goes the other way round, by Tor`, async () => {
      const [one, other] = ends;
      await ring();
      await node(one).until("the direct way", async () => (await nextHop(one, other)) === other, 20_000);
      await node(other).until("the direct way", async () => (await nextHop(other, one)) === one, 20_000);
      const ms = await flow(one, other, kind, kill);
      report(`${kind}: moved within`, `${Math.round(ms)} ms, wanted ${GOAL_MS[end]} ms`);
      expect(ms).toBeLessThan(GOAL_MS[end] + SLACK_MS);
      await explained(one, other, ways[0], kind);
      await explained(other, one, ways[1], kind);
      await mesh.checkOnce();
      await heal();
      await ring();
    }, 120_000);

  test("Tor is killed while it carries: what it had is delivered over TCP, once, when that is back", async () => {
    await ring();
    wires.da.down();
    await mesh.untilLink(A, D, false);
    await node(A).until("the way by Tor", async () => (await nextHop(A, D)) === B, 20_000);
    const killedMs = { at: 0 };
    for (let i = 0; i < STREAM; i++) {
      if (i === STREAM / 2) {
        await torOfA.stop("SIGKILL");
        killedMs.at = performance.now();
      }
      await mesh.send(A, D, `Tor there ${i}`);
      await mesh.send(D, A, `Tor back ${i}`);
      await Bun.sleep(PACE_MS);
    }
    await mesh.untilLink(A, B, false, 60_000);
    report("Tor: dead at the killed end", `${Math.round(performance.now() - killedMs.at)} ms`);
    const { reachable } = await whyOf(A, D);
    expect(reachable).toBe(false);
    await mesh.untilLink(B, A, false, 60_000);
    report("Tor: dead at the far end", `${Math.round(performance.now() - killedMs.at)} ms`);
    wires.da.up();
    await mesh.untilLink(A, D, true);
    await explained(A, B, D, "Tor");
    await mesh.checkOnce();
    torOfA.start();
    await ring();
  }, 180_000);
});
