/** babeld: a routing daemon; the kernel forwards, nothing is encrypted. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Daemon } from "../namespaces.ts";
import { ask, START_MS, type MakeMesh } from "./peer.ts";

/** Every host announces an address of its own; hello intervals and everything else as babeld has them by default. */
export const makeBabeld: MakeMesh = async (hosts) => {
  const peers = [];
  for (const host of hosts.all) {
    const address = `10.99.0.${host.index + 1}`;
    const at = join(hosts.dir, `babeld-${host.index}`);
    host.net.ip("addr", "add", `${address}/32`, "dev", "lo");
    await writeFile(
      `${at}.conf`,
      `local-path ${at}.sock\nredistribute local ip 10.99.0.0/16 allow\nredistribute local deny\ninstall ip 10.99.0.0/16 pref-src ${address}\n`,
    );
    const daemon = new Daemon(
      host,
      [
        "babeld",
        "-c",
        `${at}.conf`,
        "-S",
        `${at}.state`,
        "-I",
        `${at}.pid`,
        ...host.ports.map(({ net }) => net.device),
      ],
      `${at}.log`,
    );
    const start = async () => {
      // A killed one leaves both behind and the next would not start.
      Bun.spawnSync(["rm", "-f", `${at}.pid`, `${at}.sock`]);
      daemon.start();
      await daemon.until(
        "its socket",
        () => ask(`${at}.sock`, "", (text) => text.includes("ok\n")),
        START_MS,
      );
    };
    peers.push({ daemon, address, start });
  }
  return { hosts, peers };
};

/** Whether babeld has a neighbour that it can hear. */
export async function hasNeighbour(dir: string, index: number): Promise<boolean> {
  const isWhole = (text: string) => text.split("ok\n").length > 2;
  const text = await ask(join(dir, `babeld-${index}.sock`), "dump\n", isWhole);
  return /add neighbour .* reach (?!0000)/.test(text);
}
