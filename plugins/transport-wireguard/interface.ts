/**
 * The interface: made, adopted when it is ours already, given its addresses and routes, watched, and removed at the end. The kernel's
 * where there is one, else that of a `wireguard-go` which lives and dies with the node. Never touches an interface that it cannot
 * prove to be its own: by its alias, which says so, and by its key.
 */
import type { Clock, Log, Random } from "@godwit/sdk";
import { hasErrno, type LinkFacts, LinkFlag, Rtnetlink } from "@godwit/sdk/netlink";
import { Daemon, pause } from "@godwit/sdk/process";
import type { WgDoor } from "./device.ts";
import { KernelDoor } from "./kernel.ts";
import type { Secret } from "@godwit/sdk/secret";
import { SOCKET_FOLDER, socketPathOf, UapiDoor } from "./uapi.ts";

/** Begins the alias of every interface of ours: the node does not offer such addresses to others. */
export const ALIAS_PREFIX = "godwit overlay ";
const LOOK_MS = 3_000;
const RETRY_MS = 3_000;
/** The TUN device of a program that has just ended goes a moment later. */
const GONE_MS = 2_000;

export interface Placement {
  /** 16 or 4 bytes each: the node's own addresses. */
  readonly addresses: readonly Uint8Array[];
  /** What lies behind the interface. */
  readonly networks: readonly { readonly destination: Uint8Array; readonly prefixLength: number }[];
}

export interface InterfaceOptions {
  readonly name: string;
  /** Of this node and instance alone. */
  readonly owner: string;
  readonly mode: "auto" | "kernel" | "userspace";
  readonly program: string;
  readonly folder: string;
  readonly mtu: number;
  readonly port: number;
  /** Base64. */
  readonly publicKey: () => string;
  readonly secret: () => Secret;
  readonly placement: () => Placement;
}

export interface InterfaceDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** There it is, with its key, addresses and routes. */
  onUp(door: WgDoor): void;
  /** It is not there, or not usable. */
  onDown(reason: string): void;
}

export class WgInterface {
  readonly #options: InterfaceOptions;
  readonly #deps: InterfaceDeps;
  /** While it runs. */
  #kernel!: Rtnetlink;
  #door: WgDoor | undefined;
  #reason: string | undefined;

