/**
 * How this node comes into the DHT and stays there: what the operator wrote down, who was there in an earlier life, and what linked neighbours say of
 * their own sockets. Owns when they are asked, and what is kept of the table for the next life.
 */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { type HostPort, parseHostPort, type PluginContext } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { Alarm } from "./alarm.ts";
import type { DhtClient } from "./client.ts";

const STORAGE_KEY = "nodes";
const SAVED_MAX = 32;
/** Addresses of one name, and of one neighbour, that are asked. */
const ADDRESSES_MAX = 4;
const NEIGHBOURS_MAX = 64;
/** While nobody answers: the first pause, each next one twice as long. */
const RETRY_MS = 2_000;
const RETRY_MAX_MS = 60_000;
/** How often a table that has nodes is looked after. */
const CARE_MS = 600_000;
/** Below it the table is filled again. */
const FEW = 8;

export class Contacts {
  readonly #ctx: PluginContext;
  readonly #client: DhtClient;
  readonly #bootstrap: readonly string[];
  readonly #refusal: (host: string) => string | undefined;
  readonly #neighbours = new BoundedMap<string, readonly HostPort[]>({
    name: "sockets of neighbours",
    max: NEIGHBOURS_MAX,
  });
  readonly #alarm: Alarm;
  #saved: readonly HostPort[] = [];
  #savedText = "";
  #failed: string | undefined;

  constructor(
    ctx: PluginContext,
    client: DhtClient,
    bootstrap: readonly string[],
    refusal: (host: string) => string | undefined,
  ) {
    this.#ctx = ctx;
    this.#client = client;
    this.#bootstrap = bootstrap;
    this.#refusal = refusal;
    this.#alarm = new Alarm(ctx.clock);
  }

  /** Names of `bootstrap` that no address was found for. */
  get failed(): string | undefined {
    return this.#failed;
  }

  /** A linked neighbour has its socket at `port` of one of the places where its record says it is. */
  addNeighbour(id: string, endpoints: readonly string[], port: number): void {
    const hosts = new Set(
      endpoints.flatMap((endpoint) => {
        const host = hostOf(endpoint);
        return host === undefined || this.#refusal(host) !== undefined ? [] : [host];
      }),
    );
    const places = [...hosts].slice(0, ADDRESSES_MAX).map((host) => ({ host, port }));
    if (places.length === 0) return;
    this.#neighbours.renew(id, places);
    if (this.#client.nodeCount < FEW) for (const { host } of places) this.#client.meet(host, port);
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#saved = await this.#load();
    let retryMs = RETRY_MS;
    while (!signal.aborted) {
      if (this.#client.nodeCount === 0) {
        await this.#ask();
        await this.#alarm.wait(retryMs, signal);
        retryMs = Math.min(2 * retryMs, RETRY_MAX_MS);
        continue;
      }
      retryMs = RETRY_MS;
      this.#client.sweep();
      if (this.#client.nodeCount < FEW) {
        // Two halves of one mesh that met nobody of each other yet share what the operator wrote down.
        await this.#ask();
        await this.#client.populate();
      }
      if (signal.aborted) return;
      await this.#save();
      await this.#alarm.wait(CARE_MS, signal);
    }
  }

  /** The table is no longer empty, or other sockets are open than before. */
  wake(): void {
    this.#alarm.ring();
  }

  async #ask(): Promise<void> {
    const places = [...this.#saved, ...[...this.#neighbours.values()].flat()];
    this.#failed = undefined;
    for (const text of this.#bootstrap) {
      const { host, port } = parseHostPort(text);
      const addresses = await addressesOf(host);
      if (addresses.length === 0) this.#failed = host;
      places.push(...addresses.map((address) => ({ host: address, port })));
    }
    if (this.#ctx.signal.aborted) return;
    for (const { host, port } of places) this.#client.meet(host, port);
  }

  async #load(): Promise<HostPort[]> {
    const bytes = await this.#ctx.storage.get(STORAGE_KEY).catch(() => undefined);
    const text = bytes === undefined ? "" : new TextDecoder().decode(bytes);
    this.#savedText = text;
    return text.split("\n").flatMap((line) => {
      try {
        const place = parseHostPort(line);
        return this.#refusal(place.host) === undefined ? [place] : [];
      } catch {
        return [];
      }
    });
  }

  async #save(): Promise<void> {
    const text = this.#client.nodes
      .slice(0, SAVED_MAX)
      .map(({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`))
      .sort()
      .join("\n");
    if (text === this.#savedText || text === "") return;
    this.#savedText = text;
    await this.#ctx.storage.set(STORAGE_KEY, new TextEncoder().encode(text)).catch((error: Error) => {
      this.#ctx.log.debug("nodes of the DHT not kept", { error: error.message });
    });
  }
}

async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host.replace(/%.*$/, "")) !== 0) return [host];
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.slice(0, ADDRESSES_MAX).map(({ address }) => address);
}

/** The address in an endpoint that has one and no name. */
function hostOf(endpoint: string): string | undefined {
  const match = /^[a-z][a-z0-9+.-]*:\/\/(?:\[([0-9a-fA-F:.]+)\]|([\d.]+)):\d{1,5}(?:\/|$)/.exec(endpoint);
  const host = match?.[1] ?? match?.[2];
  return host === undefined || isIP(host) === 0 ? undefined : host;
}
