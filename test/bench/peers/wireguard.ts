/** wireguard-go: encrypted tunnels between neighbours; the kernel forwards, so every relay reads what it passes on. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon, type Hosts } from "../namespaces.ts";
import { START_MS, type IpMesh } from "./peer.ts";

const PORT = 51_820;

let tunnels = 0;

interface Keys {
  readonly path: string;
  readonly publicKey: string;
}

async function makeKeys(path: string): Promise<Keys> {
  const text = Bun.spawnSync(["wg", "genkey"]).stdout;
  await writeFile(path, text, { mode: 0o600 });
  return { path, publicKey: Bun.spawnSync(["wg", "pubkey"], { stdin: text }).stdout.toString().trim() };
}

/** A line of hosts; a tunnel to each neighbour, which leads to all hosts on its side. */
export async function makeWireguard(hosts: Hosts): Promise<IpMesh> {
  const keys = await Promise.all(hosts.all.map((host) => makeKeys(join(hosts.dir, `wg-${host.index}.key`))));
  const addresses = hosts.all.map(({ index }) => `10.88.0.${index + 1}`);
  const peers = hosts.all.map((host) => {
    // Its control sockets lie in one folder for all namespaces of a machine.
    const name = `gb${process.pid.toString(36)}${(tunnels++).toString(36)}`;
    const daemon = new Daemon(host, ["wireguard-go", "-f", name], join(hosts.dir, `wg-${host.index}.log`), {
      WG_PROCESS_FOREGROUND: "1",
      LOG_LEVEL: "error",
    });
    const start = async () => {
      await rm(`/var/run/wireguard/${name}.sock`, { force: true });
      daemon.start();
      const words = ["wg", "set", name, "listen-port", String(PORT), "private-key", keys[host.index]!.path];
      for (const side of [-1, 1]) {
        const next = hosts.all[host.index + side];
        if (next === undefined) continue;
        const behind = addresses.filter((_, at) => (at - host.index) * side > 0);
        words.push("peer", keys[next.index]!.publicKey);
        words.push("endpoint", `${hosts.port(host, next).farAddress}:${PORT}`);
        words.push("allowed-ips", behind.map((address) => `${address}/32`).join(","));
      }
      await daemon.until("its socket", () => host.run(words), START_MS);
      host.net.ip("addr", "add", `${addresses[host.index]}/24`, "dev", name);
      host.net.ip("link", "set", name, "up");
    };
    return { daemon, address: addresses[host.index]!, start };
  });
  return { hosts, peers };
}
