/** A real yggdrasil on a host of a lab, with a configuration of its own. Ends with `stop`; `start` after it is a restart. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { whyNoNetLab } from "../../scripts/netlab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";

export const PEERING_PORT = 9_001;

/** Why there can be none here; undefined where there can. */
export const whyNoYggdrasil = (): string | undefined =>
  whyNoNetLab() ??
  ["yggdrasil", "socat"]
    .map((program) => (Bun.which(program) === null ? `${program} is not installed` : undefined))
    .find((reason) => reason !== undefined);

interface Answer<T> {
  readonly status: string;
  readonly error: string;
  readonly response: T;
}

export class YggdrasilDaemon {
  /** As `AdminListen` and `admin` have it. */
  readonly admin: string;
  readonly host: NetHost;
  readonly #config: string;
  #child: Subprocess | undefined;

  constructor(folder: string, host: NetHost) {
    this.host = host;
    this.admin = `unix://${folder}/${host.name}.sock`;
    this.#config = join(folder, `${host.name}.json`);
  }

  /** A fresh key. Answers the address that it gives. */
  async configure(more: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const generated = (await Bun.$`yggdrasil -genconf -json`.json()) as Record<string, unknown>;
    const own = { AdminListen: this.admin, IfName: "ygg0", Listen: [`tcp://0.0.0.0:${PEERING_PORT}`] };
    writeFileSync(this.#config, "", { mode: 0o600 });
    chmodSync(this.#config, 0o600);
    writeFileSync(this.#config, JSON.stringify({ ...generated, ...own, MulticastInterfaces: [], ...more }));
    return (await Bun.$`yggdrasil -useconffile ${this.#config} -address`.text()).trim();
  }

  start(): void {
    this.#child = Bun.spawn([...this.host.prefix, "yggdrasil", "-useconffile", this.#config], {
      stdout: "ignore",
      stderr: "ignore",
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#child?.kill(signal);
    await this.#child?.exited;
    this.#child = undefined;
  }

  /** What is answered to one request, by way of socat and not by our own client. */
  async ask<T>(request: string): Promise<T> {
    return (await this.#call<T>(request)).response;
  }

  /** Whether it has that peer, connected or not: it refuses to be told of one twice. One that it had not, it has then. */
  async knows(uri: string): Promise<boolean> {
    const { status, error } = await this.#call("addpeer", { uri });
    if (status === "error" && !/already/.test(error)) throw new Error(error);
    return status === "error";
  }

  async #call<T>(request: string, args: object = {}): Promise<Answer<T>> {
    const path = this.admin.replace("unix://", "");
    const child = Bun.spawn(["socat", "-t", "3", "-", `UNIX-CONNECT:${path}`], {
      stdin: new TextEncoder().encode(JSON.stringify({ request, arguments: args })),
      stdout: "pipe",
      stderr: "ignore",
    });
    return (await new Response(child.stdout).json()) as Answer<T>;
  }

  /** Where its neighbours are reached. */
  async peers(): Promise<string[]> {
    return (await this.ask<{ peers: { remote: string }[] }>("getpeers")).peers.map(({ remote }) => remote);
  }
}
