/**
 * Runs plugins in this process and gives each the context of the SDK. Everything a plugin registers is undone here
 * when it stops or fails, in reverse order; one that failed is started anew, after a pause that grows, because nobody may
 * be on site. Never knows what a plugin does; the node hears of pipes, endpoints, hints and health through `HostEvents`.
 * Built-in plugins come through the same door.
 */
import type {
  Clock,
  Hint,
  HostNetwork,
  Log,
  Overlay,
  Pipe,
  Plugin,
  PluginHealth,
  PluginNamespace,
  Random,
  Timer,
  TransportDriver,
} from "@godwit/sdk";
import { Backoff, CrashBudget } from "../kernel/backoff.ts";
import { asGodwitError, GodwitError, godwitError } from "../kernel/errors.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { Scope } from "../kernel/scope.ts";
import { SDK_VERSION } from "@godwit/sdk";
import type { Store } from "../store/types.ts";
import type { MeshBackend } from "./mesh-door.ts";
import type { PeersBackend } from "./peers-door.ts";
import { startWaves } from "./order.ts";
import type { NetPolicy } from "./permissions.ts";
import { createHostContext } from "./host-context.ts";
import { Offers } from "./offers.ts";

/** `start` must resolve within this. */
const START_DEADLINE_MS = 30_000;
/** What it owns must be disposed of within this; then it is left behind. */
const STOP_DEADLINE_MS = 5_000;
/** What a transport may ask for its dials. */
const DIAL_TIMEOUT_MS = { min: 1_000, max: 30 * 86_400_000 } as const;
/** Pauses before a failed plugin is started anew. */
const RESTART = { firstMs: 1_000, capMs: 60_000 } as const;
/** More failures than this within the window: it rests for the window, and `/health` says so. */
export const CRASHES_MAX = 5;
const CRASH_WINDOW_MS = 600_000;
/** A life this long makes the next failure a first one. */
const STABLE_MS = 300_000;
/** Kinds of errors that, where they advise never to try again, would come again. */
const FINAL_KINDS: ReadonlySet<string> = new Set(["config", "permission", "plugin"]);
/** Transports first, so that hints find someone to dial them; stopped in reverse. */
const startOrder: readonly PluginNamespace[] = ["transport", "engine", "heal-action", "service", "discovery"];

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
  pipe(instance: string, pipe: Pipe): void;
  /** The endpoints of all transports changed. */
  listening(): void;
  hint(source: string, hint: Hint): boolean;
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
}

/** One life of an instance. */
export interface Running {
  readonly instance: PluginInstance;
  readonly scope: Scope;
  readonly supervision: Supervision;
  readonly startedAtMs: number;
  health: PluginHealth;
  endpoints: readonly string[];
  overlay: Overlay | undefined;
  driver: TransportDriver | undefined;
  onRequest: ((request: string, input: unknown) => Promise<unknown>) | undefined;
  /** Hints were dropped since the last one that was taken: said once. */
  hasTooManyHints: boolean;
}

/** What outlives a life. */
interface Supervision {
  readonly backoff: Backoff;
  readonly budget: CrashBudget;
  restart: Timer | undefined;
}

/** The machine's addresses as the host sees them: who listened can stop. */
export interface WatchedNetwork extends Pick<HostNetwork, "addresses"> {
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
  /** What plugins get as `ctx.peers`; a host without one runs none that asks for it. */
  readonly peers?: PeersBackend;
  /** What services get as `ctx.mesh`; a host without one runs none that asks for it. */
  readonly mesh?: MeshBackend;
  /** Where `ctx.storage` lies; a host without one runs none that asks for it. */
  readonly store?: Store;
  /** Where `ctx.folder` lies; a host without one runs none that asks for it. */
  readonly stateDir?: string;
  /** Answers what runs in its place, elsewhere; a host without it runs all in this thread. */
  isolate?(plugin: Plugin, instance: PluginInstance): Plugin;
  /** What the node may open for it; a host without it lets it have all. */
  netPolicy?(plugin: Plugin, instance: PluginInstance): NetPolicy;
  /** 32 bytes of the node's identity for a label; a host without it runs none that asks for it. */
  deriveSeed?(label: string): Uint8Array;
}

