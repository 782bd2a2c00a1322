/**
 * discovery.mdns: nodes of the local network find each other by multicast DNS (RFC 6762, RFC 6763), with nothing configured. A socket for each
 * interface and family, which says that interface's addresses alone. What is heard is a hint, whoever said it: the handshake proves.
 */
import { definePlugin, type Plugin, type PluginContext, type Timer } from "@godwit/sdk";
import { z } from "zod/mini";
import { Heard } from "./heard.ts";
import { INTERFACES_MAX, type Place, planPlaces } from "./interfaces.ts";
import { MDNS_PORT, Port } from "./port.ts";
import { type Announcement, planAnnouncement } from "./records.ts";

/** Before a socket that failed is opened anew. */
const RETRY_MS = 5_000;

const config = z.strictObject({
  /** Names of interfaces; by default all that have neighbours. */
  interfaces: z.optional(
    z
      .array(
        z
          .string()
          .check(z.regex(/^[^\s/]{1,15}$/, { error: 'expected the name of an interface like "eth0"' })),
      )
      .check(z.minLength(1), z.maxLength(INTERFACES_MAX)),
  ),
  /** False: finds others and is found by none. */
  announce: z._default(z.boolean(), true),
});

type Config = z.output<typeof config>;

/** `port` for tests: 5353 is everybody's. */
export const createMdns = (port = MDNS_PORT): Plugin =>
  definePlugin({
    id: "mdns",
    namespace: "discovery",
    sdk: "^0.1.0",
    permissions: ["net.udp"],
    config,
    start: (ctx, options) => void new Mdns(ctx, options, port),
  });

export default createMdns();

/** One socket and what it was told to say. */
interface Speaking {
  readonly port: Port;
  place: Place;
  announcement: Announcement | undefined;
}

class Mdns {
  readonly #ctx: PluginContext;
  readonly #options: Config;
  readonly #port: number;
  readonly #heard: Heard;
  /** By interface, family and how the group is joined. */
  readonly #speaking = new Map<string, Speaking>();
  /** Why a socket does not work, and when it is tried again. */
  readonly #troubles = new Map<string, { readonly reason: string; readonly retry: Timer }>();
  readonly #dropped;
  readonly #sockets;
  #told = "";

  constructor(ctx: PluginContext, options: Config, port: number) {
    this.#ctx = ctx;
    this.#options = options;
    this.#port = port;
    this.#heard = new Heard(ctx);
    this.#dropped = ctx.counter("dropped", "datagrams, and instances in them, not taken", ["reason"]);
    this.#sockets = ctx.gauge("sockets", "sockets of multicast DNS, one for each interface and family");
    const follow = () => this.#follow();
    ctx.network.onChange(follow);
    ctx.self.onChange(follow);
    ctx.own(async () => {
      for (const { retry } of this.#troubles.values()) retry.cancel();
      await Promise.all([...this.#speaking.keys()].map((key) => this.#close(key)));
    });
    this.#follow();
  }

  /** The interfaces, their addresses or the node's sockets may be others. */
  #follow(): void {
    const { network, signal } = this.#ctx;
    if (signal.aborted) return;
    const planned = planPlaces(network.addresses(), this.#options.interfaces);
    const places = new Map(planned.map((place) => [nameOf(place), place]));
    for (const key of [...this.#speaking.keys()]) if (!places.has(key)) void this.#close(key);
    for (const [key, { retry }] of this.#troubles) {
      if (places.has(key)) continue;
      retry.cancel();
      this.#troubles.delete(key);
    }
    for (const [key, place] of places) {
      if (!this.#speaking.has(key) && !this.#troubles.has(key)) this.#open(key, place);
      this.#announce(key, place);
    }
    this.#report();
  }

  #open(key: string, place: Place): void {
    const current = () => this.#speaking.get(key)?.place ?? place;
    try {
      const port = new Port({
        ctx: this.#ctx,
        port: this.#port,
        place: current,
        known: () => this.#heard.known(place),
        heard: (sender, instance) => {
          const outcome = this.#heard.hear(current(), sender, instance);
          if (outcome !== "heard" && outcome !== "self") this.#dropped.add(1, { reason: outcome });
        },
        gone: (sender, instance) => this.#heard.bye(place, sender, instance),
        dropped: (reason) => this.#dropped.add(1, { reason }),
        failed: (error) => this.#fail(key, error),
      });
      this.#speaking.set(key, { place, announcement: undefined, port });
      this.#sockets.set(this.#speaking.size);
    } catch (error) {
      // No descriptor is left, for instance.
      this.#fail(key, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #announce(key: string, place: Place): void {
    const speaking = this.#speaking.get(key);
    if (speaking === undefined) return;
    speaking.place = place;
    const { self } = this.#ctx;
    const next = this.#options.announce
      ? planAnnouncement(self, self.listening(), place.addresses)
      : undefined;
    if (Bun.deepEquals(next, speaking.announcement)) return;
    speaking.announcement = next;
    speaking.port.announce(next);
  }

  /** Resolves when it has said goodbye. */
  async #close(key: string): Promise<void> {
    const speaking = this.#speaking.get(key);
    if (speaking === undefined) return;
    this.#speaking.delete(key);
    this.#heard.forgetPlace(speaking.place);
    this.#sockets.set(this.#speaking.size);
    await speaking.port.close();
  }

  #fail(key: string, { message }: Error): void {
    if (this.#troubles.has(key) || this.#ctx.signal.aborted) return;
    void this.#close(key);
    const retry = this.#ctx.clock.after(RETRY_MS, () => {
      this.#troubles.delete(key);
      this.#follow();
    });
    this.#troubles.set(key, { reason: message, retry });
    this.#report();
  }

  #report(): void {
    const failed = [...this.#troubles].map(
      ([key, trouble]) => `${key.replace(/ .*/, "")}: ${trouble.reason}`,
    );
    const { interfaces } = this.#options;
    const there = new Set(this.#ctx.network.addresses().map((address) => address.interface));
    const missing = (interfaces ?? []).filter((name) => !there.has(name));
    const reason = [
      ...failed,
      ...missing.map((name) => `${name} is not there, or has no address`),
      ...(interfaces === undefined && this.#speaking.size === 0 && failed.length === 0
        ? ["no interface has neighbours"]
        : []),
    ].join("; ");
    if (reason === this.#told) return;
    this.#told = reason;
    if (reason === "") return this.#ctx.health({ state: "running" });
    // A machine without a cable is no fault of its own, and an operator who named several may have pulled one.
    const isTrouble = failed.length > 0 || (missing.length > 0 && this.#speaking.size === 0);
    if (isTrouble) this.#ctx.log.warn("multicast DNS does not work", { reason });
    this.#ctx.health({ state: isTrouble ? "degraded" : "running", reason });
  }
}

const nameOf = (place: Place): string => `${place.interface} ${place.family} ${place.membership}`;
