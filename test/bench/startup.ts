/** Row 16: from exec to an API that answers and to the first encrypted peer. */
import { Lab } from "../../scripts/lab.ts";
import { GODWIT, quantile, type Bench } from "./bench.ts";
import { contest, type Contestant, type Turns } from "./contest.ts";
import { pingMs } from "./ip-probe.ts";
import { compileEmpty, startEmpty } from "./machine.ts";
import { Hosts } from "./namespaces.ts";
import { hasNeighbour, makeBabeld } from "./peers/babeld.ts";
import type { IpPeer, MakeMesh } from "./peers/peer.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import { askYggdrasil, makeYggdrasil } from "./peers/yggdrasil.ts";
import { follow, idOf } from "./probe.ts";
import { threadsCpuMs } from "./process.ts";

/** Nobody dials a node that is off: a dial that meets the next start would hide its own. */
const GONE_MS = 300;
/** Starts of an empty program in each turn. */
const EMPTIES = 5;
const PEER_MS = 60_000;

async function openGodwit(): Promise<Turns> {
  const lab = await Lab.create();
  const empty = compileEmpty(lab.dir);
  const there = await lab.add({ callsign: "UPP-B" });
  await there.start();
  let folders = 0;
  const run = async () => {
    const sample: Record<string, number[]> = {};
    const node = await lab.add({
      callsign: "UPP-A",
      folder: `upp-${folders++}`,
      peers: [there.endpoint],
    });
    for (const boot of ["First", "Again"] as const) {
      const up = Promise.withResolvers<{ id: string; atMs: number }>();
      const events = await follow(there, "peer", ({ type, data, atMs }) => {
        if (type === "peer.up") up.resolve({ id: String(data["id"]), atMs });
      });
      const startMs = performance.now();
      await node.start();
      sample[`api${boot}`] = [performance.now() - startMs];
      sample[`cpu${boot}`] = [threadsCpuMs(node.pid!)];
      const { id, atMs } = await up.promise;
      if (id !== (await idOf(node))) throw new Error("another peer came up");
      sample[`peer${boot}`] = [atMs - startMs];
      events.close();
      await node.kill("SIGTERM");
      await there.until(
        "the peer to be gone",
        async () => {
          const { peers } = await there.json<{ peers: { connected: number } }>("/mesh/status");
          return peers.connected === 0;
        },
        10_000,
      );
      await Bun.sleep(GONE_MS);
    }
    const empties: number[] = [];
    for (let i = 0; i < EMPTIES; i++) empties.push((await startEmpty(empty)).cpuMs);
    sample["empties"] = [sample["cpuAgain"]![0]! / quantile(empties, 0.5)];
    return sample;
  };
  return { run, close: () => lab.close() };
}

/** The first of two is started again and again while the second runs. */
const peer = (
  name: string,
  make: MakeMesh,
  isUp: (near: IpPeer, far: IpPeer) => Promise<boolean>,
): Contestant => ({
  name,
  needs: [name],
  async open() {
    const hosts = Hosts.line(2);
    await hosts.settle();
    const [near, far] = (await make(hosts)).peers as [IpPeer, IpPeer];
    await far.start();
    return {
      async run() {
        const startMs = performance.now();
        await near.start();
        const apiMs = performance.now() - startMs;
        const cpu = threadsCpuMs(near.daemon.pid);
        await near.daemon.until(
          "the peer",
          async () => ((await isUp(near, far)) ? true : undefined),
          PEER_MS,
          2,
        );
        const peerMs = performance.now() - startMs;
        await near.daemon.stop();
        await Bun.sleep(GONE_MS);
        return { apiAgain: [apiMs], cpuAgain: [cpu], peerAgain: [peerMs] };
      },
      close: () => hosts.close(),
    };
  },
});

const dirOf = ({ daemon }: IpPeer): string => daemon.logPath.slice(0, daemon.logPath.lastIndexOf("/"));

export const startup: Bench = contest({
  name: "startup",
  row: 16,
  how:
    "exec to API: Godwit's GET /health, Yggdrasil's admin socket, babeld's local socket, wireguard-go configured by wg, tried every 5 ms; " +
    "first peer: Godwit by the far end's event, Yggdrasil and babeld by their list of peers, wireguard-go by a ping through the tunnel. Peers keep their keys",
  figures: {
    cpuFirst: { what: "processor time until the API answers, first boot", unit: "ms" },
    empties: {
      what: "processor time until the API answers, again, in starts of an empty compiled Bun",
      unit: "x",
      goal: { of: "median", atMost: 12 },
    },
    cpuAgain: { what: "processor time until the API answers, again", unit: "ms", better: "less" },
    apiFirst: { what: "exec to API, first boot", unit: "ms", goal: { of: "p95", atMost: 120 } },
    apiAgain: { what: "exec to API, again", unit: "ms", goal: { of: "p95", atMost: 120 } },
    peerFirst: { what: "exec to first peer, first boot", unit: "ms", goal: { of: "p95", atMost: 250 } },
    peerAgain: { what: "exec to first peer, again", unit: "ms", goal: { of: "p95", atMost: 250 } },
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("babeld", makeBabeld, (near) => hasNeighbour(dirOf(near), 0)),
    peer("yggdrasil", makeYggdrasil, async (near) => {
      const { response } = await askYggdrasil(dirOf(near), 0, "getpeers");
      return (response.peers?.length ?? 0) > 0;
    }),
    peer("wireguard-go", makeWireguard, async (near, far) => {
      const [ms] = await pingMs(near.daemon.host, far.address, 1);
      return ms !== undefined;
    }),
  ],
});
