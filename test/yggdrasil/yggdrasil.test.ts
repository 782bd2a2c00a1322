/** Three namespaces in a line, each with a real daemon and a real node whose links run through the overlay alone. */
import { afterEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab, type NetHost } from "../../scripts/netlab.ts";

const why = whyNoNetLab() ?? (Bun.which("yggdrasil") === null ? "no yggdrasil: apt install it" : undefined);
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

class Daemon {
  readonly admin: string;
  readonly #host: NetHost;
  readonly #dir: string;
  #child: Subprocess | undefined;

  constructor(dir: string, host: NetHost) {
    this.#dir = dir;
    this.#host = host;
    this.admin = `${dir}/${host.name}.sock`;
    cleanups.push(() => this.stop());
  }

  get #config(): string {
    return join(this.#dir, `${this.#host.name}.json`);
  }

  /** A fresh key. Answers the address that it gives. */
  async configure(): Promise<string> {
    const generated = (await Bun.$`yggdrasil -genconf -json`.json()) as Record<string, unknown>;
    const own = { AdminListen: `unix://${this.admin}`, IfName: "ygg0", Listen: ["tcp://0.0.0.0:9001"] };
    await Bun.write(this.#config, JSON.stringify({ ...generated, ...own, MulticastInterfaces: [] }));
    return (await Bun.$`yggdrasil -useconffile ${this.#config} -address`.text()).trim();
  }

  start(): void {
    this.#child = Bun.spawn([...this.#host.prefix, "yggdrasil", "-useconffile", this.#config], {
      stdout: "ignore",
      stderr: "ignore",
    });
  }

  async stop(): Promise<void> {
    this.#child?.kill();
    await this.#child?.exited;
    this.#child = undefined;
  }
}

async function delivers(from: LabNode, to: LabNode): Promise<void> {
  const id = await from.send({ to: to.callsign, body: "over the overlay" });
  await from.until(
    `a message to ${to.callsign}`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    40_000,
  );
}

interface Status {
  readonly transports: readonly { name: string; state: string; listen: readonly string[] }[];
}
const overlayOf = async (node: LabNode) =>
  (await node.json<Status>("/mesh/status")).transports.find(({ name }) => name === "overlay")!;

test.skipIf(why !== undefined)(
  `nodes link through the overlay alone, over a daemon's restart and a new key${why === undefined ? "" : ` [skipped: ${why}]`}`,
  async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const net = NetLab.create();
    cleanups.push(() => net.close());
    const lab = await Lab.create();
    cleanups.push(() => lab.close());
    const hosts = [net.host("a"), net.host("b"), net.host("c")] as const;
    const [ab, bc] = [net.link(hosts[0], hosts[1]), net.link(hosts[1], hosts[2])];
    const uris = [ab.b.addresses.v4, undefined, bc.a.addresses.v4].map((host) =>
      host === undefined ? [] : [`tcp://${host}:9001`],
    );
    const daemons = hosts.map((host) => new Daemon(lab.dir, host));
    const addresses = await Promise.all(daemons.map((daemon) => daemon.configure()));
    for (const daemon of daemons) daemon.start();
    const nodes = await Promise.all(
      hosts.map((host, i) =>
        lab.add({
          callsign: ["AAA-A", "BBB-B", "CCC-C"][i]!,
          namespace: host.namespace,
          listen: [],
          peers: i === 1 ? [] : [`yggdrasil://[${addresses[1]}]:4862`],
          extra: `[transports.overlay]\ntype = "yggdrasil"\nadmin = "unix://${daemons[i]!.admin}"\npeers = ${JSON.stringify(uris[i])}\n`,
        }),
      ),
    );
    await Promise.all(nodes.map((node) => node.start()));
    const [a, b, c] = nodes as [LabNode, LabNode, LabNode];
    await delivers(a, c);
    expect(await overlayOf(b)).toMatchObject({
      state: "running",
      listen: [`yggdrasil://[${addresses[1]}]:4862`],
    });

    await daemons[0]!.stop();
    await a.until("the loss to show", async () => (await overlayOf(a)).state === "degraded", 10_000);
    const renewed = await daemons[0]!.configure();
    expect(renewed).not.toBe(addresses[0]!);
    daemons[0]!.start();
    await a.until(
      "the new address",
      async () => (await overlayOf(a)).listen[0] === `yggdrasil://[${renewed}]:4862`,
      15_000,
    );
    await delivers(c, a);
  },
  85_000,
);