export class PluginHost {
  readonly #deps: HostDeps;
  readonly #running: Running[] = [];
  /** Engines and heal actions of those that run. */
  readonly offers: Offers;
  readonly #restarts;
  readonly #hintsDropped;
  #isStopped = false;

  constructor(deps: HostDeps) {
    this.#deps = deps;
    this.offers = new Offers(deps.clock);
    this.#restarts = deps.metrics.counter("godwit_plugin_failures_total", "plugins that failed, by type", [
      "type",
    ]);
    this.#hintsDropped = deps.metrics.counter(
      "godwit_hints_dropped_total",
      "hints of discovery not taken: the source holds its bound, or the endpoint is too long",
    );
  }

  get running(): readonly RunningPlugin[] {
    return this.#running;
  }

  /** Every endpoint on which some transport is reachable. */
  get endpoints(): readonly string[] {
    return this.#running.flatMap((running) => running.endpoints);
  }

  /** Starts all; one that fails is marked down with its reason and the others go on. */
  async start(instances: readonly PluginInstance[]): Promise<void> {
    for (const namespace of startOrder) {
      const waves = startWaves(
        instances.filter((instance) => instance.namespace === namespace),
        ({ type }) => type,
        ({ type }) => findPlugin(this.#deps.plugins, namespace, type)?.requires ?? [],
      );
      await this.#startInOrder(waves);
    }
  }

  async #startInOrder(waves: readonly (readonly PluginInstance[])[]): Promise<void> {
    for (const wave of waves) await Promise.all(wave.map((instance) => this.#start(instance)));
  }

  /**
   * A transport whose code is another now: the new one starts beside the old, which goes when that has worked; its links
   * then come back over the new one. Where both cannot be, because both want one port, the old one goes first.
   */
  async replace(instance: PluginInstance): Promise<void> {
    const { namespace, name } = instance;
    const old = this.#running.find(
      (one) => one.instance.namespace === namespace && one.instance.name === name,
    );
    if (old === undefined || namespace !== "transport" || old.health.state === "down") {
      await this.remove(namespace, name);
      return await this.start([instance]);
    }
    const supervision = this.#supervise();
    await this.#start(instance, supervision);
    this.#running.splice(this.#running.indexOf(old), 1);
    old.supervision.restart?.cancel();
    await this.#stop(old);
    const fresh = this.#running.find((one) => one.supervision === supervision);
    if (fresh === undefined || fresh.health.state !== "down" || supervision.restart === undefined) return;
    supervision.restart.cancel();
    supervision.restart = undefined;
    await this.#start(instance, supervision);
  }

  /** Stops an instance for good; other plugins and their links stay. */
  async remove(namespace: PluginNamespace, name: string): Promise<void> {
    const at = this.#running.findIndex(
      ({ instance }) => instance.namespace === namespace && instance.name === name,
    );
    const [running] = at < 0 ? [] : this.#running.splice(at, 1);
    if (running === undefined) return;
    running.supervision.restart?.cancel();
    await this.#stop(running);
  }

  /** True when some transport claims the endpoint's scheme. */
  canDial(endpoint: string): boolean {
    return this.#driverFor(endpoint) !== undefined;
  }

  /** What the transport asks for its dials; undefined: the default. */
  dialTimeoutMs(endpoint: string): number | undefined {
    const wanted = this.#driverFor(endpoint)?.dialTimeoutMs;
    if (wanted === undefined) return undefined;
    return Math.min(DIAL_TIMEOUT_MS.max, Math.max(DIAL_TIMEOUT_MS.min, wanted));
  }

  dial(endpoint: string, signal: AbortSignal, expected?: string): Promise<Pipe> {
    const driver = this.#driverFor(endpoint);
    if (driver === undefined) {
      return Promise.reject(
        godwitError("GODWIT_ENDPOINT_INVALID", `no running transport dials ${endpoint}; configure one`),
      );
    }
    try {
      return driver.dial(endpoint, signal, expected);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** What the operator asks of a plugin; `name` where several of its instances run. Rejects as it does, or with GODWIT_NOT_FOUND. */
  async ask(type: string, name: string | undefined, request: string, input: unknown): Promise<unknown> {
    const found = this.#running.filter(
      ({ instance, onRequest }) =>
        instance.type === type && onRequest !== undefined && (name === undefined || instance.name === name),
    );
    if (found.length > 1)
      throw godwitError("GODWIT_REQUEST_INVALID", `several instances of ${type} run: name one of them`);
    const onRequest = found[0]?.scope.isClosed === false ? found[0].onRequest : undefined;
    if (onRequest === undefined)
      throw godwitError("GODWIT_NOT_FOUND", `no plugin ${type.slice(0, 40)} runs here that answers requests`);
    try {
      return (await onRequest(request, input)) ?? null;
    } catch (error) {
      // The plugin's own failure is not the node's.
      if (error instanceof GodwitError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw godwitError("GODWIT_PLUGIN_FAILED", `${type}: ${reason}`, error);
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { supervision } of this.#running) supervision.restart?.cancel();
    for (const running of this.#running.toReversed()) await this.#stop(running);
    this.#running.length = 0;
  }

  async #start(instance: PluginInstance, supervision = this.#supervise()): Promise<void> {
    const { log, events, clock } = this.#deps;
    const running: Running = {
      instance,
      supervision,
      startedAtMs: clock.monotonicMs(),
      scope: new Scope(`${instance.namespace}.${instance.name}`, {
        onFailure: (error, task) => this.#fail(running, `task ${task}: ${asGodwitError(error).message}`),
      }),
      health: { state: "starting" },
      endpoints: [],
      overlay: undefined,
      driver: undefined,
      onRequest: undefined,
      hasTooManyHints: false,
    };
    const earlier = this.#running.findIndex((other) => other.supervision === supervision);
    if (earlier < 0) this.#running.push(running);
    else this.#running[earlier] = running;
    const deadline = clock.after(START_DEADLINE_MS, () => this.#fail(running, "did not start within 30 s"));
    try {
      const { plugin, config } = await loadPlugin(this.#deps.plugins, instance);
      const placed = this.#deps.isolate?.(plugin, instance) ?? plugin;
      await placed.start(
        createHostContext(this.#deps, this.offers, running, plugin, {
          health: (health) => this.#setHealth(running, health),
          hintDropped: () => this.#hintsDropped.add(),
        }),
        config,
      );
      if (running.scope.isClosed) return; // failed or stopped meanwhile
      if (running.health.state === "starting") this.#setHealth(running, { state: "running" });
      log.info("plugin started", { namespace: instance.namespace, name: instance.name, type: instance.type });
      events.health(running);
    } catch (error) {
      const { kind, retry, message } = asGodwitError(error);
      this.#fail(running, message, retry === "never" && FINAL_KINDS.has(kind));
    } finally {
      deadline.cancel();
    }
  }

  #supervise(): Supervision {
    const { clock, random } = this.#deps;
    return {
      backoff: new Backoff(RESTART, random),
      budget: new CrashBudget(clock, CRASHES_MAX, CRASH_WINDOW_MS),
      restart: undefined,
    };
  }

  /** `isFinal`: starting it again would end the same way. */
  #fail(running: Running, reason: string, isFinal = false): void {
    if (running.scope.isClosed) return;
    const { instance, supervision } = running;
    const { clock, log } = this.#deps;
    this.#restarts.add(1, { type: instance.type });
    const stopping = this.#stop(running);
    let retryMs: number | undefined;
    if (!isFinal && !this.#isStopped) {
      if (clock.monotonicMs() - running.startedAtMs >= STABLE_MS) supervision.backoff.reset();
      retryMs = supervision.budget.spend() ? supervision.backoff.nextMs() : CRASH_WINDOW_MS;
      supervision.restart = clock.after(retryMs, () => {
        supervision.restart = undefined;
        // Its earlier life must be over, or two would hold one port.
        void stopping.then(async () => {
          if (this.#running.includes(running) && !this.#isStopped) await this.#start(instance, supervision);
        });
      });
    }
    const { name, type } = instance;
    log.error("plugin failed", {
      name,
      type,
      reason,
      ...(retryMs === undefined ? {} : { retry_ms: retryMs }),
    });
    this.#setHealth(running, { state: "down", reason });
  }

  async #stop(running: Running): Promise<void> {
    const { clock, log, events } = this.#deps;
    const { name } = running.instance;
    running.driver = undefined;
    running.overlay = undefined;
    const closing = running.scope.close().catch((error: unknown) => {
      log.warn("plugin stopped badly", { name, error: asGodwitError(error) });
    });
    events.withdrawAll(sourceOf(running.instance));
    // A plugin that does not come to an end must not keep the node from doing so.
    const late = Promise.withResolvers<void>();
    const deadline = clock.after(STOP_DEADLINE_MS, () => {
      log.error("plugin did not stop", { name, seconds: STOP_DEADLINE_MS / 1_000 });
      late.resolve();
    });
    await Promise.race([closing, late.promise]);
    deadline.cancel();
    if (running.endpoints.length > 0) {
      running.endpoints = [];
      this.#deps.events.listening();
    }
  }

  #setHealth(running: Running, health: PluginHealth): void {
    running.health = health;
    this.#deps.events.health(running);
  }

  #driverFor(endpoint: string): TransportDriver | undefined {
    const scheme = endpoint.slice(0, endpoint.indexOf("://"));
    return this.#running.find((running) => running.driver?.schemes.includes(scheme) === true)?.driver;
  }
}

