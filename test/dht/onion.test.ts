/**
 * The real tor, a private network: three members that are nowhere but at onion addresses, and newcomers behind a SOCKS proxy whose machine lets no
 * UDP out; one of them has the year 1970. Each knows one onion address, finds all others in the DHT through the member there, links to them, and
 * dials them for ever once they were good for some seconds, whether or not a DHT still names them.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab } from "../../scripts/netlab.ts";
import { command, type NetHost } from "../../scripts/netlab-parts.ts";
import { TorNet, whyNoTorNet } from "../tor/tor-net.ts";
import { clockOf1970, whyNoFaketime } from "./faketime.ts";

const why = whyNoTorNet() ?? whyNoFaketime;
const title = `a newcomer without UDP over the real tor${why === undefined ? "" : ` [skipped: ${why}]`}`;

const DHT_PORT = 4862;
const MEMBERS = ["DUN-A", "LON-B", "NYC-C"];
/** Seconds instead of the ten minutes and the minute that a node takes by itself. */
const PROMOTE_AFTER_S = 3;
const TRUST = `[trust]\npromote_onions_after = "${PROMOTE_AFTER_S}s"\nreview_every = "1s"\n`;

interface Hints {
  readonly hints: readonly {
    readonly source: string;
    readonly endpoint: string;
    readonly expires_in_seconds: number | null;
  }[];
}
interface PeerView {
  readonly id: string;
  readonly callsign: string | null;
  readonly trust: string;
  readonly trust_by: string;
  readonly trust_reason: string | null;
  readonly links: readonly { readonly direction: string; readonly address: string }[];
}
interface Told {
  readonly type: string;
  readonly data: Readonly<Record<string, string | null>>;
}

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  let net: NetLab;
  let tor: TorNet;
  let lab: Lab;
  let extra: string;
  let dht: string;
  let nodeExtra: string;
  let far: NetHost;
  const members: LabNode[] = [];
  const onions: string[] = [];

  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    net = NetLab.create();
    const host = net.host("tor");
    far = net.host("far");
    const cable = net.link(host, far, { families: "v4" });
    const proxy = `${cable.a.addresses.v4!}:9050`;
    tor = new TorNet(host);
    tor.start();
    const daemon = tor.client("daemon", { socks: 9050, control: 9051 });
    const door = tor.client("door", { socks: proxy, control: 9061 });
    lab = await Lab.create();
    const secret = join(lab.dir, "network.key");
    await writeFile(
      secret,
      `${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")}\n`,
      { mode: 0o600 },
    );
    nodeExtra = `network_secret = "file:${secret}"`;
    await tor.ready();
    daemon.start();
    door.start();
    for (const [n, callsign] of MEMBERS.entries()) {
      const place = `[discovery.dht]\ntype = "dht"\nlisten = ["127.0.0.${2 + n}:${DHT_PORT}"]\nbootstrap = ["127.0.0.2:${DHT_PORT}"]\n`;
      const node = await lab.add({
        ...{ callsign, namespace: host.namespace, listen: [], nodeExtra, linksWanted: 4 },
        extra: `[transports.tor]\ntype = "tor"\ncontrol = "127.0.0.1:9051"\n${place}`,
      });
      members.push(node);
      await node.start();
    }
    for (const node of members) onions.push(await onionOf(node));
    // A datagram that would get out is counted, and does not.
    far.nft(
      "inet",
      "no-udp",
      `counter lost {}
       chain out { type filter hook output priority 0; policy accept; meta l4proto udp counter name lost drop; }
       chain in { type filter hook input priority 0; policy accept; meta l4proto udp drop; }`,
    );
    extra = `[transports.tor]\ntype = "tor"\nsocks = "${proxy}"\n${TRUST}`;
    dht = `[discovery.dht]\ntype = "dht"\nbootstrap = ["${cable.a.addresses.v4!}:${DHT_PORT}"]\n`;
    // They were told of nobody: the DHT alone brought them together.
    for (const node of members)
      await node.until(
        "links to the other members",
        async () => (await linked(node)).length === 2,
        90_000,
        100,
      );
  }, 150_000);

  afterAll(async () => {
    await lab?.close();
    await tor?.close();
    await net?.close();
  });

  async function onionOf(node: LabNode): Promise<string> {
    let listen: readonly string[] = [];
    const look = async () => {
      const { transports } = await node.json<{ transports: { type: string; listen: string[] }[] }>(
        "/mesh/status",
      );
      listen = transports.find(({ type }) => type === "tor")?.listen ?? [];
      return listen.length === 1;
    };
    await node.until("its onion address", look, 90_000, 100);
    return listen[0]!;
  }

  const hintsOf = async (node: LabNode, of: string) =>
    (await node.json<Hints>("/mesh/discovery")).hints.filter(({ source }) => source === of);

  const peersOf = async (node: LabNode) =>
    (await node.json<{ peers: PeerView[] }>("/mesh/peers?all=true")).peers;
  const linked = async (node: LabNode) => (await peersOf(node)).filter(({ links }) => links.length > 0);

  /** All events of a node from now on, in their order. */
  function follow(node: LabNode, signal: AbortSignal): Told[] {
    const told: Told[] = [];
    void (async () => {
      const response = await node.api("/events?family=discovery,link,peer", { signal });
      const decoder = new TextDecoder();
      let text = "";
      for await (const chunk of response.body!) {
        text += decoder.decode(chunk, { stream: true });
        const blocks = text.split("\n\n");
        text = blocks.pop()!;
        for (const block of blocks) {
          const line = /^data: (.*)$/m.exec(block)?.[1];
          if (line !== undefined) told.push(JSON.parse(line) as Told);
        }
      }
    })().catch(() => {});
    return told;
  }

  /** Datagrams that the newcomers' machine would have sent. */
  function lostDatagrams(): number {
    const words = ["ip", "netns", "exec", far.namespace, "nft", "list", "counters"];
    return Number(/packets (\d+)/.exec(command(words))![1]);
  }

  test.each([
    ["FAR-N", "a clock that is right", {}],
    ["OLD-N", "the year 1970", clockOf1970],
  ] as const)(
    "%s with %s finds all others, links to them through the proxy, and dials them for ever",
    async (callsign, _clock, env) => {
      const following = new AbortController();
      // Nothing but hints makes it dial: what it is told of members in other ways is not followed.
      const newcomer = await lab.add({
        ...{ callsign, namespace: far.namespace, listen: [], nodeExtra, env, linksWanted: 0 },
        peers: [onions[0]!],
        extra: `${extra}${dht}`,
      });
      try {
        await newcomer.start();
        const startedMs = performance.now();
        const told = follow(newcomer, following.signal);
        const isFound = async () => {
          const found = (await hintsOf(newcomer, "discovery.dht")).map(({ endpoint }) => endpoint);
          return onions.every((onion) => found.includes(onion));
        };
        await newcomer.until("hints at all members", isFound, 120_000, 100);
        const sinceStart = () => ((performance.now() - startedMs) / 1_000).toFixed(1);
        console.log(`  ${callsign}: all members found ${sinceStart()} s after the start`);
        const all = async () => (await linked(newcomer)).length === MEMBERS.length;
        await newcomer.until("links to all", all, 120_000, 100);
        console.log(`  ${callsign}: linked to all after ${sinceStart()} s`);
        const trusted = async () => (await linked(newcomer)).filter(({ trust }) => trust === "trusted");
        await newcomer.until(
          "trust in those that it found",
          async () => (await trusted()).length === 2,
          60_000,
        );
        // The stream comes after the answer that shows the same.
        const said = (type: string) => told.filter((event) => event.type === type).length;
        await newcomer.until("events of it", async () => said("peer.trust") === 2, 10_000);
        expect((await linked(newcomer)).map((peer) => peer.callsign).sort()).toEqual(MEMBERS);
        expect(lostDatagrams()).toBeGreaterThan(0);

        const peers = await peersOf(newcomer);
        const peerOf = (name: string) => peers.find((peer) => peer.callsign === name)!;
        for (const [n, name] of MEMBERS.entries()) {
          const [onion, { id, ...peer }] = [onions[n]!, peerOf(name)];
          const of = (type: string) => told.filter((event) => event.type === type && event.data["id"] === id);
          expect(peer.links).toMatchObject([{ direction: "outbound", address: onion }]);
          if (n === 0) {
            // The operator named it: that is why it is dialled for ever, and nobody else's word counts.
            expect([of("peer.considered"), of("peer.trust")]).toEqual([[], []]);
            expect(peer).toMatchObject({ trust: "member", trust_by: "default" });
            continue;
          }
          const reason = `an onion address that discovery.dht named; dialled for ever when it was linked for ${PROMOTE_AFTER_S} s and good`;
          expect(of("peer.considered").map(({ data }) => data)).toEqual([
            { id, endpoint: onion, source: "discovery.dht", reason },
          ]);
          const [promotion, ...more] = of("peer.trust");
          expect(more).toEqual([]);
          expect(promotion!.data).toMatchObject({ level: "trusted", by: "manager" });
          expect(promotion!.data["reason"]).toStartWith("an onion address that discovery.dht named; score ");
          expect(peer).toMatchObject({ trust_by: "manager", trust_reason: promotion!.data["reason"] });
          // Each step after the one that it follows from.
          const hint = told.findIndex(
            ({ type, data }) =>
              type === "discovery.hint" && data["source"] === "discovery.dht" && data["endpoint"] === onion,
          );
          const up = told.findIndex(({ type, data }) => type === "link.up" && data["id"] === id);
          const steps = [hint, up, told.indexOf(of("peer.considered")[0]!), told.indexOf(promotion!)];
          expect(steps[0]).toBeGreaterThanOrEqual(0);
          expect(steps[1]).toBeGreaterThan(steps[0]!);
          expect(steps[2]).toBeGreaterThan(steps[0]!);
          expect(steps[3]).toBeGreaterThan(Math.max(steps[1]!, steps[2]!));
        }

        // What they earned does not hang on the DHT that named them.
        await newcomer.reconfigure({ extra });
        await newcomer.json("/reload", { method: "POST" });
        const isWithout = async () => (await hintsOf(newcomer, "discovery.dht")).length === 0;
        await newcomer.until("no hints of a DHT", isWithout, 20_000);
        const kept = await hintsOf(newcomer, "onions");
        expect(kept.map(({ endpoint }) => endpoint).sort()).toEqual(onions.slice(1).sort());
        expect(kept.every(({ expires_in_seconds: seconds }) => seconds === null)).toBe(true);

        const isLinked = async () => (await linked(newcomer)).some((peer) => peer.callsign === "LON-B");
        await members[1]!.kill("SIGKILL");
        await newcomer.until("the end of the link", async () => !(await isLinked()), 60_000);
        await members[1]!.start();
        const backMs = performance.now();
        await newcomer.until("the link again", isLinked, 150_000, 100);
        console.log(
          `  ${callsign}: LON-B redialled ${((performance.now() - backMs) / 1_000).toFixed(1)} s after its start`,
        );
        const back = (await linked(newcomer)).find((peer) => peer.callsign === "LON-B");
        expect(back).toMatchObject({ trust: "trusted", trust_by: "manager" });
        expect(back!.links).toMatchObject([{ direction: "outbound", address: onions[1] }]);
        await newcomer.until("the event of that link", async () => said("link.up") > MEMBERS.length, 10_000);
        const ofLink = told.filter(
          ({ type, data }) => type.startsWith("link.") && data["id"] === peerOf("LON-B").id,
        );
        expect(ofLink.map(({ type }) => type)).toEqual(["link.up", "link.down", "link.up"]);
      } finally {
        following.abort();
        await newcomer.kill("SIGTERM");
      }
    },
    500_000,
  );
});
