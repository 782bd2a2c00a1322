/** What lies between LON-B and NYC-C of the mixed mesh. One constant, so that another network can take its place. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LabNode } from "../../scripts/lab.ts";
import type { NetLink } from "../../scripts/netlab-parts.ts";
import type { Secret } from "./secrets.ts";

export interface Between {
  readonly name: string;
  /** Of its endpoints. */
  readonly scheme: string;
  whyNot(): string | undefined;
  /** Tables of the configuration of both ends. */
  configure(wire: NetLink): { readonly b: string; readonly c: string };
  /** What B is told to dial; C runs already. */
  peersOfB(wire: NetLink, c: LabNode): Promise<readonly string[]>;
  secretsOf(ends: readonly [LabNode, LabNode]): readonly Secret[];
  kill(wire: NetLink, ends: readonly [LabNode, LabNode]): Promise<void> | void;
  heal(wire: NetLink, ends: readonly [LabNode, LabNode]): Promise<void> | void;
}

export const udp: Between = {
  name: "UDP",
  scheme: "udp",
  whyNot: () => undefined,
  configure: ({ b }) => ({
    b: '[transports.between]\ntype = "udp"\nlisten = []\n',
    c: `[transports.between]\ntype = "udp"\nlisten = ["${b.addresses.v4}:4861"]\n`,
  }),
  peersOfB: async ({ b }) => [`udp://${b.addresses.v4}:4861`],
  secretsOf: () => [],
  kill: (wire) => wire.silence(),
  heal: (wire) => wire.heal(),
};

/** C learns B's key from its record, by way of the others, and so lets it in. */
export const wireguard: Between = {
  name: "WireGuard",
  scheme: "wg",
  whyNot: () => (Bun.which("wireguard-go") === null ? "wireguard-go is not installed" : undefined),
  configure: ({ a, b }) => {
    const table = (address: string | undefined) =>
      `[transports.between]\ntype = "wireguard"\nmode = "userspace"\nadvertise = ["${address}:51820"]\n`;
    return { b: table(a.addresses.v4), c: table(b.addresses.v4) };
  },
  async peersOfB(_, c) {
    interface Status {
      readonly node: { readonly id: string };
      readonly transports: readonly { readonly name: string; readonly listen: readonly string[] }[];
    }
    const status = () => c.json<Status>("/mesh/status");
    const listening = async () =>
      (await status()).transports.find(({ name }) => name === "between")?.listen[0];
    await c.until("its tunnel", async () => (await listening()) !== undefined, 20_000);
    return [`${await listening()}#${(await status()).node.id}`];
  },
  secretsOf: (ends) =>
    ends.map(({ callsign, stateDir }) => ({
      name: `${callsign}'s WireGuard key`,
      bytes: Buffer.from(
        readFileSync(join(stateDir, "plugin-files", "transport.between", "private.key"), "utf8").trim(),
        "base64",
      ),
    })),
  kill(wire, [b]) {
    // It is started again within a second, so its wire goes as well.
    wire.silence();
    for (const pid of childrenOf(b.pid!, "wireguard-go")) process.kill(pid, "SIGKILL");
  },
  heal: (wire) => wire.heal(),
};

function childrenOf(parent: number, name: string): number[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      return status.startsWith(`Name:\t${name}\n`) && status.includes(`\nPPid:\t${parent}\n`)
        ? Number(pid)
        : [];
    } catch {
      return [];
    }
  });
}

export const BETWEEN_B_AND_C: Between = wireguard;
