/** A daemon that is none: an admin socket on loopback that answers in the words of 0.4 or 0.5. */
import { createServer, type Server } from "node:net";
import type { Dialect } from "./facts.ts";

export interface FakePeer {
  remote: string;
  address: string;
  up: boolean;
}

const COMMANDS = {
  "0.4": ["addpeer", "getdht", "getmulticastinterfaces", "getpaths", "getpeers", "getself", "getsessions"],
  "0.5": ["addPeer", "getMulticastInterfaces", "getPaths", "getPeers", "getSelf", "getSessions", "getTree"],
} as const;

export class FakeDaemon {
  readonly requests: { readonly request: string; readonly arguments: Readonly<Record<string, string>> }[] =
    [];
  /** Configured by its operator, or added: as the daemon keeps them, whole URIs. */
  readonly configured = new Set<string>();
  peers: FakePeer[] = [];
  address = "200:c0b:e66c:2422:7c27:2aed:be7b:a66a";
  hasTun = true;
  /** Instead of an answer to everything. */
  answer: string | undefined;
  readonly dialect: Dialect;
  port = 0;
  #server: Server | undefined;

  constructor(dialect: Dialect = "0.4") {
    this.dialect = dialect;
  }

  get admin(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  async start(): Promise<this> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes) => socket.end(this.answer ?? this.#respond(bytes.toString())));
    });
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: "127.0.0.1", port: this.port }, resolve);
    });
    this.port = (server.address() as { port: number }).port;
    return this;
  }

  /** Its port stays, so that `start` finds it again; what was added is gone with it. */
  async stop(): Promise<void> {
    await new Promise((resolve) => (this.#server === undefined ? resolve(0) : this.#server.close(resolve)));
    this.#server = undefined;
  }

  #respond(text: string): string {
    const asked = JSON.parse(text) as (typeof this.requests)[number];
    this.requests.push(asked);
    const { uri = "" } = asked.arguments;
    const say = (response: unknown) =>
      JSON.stringify(
        { status: "success", request: this.dialect === "0.4" ? null : asked, response },
        null,
        2,
      );
    const refuse = (error: string) =>
      JSON.stringify({ status: "error", error, request: null, response: null }, null, 2);
    switch (asked.request.toLowerCase()) {
      case "list":
        return say({ list: COMMANDS[this.dialect].map((command) => ({ command, description: "x" })) });
      case "getself":
        return say({
          build_name: "unknown",
          build_version: "unknown",
          key: "f9".repeat(32),
          address: this.address,
          subnet: "300:c0b:e66c:2422::/64",
          ...(this.dialect === "0.4" ? { coords: [] } : { routing_entries: 3 }),
        });
      case "gettun":
        return say(this.hasTun ? { enabled: true, name: "ygg0", mtu: 53_049 } : { enabled: false });
      case "getsessions":
        return say({ sessions: [] });
      case "getpeers":
        return say({ peers: this.#list() });
      case "addpeer":
        if (this.configured.has(uri))
          return refuse(this.dialect === "0.4" ? "peer already configured" : "peer is already configured");
        this.configured.add(uri);
        return say({});
      case "removepeer":
        return this.configured.delete(uri) ? say({}) : refuse("peer not configured");
      default:
        return refuse(`Unknown action '${asked.request}', try 'list' for help`);
    }
  }

  /** 0.4 lists those that are connected, 0.5 all. */
  #list(): unknown[] {
    const shown = { key: "f9".repeat(32), port: 1, priority: 0 };
    if (this.dialect === "0.4")
      return this.peers
        .filter(({ up }) => up)
        .map(({ remote, address }) => ({
          ...shown,
          address,
          remote,
          coords: [],
          bytes_recvd: 692,
          bytes_sent: 1_239,
          uptime: 2.026260753,
        }));
    return this.peers.map(({ remote, address, up }) => ({
      ...shown,
      remote,
      up,
      inbound: false,
      cost: 0,
      ...(up
        ? { address, bytes_recvd: 692, bytes_sent: 1_239, uptime: 2.5, latency: 1_500_000 }
        : { last_error: "connection refused", last_error_time: 7_000_000_000, key: "" }),
    }));
  }
}
