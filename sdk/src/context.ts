import type { Clock } from "./clock.ts";
import type { Engine } from "./engine.ts";
import type { EngineStreams } from "./engine-streams.ts";
import type { HealAction } from "./heal.ts";
import type { Log } from "./log.ts";
import type { Members } from "./members.ts";
import type { Medium } from "./medium.ts";
import type { Mesh } from "./mesh.ts";
import type { PluginNet } from "./net.ts";
import type { PluginSerial } from "./serial-door.ts";
import type { HostNetwork } from "./network.ts";
import type { Overlay } from "./overlay.ts";
import type { PluginHttp } from "./pages.ts";
import type { Peers } from "./peers.ts";
import type { Pipe } from "./pipe.ts";
import type { Random } from "./random.ts";
import type { Self } from "./self.ts";
import type { Services } from "./services.ts";
import type { PluginStorage } from "./storage.ts";

/** A rumour that a node may be reached at `endpoint`. Hints never prove anything; only the handshake does. */
export interface Hint {
  /** URL whose scheme some transport registered, e.g. `tcp://lon-b.example:4860`. */
  readonly endpoint: string;
  /** 52-character node id if the source claims to know it. */
  readonly nodeId?: string;
  /** Dial for ever and never forget: set for what an operator wrote down. */
  readonly permanent?: boolean;
  /** Milliseconds after which the hint is void; at most 24 h; no value: until withdrawn or the plugin stops. */
  readonly lifetimeMs?: number;
  /** Milliseconds after which a dial there, and the handshake behind it, is given up, from 1,000: for what is near. No value: as its transport says, which is the most. */
  readonly dialTimeoutMs?: number;
  /** Name of the interface on which it was heard: a link-local address is dialled only where this, or its zone, is one of this machine. */
  readonly interface?: string;
}

/** Of a dial to a place that another named: a record of a member, a hint. */
export interface DialTerms {
  /**
   * Why this address is not to be dialled; undefined: it may be. To be asked about each address after its name was resolved and before anything
   * is sent there. An endpoint is given up with GODWIT_ENDPOINT_REFUSED where nothing else is left of it.
   */
  refusal(address: string): string | undefined;
}

/** What a transport plugin registers. Everything it opened is closed by `stop` of the registration's owner. */
export interface TransportDriver {
  /** URL schemes it dials, without colon, e.g. `['tcp']`. */
  readonly schemes: readonly string[];
  /** How long a dial and the handshake behind it may take together, 1,000 ms to 30 days. Default 20,000. */
  readonly dialTimeoutMs?: number;
  /** The channel that all its pipes share, if it is one that everybody in earshot hears. */
  readonly medium?: Medium;
  /**
   * Opens one pipe to `endpoint`. Rejects with a GodwitError of kind `transport`, or with the signal's reason as soon as
   * it aborts. The pipe belongs to the caller. `expected`: id of the node that is looked for there, if one is; the handshake
   * proves it, so that a transport may use it and need not check it. `terms`: another named the endpoint, and a transport asks them about each
   * address that it connects to; none: the operator did.
   */
  dial(endpoint: string, signal: AbortSignal, expected?: string, terms?: DialTerms): Promise<Pipe>;
}

export interface PluginHealth {
  readonly state: "starting" | "running" | "degraded" | "down";
  readonly reason?: string;
}

export interface MetricCounter {
  add(value?: number, labels?: Readonly<Record<string, string>>): void;
}
export interface MetricGauge {
  set(value: number, labels?: Readonly<Record<string, string>>): void;
}

/**
 * What the host hands to `start`. Everything registered here is undone by the host when the plugin stops, fails to
 * start, or is reloaded; a plugin disposes only what it opened elsewhere, through `own`.
 */
