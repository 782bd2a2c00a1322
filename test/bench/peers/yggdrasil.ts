/** Yggdrasil: an encrypted IPv6 overlay through a TUN device; neighbours peer over TCP, both ends dial. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon } from "../namespaces.ts";
import { ask, START_MS, type MakeMesh } from "./peer.ts";

const PORT = 9_001;

const socketOf = (dir: string, index: number) => join(dir, `yggdrasil-${index}.sock`);

export const makeYggdrasil: MakeMesh = async (hosts) => {
  const peers = [];
  for (const host of hosts.all) {
    const at = join(hosts.dir, `yggdrasil-${host.index}`);
    const config = {
      ...(JSON.parse(await host.run(["yggdrasil", "-genconf", "-json"])) as Record<string, unknown>),
      Listen: host.ports.map(({ address }) => `tcp://${address}:${PORT}`),
      Peers: host.ports.map(({ farAddress }) => `tcp://${farAddress}:${PORT}`),
      AdminListen: `unix://${socketOf(hosts.dir, host.index)}`,
      MulticastInterfaces: [],
      IfName: "ygg0",
    };
    await writeFile(`${at}.json`, JSON.stringify(config));
    const address = (await host.run(["yggdrasil", "-useconffile", `${at}.json`, "-address"])).trim();
    const daemon = new Daemon(host, ["yggdrasil", "-useconffile", `${at}.json`], `${at}.log`);
    const start = async () => {
      Bun.spawnSync(["rm", "-f", socketOf(hosts.dir, host.index)]);
      daemon.start();
      await daemon.until("its admin socket", () => askYggdrasil(hosts.dir, host.index, "getself"), START_MS);
    };
    peers.push({ daemon, address, start });
  }
  return { hosts, peers };
};

interface Answer {
  readonly response: { readonly peers?: readonly unknown[] };
}

export async function askYggdrasil(dir: string, index: number, request: string): Promise<Answer> {
  const parse = (text: string): Answer | undefined => {
    try {
      return JSON.parse(text) as Answer;
    } catch {
      return undefined;
    }
  };
  const text = await ask(
    socketOf(dir, index),
    JSON.stringify({ request }),
    (sofar) => parse(sofar) !== undefined,
  );
  return parse(text)!;
}