  constructor(options: InterfaceOptions, deps: InterfaceDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Keeps it there until the signal aborts, and has removed it when it resolves. Rejects where there is no netlink. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    this.#kernel = new Rtnetlink(clock);
    try {
      while (!signal.aborted) {
        try {
          if (await this.#openKernel()) await this.#watchKernel(signal);
          else await this.#runUserspace(signal);
        } catch (error) {
          this.#down(reasonOf(error));
        }
        if (!signal.aborted) await pause(clock, RETRY_MS, signal);
      }
    } finally {
      await this.#remove();
      this.#kernel.close();
    }
  }

  /** After the placement changed. Rejects as the kernel refuses. */
  async replace(): Promise<void> {
    if (this.#door !== undefined) await this.#settle(this.#door);
  }

  get #alias(): string {
    return `${ALIAS_PREFIX}${this.#options.owner}`;
  }

  /** False: it is to be a program's. */
  async #openKernel(): Promise<boolean> {
    const { name, mode } = this.#options;
    if (mode === "userspace") return false;
    const found = await this.#kernel.linkNamed(name);
    if (found === undefined) {
      try {
        await this.#kernel.addLink({ name, kind: "wireguard" });
      } catch (error) {
        if (mode === "auto" && hasErrno(error, "EOPNOTSUPP")) return false;
        throw error;
      }
    } else if (found.kind !== "wireguard" && mode === "auto" && (await this.#isLeftover(found))) {
      return false;
    }
    const door = new KernelDoor(name, this.#deps.clock);
    try {
      if (found !== undefined) {
        const isOurs =
          found.kind === "wireguard" &&
          (found.alias === this.#alias || (await door.read()).publicKey === this.#options.publicKey());
        if (!isOurs) throw foreign(name);
        this.#deps.log.info("interface adopted", { interface: name });
      }
      await this.#up(door);
    } catch (error) {
      door.close();
      throw error;
    }
    return true;
  }

  async #watchKernel(signal: AbortSignal): Promise<void> {
    const door = this.#door!;
    while (!signal.aborted) {
      await pause(this.#deps.clock, LOOK_MS, signal);
      const link = await this.#kernel.linkNamed(this.#options.name);
      if (link === undefined && !signal.aborted) {
        door.close();
        return this.#down("somebody removed the interface");
      }
      if (link !== undefined && (link.flags & LinkFlag.up) === 0 && !signal.aborted) await this.#settle(door);
    }
  }

  async #runUserspace(signal: AbortSignal): Promise<void> {
    const { name, program, folder } = this.#options;
    const door = new UapiDoor(socketPathOf(name), this.#deps.clock);
    const daemon = new Daemon(
      {
        name: "wireguard-go",
        command: [program, "-f", name],
        folder,
        env: { LOG_LEVEL: "error", WG_PROCESS_FOREGROUND: "1" },
        // It has a socket to remove.
        deathSignal: "SIGTERM",
        prepare: () => this.#demandFree(),
        isReady: async () => {
          await door.read();
          return (await this.#kernel.linkNamed(name)) !== undefined;
        },
      },
      {
        clock: this.#deps.clock,
        random: this.#deps.random,
        log: this.#deps.log,
        onState: (state) => {
          if (state.state === "waiting") this.#down(state.reason);
          else if (state.state === "ready")
            this.#up(door).catch((error: unknown) => {
              this.#down(reasonOf(error));
              daemon.restart(reasonOf(error));
            });
        },
      },
    );
    const running = daemon.run(signal);
    // Somebody may have taken it down, or an address away.
    while (!signal.aborted) {
      await pause(this.#deps.clock, LOOK_MS, signal);
      const link = await this.#kernel.linkNamed(name).catch(() => undefined);
      if (signal.aborted || this.#door === undefined || link === undefined) continue;
      if ((link.flags & LinkFlag.up) === 0) await this.#settle(door).catch(() => {});
    }
    await running;
  }

  /** A TUN device of our name from an earlier life, whose program is about to end. */
  async #isLeftover({ alias, kind }: LinkFacts): Promise<boolean> {
    return kind === "tun" && alias === this.#alias;
  }

  /** Before our program makes its interface: nobody else may have one of that name, here or in another network namespace. */
  async #demandFree(): Promise<void> {
    const { name } = this.#options;
    const { clock } = this.#deps;
    const door = new UapiDoor(socketPathOf(name), clock);
    const deadline = clock.monotonicMs() + GONE_MS;
    for (;;) {
      const link = await this.#kernel.linkNamed(name);
      const isAnswered = await door.read().then(
        () => true,
        () => false,
      );
      if (link === undefined && !isAnswered) return;
      if (clock.monotonicMs() >= deadline)
        throw link === undefined ? new Error(`${SOCKET_FOLDER}/${name}.sock is another's`) : foreign(name);
      await pause(clock, 100, new AbortController().signal);
    }
  }

  async #up(door: WgDoor): Promise<void> {
    await this.#settle(door);
    this.#door = door;
    this.#reason = undefined;
    this.#deps.onUp(door);
  }

  /** Key, port, MTU, addresses and routes, whatever of it is there already. */
  async #settle(door: WgDoor): Promise<void> {
    const { name, mtu, port, secret } = this.#options;
    const link = await this.#kernel.linkNamed(name);
    if (link === undefined) throw new Error(`the interface ${name} is gone`);
    const { index } = link;
    await this.#kernel.changeLink(index, { mtu, alias: this.#alias });
    const device = await door.read();
    await door.change({
      ...(device.publicKey === this.#options.publicKey() ? {} : { privateKey: secret() }),
      ...(device.listenPort === port || (port === 0 && device.listenPort !== 0) ? {} : { listenPort: port }),
    });
    await this.#kernel.changeLink(index, { isUp: true });
    const { addresses, networks } = this.#options.placement();
    for (const stale of await this.#kernel.addresses()) {
      const isWanted = addresses.some((address) => Buffer.compare(address, stale.address) === 0);
      const isLinkLocal = stale.family === 6 && stale.address[0] === 0xfe;
      if (stale.index === index && !isWanted && !isLinkLocal) await this.#kernel.deleteAddress(stale);
    }
    for (const address of addresses)
      await this.#kernel.addAddress({
        index,
        address,
        prefixLength: address.length * 8,
        skipsDuplicateCheck: true,
      });
    for (const network of networks) {
      const source = addresses.find(({ length }) => length === network.destination.length);
      await this.#kernel.addRoute({ ...network, index, ...(source === undefined ? {} : { source }) });
    }
  }

  #down(reason: string): void {
    this.#door = undefined;
    if (reason === this.#reason) return;
    this.#reason = reason;
    this.#deps.onDown(reason);
  }

  /** What is ours goes; a program took its own along. */
  async #remove(): Promise<void> {
    const link = await this.#kernel.linkNamed(this.#options.name).catch(() => undefined);
    if (link?.alias === this.#alias) await this.#kernel.deleteLink(link.index).catch(() => false);
    this.#door?.close();
    this.#door = undefined;
  }
}

const foreign = (name: string): Error =>
  new Error(`the interface ${name} is there already and is not this node's: set another name`);
const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
