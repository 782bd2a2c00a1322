/**
 * udp-multicast: links over one IPv4 multicast group, for a network where nobody knows an address: every station announces
 * itself, and hints at whom it hears. Never trusts what it hears: announcements are hints, and the link proves who is there.
 */
import { createSocket, type Socket } from "node:dgram";
import { isIPv4 } from "node:net";
import { definePlugin, GodwitError, type Pipe, type PluginContext, z } from "@godwit/sdk";
import { GroupPipe } from "./pipe.ts";
import { decode, encodeAnnouncement, encodeData, type Heard, STATION_BYTES } from "./wire.ts";

const SCHEME = "mcast";
const ANNOUNCE_MS = 5_000;
/** A station that was not heard for so long is forgotten. */
const HINT_MS = 20_000;
const PIPES_MAX = 256;
const PIPES_PER_STATION_MAX = 8;
/** Set in the first byte of what only an open link sends: it never opens a pipe. */
const RECORD_FLAG = 0x80;

const config = z.strictObject({
  /** Of the block that an organisation may use as it likes (RFC 2365). */
  group: z.ipv4().startsWith("239.").default("239.192.48.60"),
  port: z.int().min(1).max(65_535).default(4863),
  /** Name of an interface, or an IPv4 address of one; the system chooses where none is given. */
  interface: z.string().min(1).max(15).optional(),
});
type Config = z.output<typeof config>;

export default definePlugin({
  id: "udp-multicast",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.udp"],
  config,
  async start(ctx, options) {
    const group = await Group.join(ctx, options);
    ctx.own(() => group.leave());
    ctx.transport.register({ schemes: [SCHEME], dial: (endpoint, signal) => group.dial(endpoint, signal) });
    ctx.transport.listening([group.endpointOf(group.station)]);
    let timer = ctx.clock.after(0, function announce() {
      group.announce();
      timer = ctx.clock.after(ANNOUNCE_MS, announce);
    });
    ctx.own(() => timer.cancel());
  },
});

class Group {
  readonly station: string;
  readonly #ctx: PluginContext;
  readonly #options: Config;
  readonly #socket: Socket;
  readonly #pipes = new Map<string, GroupPipe>();
  readonly #dropped;

  private constructor(ctx: PluginContext, options: Config, socket: Socket) {
    this.#ctx = ctx;
    this.#options = options;
    this.#socket = socket;
    this.station = Buffer.from(ctx.random.bytes(STATION_BYTES)).toString("hex");
    this.#dropped = ctx.counter("dropped", "datagrams not taken or not sent", ["reason"]);
    socket.on("message", (datagram) => this.#hear(datagram));
    socket.on("error", (error) => ctx.health({ state: "degraded", reason: error.message }));
  }

  static async join(ctx: PluginContext, options: Config): Promise<Group> {
    const own = addressOf(ctx, options.interface);
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once("error", reject);
        socket.bind({ port: options.port, address: options.group }, () => {
          socket.off("error", reject);
          resolve();
        });
      });
      socket.addMembership(options.group, own);
      if (own !== undefined) socket.setMulticastInterface(own);
      // Its network and no other: a router passes on what has more.
      socket.setMulticastTTL(1);
      socket.setMulticastLoopback(true);
    } catch (error) {
      socket.close();
      throw new GodwitError(
        "GODWIT_LISTEN_FAILED",
        `cannot join ${options.group}:${options.port}: ${String(error)}`,
        {
          kind: "transport",
          retry: "later",
          cause: error,
        },
      );
    }
    return new Group(ctx, options, socket);
  }

  endpointOf(station: string): string {
    return `${SCHEME}://${this.#options.group}:${this.#options.port}/${station}`;
  }

  announce(): void {
    this.#send(encodeAnnouncement(this.station));
  }

  async dial(endpoint: string, signal: AbortSignal): Promise<Pipe> {
    const station = /^[0-9a-f]{16}$/.exec(endpoint.slice(this.endpointOf("").length))?.[0];
    if (station === undefined || endpoint !== this.endpointOf(station))
      throw new GodwitError(
        "GODWIT_ENDPOINT_INVALID",
        `"${endpoint}" is no station of ${this.endpointOf("")}`,
        {
          kind: "config",
        },
      );
    signal.throwIfAborted();
    const connection = this.#ctx.random.below(2 ** 32);
    const pipe = this.#open(station, connection, "outbound");
    if (pipe === undefined)
      throw new GodwitError("GODWIT_DIAL_FAILED", "too many links over this group", { kind: "transport" });
    return pipe;
  }

  leave(): void {
    for (const pipe of [...this.#pipes.values()]) pipe.close();
    this.#socket.close();
  }

  #hear(datagram: Uint8Array): void {
    const heard = decode(datagram);
    if (heard === undefined) return this.#dropped.add(1, { reason: "malformed" });
    if (heard.from === this.station) return;
    if (heard.kind === "announcement")
      this.#ctx.discovery.hint({ endpoint: this.endpointOf(heard.from), lifetimeMs: HINT_MS });
    else if (heard.to === this.station) this.#take(heard);
  }

  #take({ from, connection, bytes }: Extract<Heard, { kind: "data" }>): void {
    let pipe = this.#pipes.get(keyOf(from, connection));
    if (pipe === undefined) {
      if ((bytes[0]! & RECORD_FLAG) !== 0) return this.#dropped.add(1, { reason: "unknown" });
      pipe = this.#open(from, connection, "inbound");
      if (pipe === undefined) return this.#dropped.add(1, { reason: "full" });
      this.#ctx.transport.accept(pipe);
    }
    pipe.receive(bytes);
  }

  #open(station: string, connection: number, direction: "inbound" | "outbound"): GroupPipe | undefined {
    const key = keyOf(station, connection);
    const ofStation = [...this.#pipes.keys()].filter((other) => other.startsWith(station)).length;
    if (this.#pipes.size >= PIPES_MAX || ofStation >= PIPES_PER_STATION_MAX) return undefined;
    const pipe = new GroupPipe({
      direction,
      local: this.endpointOf(this.station),
      remote: this.endpointOf(station),
      send: (bytes) => this.#send(encodeData(this.station, station, connection, bytes)),
      onClosed: () => this.#pipes.delete(key),
    });
    this.#pipes.set(key, pipe);
    return pipe;
  }

  #send(datagram: Uint8Array): void {
    const { group, port } = this.#options;
    this.#socket.send(datagram, port, group, (error) => {
      if (error !== null) this.#dropped.add(1, { reason: "send" });
    });
  }
}

const keyOf = (station: string, connection: number): string => `${station} ${connection}`;

/** An IPv4 address of the interface; undefined: the system's choice. Throws when the interface has none. */
function addressOf(ctx: PluginContext, name: string | undefined): string | undefined {
  if (name === undefined || isIPv4(name)) return name;
  const found = ctx.network.addresses().find((one) => one.interface === name && one.family === 4);
  if (found !== undefined) return found.address;
  throw new GodwitError("GODWIT_LISTEN_FAILED", `the interface ${name} has no IPv4 address yet`, {
    kind: "transport",
    retry: "later",
  });
}