export interface PluginContext {
  /** Name of this instance in the configuration: `lan` in `[transports.lan]`. */
  readonly instance: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly storage: PluginStorage;
  /** The machine's addresses. */
  readonly network: HostNetwork;
  /** This node. */
  readonly self: Self;
  /** The other nodes. */
  readonly peers: Peers;
  /** What plugins of this node offer to each other. */
  readonly services: Services;
  /** Sockets that the node opens: the way out for a plugin that is not trusted. */
  readonly net: PluginNet;
  /** Serial ports that the node opens. */
  readonly serial: PluginSerial;
  /**
   * 32 secret bytes, the caller's, made of the node's identity, this instance's name and `purpose` (1 to 64 characters): the same
   * for as long as the identity stays, and of no use for finding it or what another purpose got.
   */
  deriveSeed(purpose: string): Promise<Uint8Array>;
  /**
   * Absolute path of a folder of this instance alone, mode 0700, made at the first call: for programs that want files.
   * It stays when the plugin stops. What fits into `storage` belongs there.
   */
  folder(): Promise<string>;
  /** Aborts when the plugin must stop. Pass it to whatever waits. */
  readonly signal: AbortSignal;
  /** Runs a background task until it settles or the signal aborts; a rejection fails the plugin. */
  spawn(name: string, task: (signal: AbortSignal) => Promise<void>): void;
  /**
   * `dispose` is called once at the plugin's end, in the reverse order of these calls, each after the one before has settled; after the end it
   * is called at once. What it throws is logged, and the others are called all the same. All of a plugin's stop together has 5 s, then the node goes on without it.
   */
  own(dispose: () => void | Promise<void>): void;
  /** Reports state; the host shows it in `/mesh/status`, `/health` and metrics. `start` returning means running. */
  health(health: PluginHealth): void;
  /**
   * Answers what the operator asks of this instance (`POST /plugins/{id}/requests`); one handler, the last. What it resolves with is
   * sent as JSON, so it must hold no secret. It rejects with a GodwitError to refuse.
   */
  onRequest(handler: (request: string, input: unknown) => Promise<unknown>): void;
  /** A counter `godwit_plugin_<id>_<name>_total`. Label names are fixed at registration; values must be a small set. */
  counter(name: string, help: string, labels?: readonly string[]): MetricCounter;
  /** A gauge `godwit_plugin_<id>_<name>`. */
  gauge(name: string, help: string, labels?: readonly string[]): MetricGauge;
  readonly transport: {
    /**
     * Registers the dialling half. Several instances may have one scheme: the first that can dial does. They are asked in the
     * order in which they were started, until one has a pipe, all within the longest `dialTimeoutMs` of them: each has an even part of what is
     * left, at most its own, the last all the rest. Only a dial that is given up ends that.
     */
    register(driver: TransportDriver): void;
    /**
     * For datagrams, whose sender is anybody: what to do with the first one of somebody unknown, before anything is kept for it. "open":
     * make a pipe, `accept` it and deliver the datagram; bytes: answer them to where it came from and keep nothing; undefined: drop it. `remote`
     * as the pipe would show it. Borrowed. To a plugin in a process of its own always "open": the node judges then what the pipe brings.
     */
    screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined;
    /** Hands an accepted pipe to the node, which owns it from here. */
    accept(pipe: Pipe): void;
    /**
     * Publishes the endpoints on which this instance is really reachable (replaces the previous list; may be empty). `sockets`: the same as
     * they are bound, wildcards and link-local addresses included, such as `tcp://[::]:4860`: `Self.listening` shows them to those that tell
     * the local network of this node. None: it hears of nothing here.
     */
    listening(endpoints: readonly string[], sockets?: readonly string[]): void;
    /** What `/mesh/peers` and `/health` show of the network that carries this transport; undefined: it is not there. */
    overlay(overlay: Overlay | undefined): void;
  };
  readonly discovery: {
    /**
     * Adds or refreshes a hint of this instance. Same endpoint: replaced. At most 4,096 live hints per instance, of endpoints of at most 200
     * characters: one beyond is dropped, counted in `godwit_hints_dropped_total` and told in the log; it may be given again when others have
     * ended. Throws GODWIT_ID_INVALID for a `nodeId` that is none; nothing is added then.
     */
    hint(hint: Hint): void;
    withdraw(endpoint: string): void;
  };
}

/** What a plugin of namespace `service` gets: the mesh as well. Others move bytes or hints and never see a message. */
export interface ServiceContext extends PluginContext {
  readonly mesh: Mesh;
  /** What it shows and takes over HTTP. */
  readonly http: PluginHttp;
}

/** What a plugin of namespace `engine` gets as well. */
export interface EngineContext extends PluginContext {
  readonly engine: {
    /** One of each instance. Throws GODWIT_ENGINE_INVALID where its methods do not go with its guarantee. */
    register(engine: Engine): void;
  };
  /** The nodes of the mesh, and what is concluded of each. */
  readonly members: Members;
  /** To its like at other nodes. */
  readonly streams: EngineStreams;
}

/** What a plugin of namespace `heal-action` gets as well. */
export interface HealContext extends PluginContext {
  readonly heal: {
    /** At most 16 of each instance. Throws GODWIT_HEAL_INVALID for a name that is none or is taken. */
    register(action: HealAction): void;
  };
}
