/**
 * tor.yaml on a Tor network of its own: four authorities where the engine's networks lead, and the file's Tor a client of
 * theirs. Fresh, and with its volumes: onion addresses stay what they are.
 */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TorNet } from "../tor/tor-net.ts";
import type { Engine } from "./engine.ts";
import { file, Topology } from "./topology.ts";

/** Of the authorities: an address that the engine has and containers are routed to. */
const AUTHORITIES = "10.99.0.1";
/** A first onion address is there in some 10 s, and a circuit to one may take as many tries. */
const ONION_MS = 120_000;

interface Peers {
  readonly peers: readonly {
    readonly callsign: string;
    readonly trust: string;
    readonly links: readonly { readonly transport: string; readonly direction: string }[];
  }[];
}
interface Status {
  readonly transports: readonly { readonly listen: readonly string[] }[];
}

export async function meshOfOnions(engine: Engine): Promise<void> {
  await engine.outside("ip", "address", "add", `${AUTHORITIES}/32`, "dev", "lo");
  const network = new TorNet({ prefix: engine.netPrefix }, AUTHORITIES);
  try {
    network.start();
    await network.ready();
    const torrc = join(engine.dir, "torrc");
    writeFileSync(torrc, `${readFileSync(file("tor/torrc"), "utf8")}${network.clientLines.join("\n")}\n`, {
      mode: 0o644,
    });
    await throughTor(engine, torrc);
  } finally {
    await network.close();
  }
}

async function throughTor(engine: Engine, TORRC: string): Promise<void> {
  await using topology = await Topology.up(engine, "tor", {
    files: ["tor.yaml"],
    variables: { TORRC, PROMOTE_ONIONS_AFTER: "5s", REVIEW_EVERY: "1s" },
  });
  const { nodes } = topology;
  const json = async <T>(node: string, ...words: string[]) =>
    JSON.parse((await topology.godwit(node, ...words, "--json")).out) as T;
  const onions = async () =>
    await Promise.all(
      nodes.map(async (node) =>
        (await json<Status>(node, "status")).transports.flatMap(({ listen }) => listen),
      ),
    );
  const isMesh = async () => {
    await topology.allHealthy();
    await topology.isConfined();
    await topology.isWhole(ONION_MS);
    for (const node of nodes) {
      await topology.until(
        "links to both others over Tor alone",
        node,
        async () => {
          const { peers } = await json<Peers>(node, "peers");
          const linked = peers.filter(({ links }) => links.length > 0);
          for (const { links } of linked) for (const { transport } of links) expect(transport).toBe("tor");
          return linked.length === 2;
        },
        ONION_MS,
      );
      // Not even a route: what does not go by Tor goes nowhere.
      expect(await topology.wayOut(node)).toBe("");
    }
  };
  await isMesh();
  const before = await onions();
  expect(before.flat().length).toBe(3);
  // Two were told of one node of the DHT, and nobody of an onion address. Who found one and dialled it keeps whom it met there.
  let kept = 0;
  for (const node of nodes) {
    const dialled = async () =>
      (await json<Peers>(node, "peers")).peers.filter(({ links }) =>
        links.some(({ direction }) => direction === "outbound"),
      );
    await topology.until("those that it dialled to be promoted", node, async () =>
      (await dialled()).every(({ trust }) => trust === "trusted"),
    );
    kept += (await dialled()).length;
  }
  // Each of the three links was dialled by an end of it, at least.
  expect(kept).toBeGreaterThanOrEqual(3);
  await topology.again(async () => {
    await isMesh();
    expect(await onions()).toEqual(before);
  });
}
