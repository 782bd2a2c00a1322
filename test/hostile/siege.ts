/** A closed mesh of one node that strangers besiege, and what honest ones get of it meanwhile: a link, and its health. */
import { join } from "node:path";
import { writeFile } from "node:fs/promises";
import { binaryPath, freePort, type Lab, type LabNode } from "../../scripts/lab.ts";
import type { CrowdOrder } from "./crowd.ts";

const DESCRIPTORS = 1_024;
const HEALTH_EVERY_MS = 100;
/** What a crowd needs to have come up. */
const GATHER_MS = 1_000;

export type Way = "tcp" | "udp" | "ws";

/** What honest ones met, ms. */
export interface Met {
  /** From a member's start until it is linked; several. */
  readonly links: readonly number[];
  /** The longest wait for `/health`: over TCP and over the control socket. */
  readonly health: number;
  readonly control: number;
  readonly crowd: string;
}

export class Siege {
  readonly node: LabNode;
  readonly ports: Readonly<Record<Way | "api", number>>;
  readonly #members: Readonly<Record<Way, LabNode>>;

  private constructor(node: LabNode, ports: Siege["ports"], members: Readonly<Record<Way, LabNode>>) {
    this.node = node;
    this.ports = ports;
    this.#members = members;
  }

  static async begin(lab: Lab): Promise<Siege> {
    const key = join(lab.dir, "network-secret");
    await writeFile(key, "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB\n", { mode: 0o600 });
    const nodeExtra = `network_secret = "file:${key}"`;
    const [udp, ws] = [freePort(), freePort()];
    const listen = (port: number) => JSON.stringify([`127.0.0.1:${port}`]);
    const node = await lab.add({
      callsign: "LON-B",
      nodeExtra,
      extra: `[transports.wire]\ntype = "udp"\nlisten = ${listen(udp)}\n[transports.web]\ntype = "websocket"\nlisten = ${listen(ws)}\n`,
      command: ["/bin/sh", "-c", `ulimit -n ${DESCRIPTORS}; exec "${binaryPath}" "$@"`, "godwit"],
    });
    await node.start();
    const endpoints = {
      tcp: node.endpoint,
      udp: `udp://127.0.0.1:${udp}`,
      ws: `ws://127.0.0.1:${ws}/godwit`,
    };
    const member = (way: Way) =>
      lab.add({
        callsign: `DUN-${way.toUpperCase()}`,
        nodeExtra,
        peers: [endpoints[way]],
        listen: [],
        extra: `[transports.wire]\ntype = "udp"\nlisten = []\n[transports.web]\ntype = "websocket"\nlisten = []\n`,
      });
    const members = { tcp: await member("tcp"), udp: await member("udp"), ws: await member("ws") };
    return new Siege(node, { tcp: node.linkPort, udp, ws, api: node.apiPort }, members);
  }

  /** Under these crowds, or none, for `ms`: members come by `way`, one after the other, and health is asked for. */
  async endure(way: Way, orders: readonly CrowdOrder[], ms: number): Promise<Met> {
    const crowds = orders.map(openCrowd);
    try {
      if (orders.length > 0) await Bun.sleep(GATHER_MS);
      const endMs = performance.now() + ms;
      const [links, health, control] = await Promise.all([
        this.#linkAgain(this.#members[way], endMs),
        longest(endMs, () =>
          fetch(`${this.node.apiUrl}/health`, {
            headers: { connection: "close" },
            signal: AbortSignal.timeout(10_000),
          }),
        ),
        longest(endMs, () => this.node.api("/health", { signal: AbortSignal.timeout(10_000) })),
      ]);
      const said = await Promise.all(crowds.map((crowd) => new Response(crowd.stdout).text()));
      return { links, health, control, crowd: said.join(" ").replaceAll("\n", "") };
    } finally {
      for (const crowd of crowds) crowd.kill("SIGKILL");
    }
  }

  /** A newcomer each time, that knows no other way: whoever was linked does not stand for who comes. */
  async #linkAgain(member: LabNode, endMs: number): Promise<number[]> {
    const took: number[] = [];
    do {
      const startedMs = performance.now();
      await member.start();
      const isLinked = async () =>
        (await member.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected > 0;
      await member.until("a link to the besieged node", isLinked, 20_000);
      took.push(Math.round(performance.now() - startedMs));
      await member.kill("SIGTERM");
      await member.destroyState();
    } while (performance.now() < endMs);
    return took;
  }
}

export const openCrowd = (order: CrowdOrder) =>
  Bun.spawn([process.execPath, join(import.meta.dir, "crowd.ts"), JSON.stringify(order)], {
    stdout: "pipe",
    stderr: "inherit",
  });

async function longest(endMs: number, ask: () => Promise<Response>): Promise<number> {
  let most = 0;
  do {
    const startedMs = performance.now();
    const isOk = await ask().then(
      async (response) => (await response.text()) !== "" && response.status !== 0,
      () => false,
    );
    most = Math.max(most, isOk ? performance.now() - startedMs : Number.POSITIVE_INFINITY);
    await Bun.sleep(HEALTH_EVERY_MS);
  } while (performance.now() < endMs);
  return Math.round(most);
}

/** Every flood, by name, and the way by which members come meanwhile. */
export function floods(
  ports: Siege["ports"],
  ms: number,
): readonly {
  readonly name: string;
  readonly way: Way;
  readonly orders: readonly CrowdOrder[];
}[] {
  const lasting = ms + GATHER_MS + 500;
  const silent = (port: readonly number[], sources: number, count: number, perSecond: number, say = "") =>
    ({ what: "connections", ports: port, sources, count, perSecond, say, ms: lasting }) as const;
  return [
    {
      name: "4,000 datagrams a second with a wrong tag, of 16 sources",
      way: "udp",
      orders: [{ what: "datagrams", port: ports.udp, sources: 16, perSecond: 4_000, ms: lasting }],
    },
    {
      name: "nine silent sources on the TCP port",
      way: "tcp",
      orders: [silent([ports.tcp], 9, 2_000, 1_000)],
    },
    {
      name: "3,000 connections of one source on the TCP port",
      way: "tcp",
      orders: [silent([ports.tcp], 1, 3_000, 3_000)],
    },
    {
      name: "3,000 connections of one source on the WebSocket and API ports",
      way: "ws",
      orders: [silent([ports.ws, ports.api], 1, 3_000, 3_000)],
    },
    {
      name: "half a request of each of 3,000 connections",
      way: "tcp",
      orders: [silent([ports.ws, ports.api], 3, 3_000, 3_000, "GET /health HTTP/1.1\r\nHost: ")],
    },
    {
      name: "pipelined requests on four connections",
      way: "tcp",
      orders: [{ what: "requests", port: ports.api, connections: 4, path: "/mesh/status", ms: lasting }],
    },
  ];
}