export const sourceOf = (instance: PluginInstance): string => `${instance.namespace}.${instance.name}`;

export const findPlugin = <P extends Pick<Plugin, "id" | "namespace">>(
  plugins: readonly P[],
  namespace: PluginNamespace,
  type: string,
): P | undefined => plugins.find((plugin) => plugin.namespace === namespace && plugin.id === type);

/** What Standard Schema answers; `keys` is zod's list of unknown keys. */
export interface ValidationResult {
  readonly value?: unknown;
  readonly issues?: readonly {
    readonly message: string;
    readonly path?: readonly unknown[];
    readonly keys?: readonly string[];
  }[];
}

export async function validateOptions(plugin: Plugin, options: unknown): Promise<ValidationResult> {
  return (await plugin.config["~standard"].validate(options)) as ValidationResult;
}

/** Finds the plugin and validates its table. Throws GODWIT_CONFIG_INVALID naming each problem's key. */
async function loadPlugin(
  plugins: readonly Plugin[],
  instance: PluginInstance,
): Promise<{ plugin: Plugin; config: unknown }> {
  const plugin = findPlugin(plugins, instance.namespace, instance.type);
  if (plugin === undefined) {
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `there is no ${instance.namespace} of type "${instance.type}"`,
    );
  }
  if (!Bun.semver.satisfies(SDK_VERSION, plugin.sdk)) {
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `${plugin.namespace} "${plugin.id}" needs SDK ${plugin.sdk}, this Godwit has ${SDK_VERSION}: take a version of the plugin that fits`,
    );
  }
  const result = await validateOptions(plugin, instance.options);
  if (result.issues === undefined) return { plugin, config: result.value };
  const problems = result.issues.map(
    ({ message, path, keys }) =>
      `${(path ?? []).map(keyOf).join(".") || "table"}: ${keys === undefined ? message : `unknown ${keys.join(", ")}`}`,
  );
  throw godwitError("GODWIT_CONFIG_INVALID", problems.join("; "));
}

/** Standard Schema paths hold keys or `{key}` segments. */
export const keyOf = (segment: unknown): string =>
  typeof segment === "object" && segment !== null && "key" in segment ? String(segment.key) : String(segment);
