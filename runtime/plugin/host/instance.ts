/** What the host is given, what it keeps of each plugin that runs, and what it tells: the words around host.ts. */
import type {
  Clock,
  Hint,
  HostNetwork,
  Log,
  Medium,
  Overlay,
  Pipe,
  Plugin,
  PluginHealth,
  PluginNamespace,
  Random,
  Timer,
  TransportDriver,
} from "@godwit/sdk";
import type { Backoff, CrashBudget } from "../../kernel/backoff.ts";
import type { Metrics } from "../../kernel/metrics.ts";
import type { Scope } from "../../kernel/scope.ts";
import type { Store } from "../../store/types.ts";
import type { MembersBackend } from "./members-door.ts";
import type { MeshBackend } from "./mesh-door.ts";
import type { PagesReach } from "../pages/pages.ts";
import type { PeersBackend } from "./peers-door.ts";
import type { SelfBackend } from "./self-door.ts";
import type { DoorPolicy, EnginePolicy, NetPolicy, RegisterPolicy, SerialPolicy } from "../permissions.ts";
import type { StreamsBackend } from "./streams-door.ts";

/** Its manifest may name plugins that have to run before it. */
export interface RequiringPlugin extends Plugin {
  readonly requires?: readonly string[] | undefined;
}

/** One table of the configuration: `[transports.lan]` is namespace transport, name lan. */
export interface PluginInstance {
  readonly namespace: PluginNamespace;
  readonly name: string;
  readonly type: string;
  /** The plugin's own keys, not yet validated. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Undefined: what its origin implies. */
  readonly trust?: "trusted" | "contained" | "untrusted";
  /** What the operator grants of the plugin's permissions. */
  readonly grant?: readonly string[];
  /** Protections that the operator does without. */
  readonly acceptMissing?: readonly string[];
}

export interface HostEvents {
  screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined;
  pipe(instance: string, pipe: Pipe): void;
  /** A transport came whose pipes share a channel; answers what ends it. A node that has no mesh yet has no use for it. */
  medium?(medium: Medium, schemes: readonly string[]): () => void;
  /** The endpoints of all transports changed. */
  listening(): void;
  /** `isOperators`: what it names is what the operator wrote down or granted, or lies in its own medium; else a rumour, to be judged. */
  hint(source: string, hint: Hint, isOperators: boolean): boolean;
  withdraw(source: string, endpoint: string): void;
  withdrawAll(source: string): void;
  health(instance: RunningPlugin): void;
}

export interface RunningPlugin {
  readonly instance: PluginInstance;
  readonly health: PluginHealth;
  readonly endpoints: readonly string[];
  /** What the network that carries a transport says of itself. */
  readonly overlay: Overlay | undefined;
  /** What it asked for in this life and was not granted, in words; the first of it. */
  readonly refusals: readonly string[];
}

/** One life of an instance. */
export interface Running {
  readonly instance: PluginInstance;
  readonly scope: Scope;
  readonly supervision: Supervision;
  readonly startedAtMs: number;
  health: PluginHealth;
  endpoints: readonly string[];
  /** Behind them, as they are bound. */
  sockets: readonly string[];
  overlay: Overlay | undefined;
  readonly refusals: string[];
  driver: TransportDriver | undefined;
  onRequest: ((request: string, input: unknown) => Promise<unknown>) | undefined;
  /** Hints were dropped since the last one that was taken: said once. */
  hasTooManyHints: boolean;
}

/** What outlives a life. */
export interface Supervision {
  readonly backoff: Backoff;
  readonly budget: CrashBudget;
  restart: Timer | undefined;
}

/** The machine's addresses as the host sees them: who listened can stop. */
export interface WatchedNetwork extends Pick<HostNetwork, "addresses" | "refusal"> {
  /** Answers what ends it. */
  watch(fn: () => void): () => void;
}

export interface HostDeps {
  readonly plugins: readonly RequiringPlugin[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly events: HostEvents;
  readonly network: WatchedNetwork;
  /** What plugins get as `ctx.self`; a host without one runs none that asks for it. */
  readonly self?: SelfBackend;
  /** What plugins get as `ctx.peers`; a host without one runs none that asks for it. */
  readonly peers?: PeersBackend;
  /** What services get as `ctx.mesh`; a host without one runs none that asks for it. */
  readonly mesh?: MeshBackend;
  /** What engines get as `ctx.members` and `ctx.streams`; a host without it runs none that asks for them. */
  readonly engines?: { readonly members: MembersBackend; readonly streams: StreamsBackend };
  /** Where `ctx.storage` lies; a host without one runs none that asks for it. */
  readonly store?: Store;
  /** Where `ctx.folder` lies; a host without one runs none that asks for it. */
  readonly stateDir?: string;
  /** Answers what runs in its place, elsewhere; a host without it runs all in this thread. */
  isolate?(plugin: Plugin, instance: PluginInstance): Plugin;
  /** What the node may open for it; a host without it lets it have all. */
  netPolicy?(plugin: Plugin, instance: PluginInstance): NetPolicy;
  /** Which serial ports the node may open for it; a host without it lets it have all. */
  serialPolicy?(plugin: Plugin, instance: PluginInstance): SerialPolicy;
  /** What it may register; a host without it goes by the namespace and what the plugin asks for. */
  registerPolicy?(plugin: Plugin, instance: PluginInstance): RegisterPolicy;
  /** What it may do among the plugins; a host without it lets it do all. */
  doorPolicy?(plugin: Plugin, instance: PluginInstance): DoorPolicy;
  /** What an engine may of the mesh; a host without it lets it do all. */
  enginePolicy?(plugin: Plugin, instance: PluginInstance): EnginePolicy;
  /** Whether it may have pages; a host without it lets each have some, open to this machine. */
  pagesReach?(plugin: Plugin, instance: PluginInstance): PagesReach | undefined;
  /** 32 bytes of the node's identity for a label; a host without it runs none that asks for it. */
  deriveSeed?(label: string): Uint8Array;
}

export const sourceOf = (instance: PluginInstance): string => `${instance.namespace}.${instance.name}`;

export const findPlugin = <P extends Pick<Plugin, "id" | "namespace">>(
  plugins: readonly P[],
  namespace: PluginNamespace,
  type: string,
): P | undefined => plugins.find((plugin) => plugin.namespace === namespace && plugin.id === type);
