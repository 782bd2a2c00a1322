/**
 * Runs plugins in this process and gives each the context of the SDK. Everything a plugin registers is undone here
 * when it stops or fails, in reverse order; one that failed is started anew, after a pause that grows, because nobody may
 * be on site. Never knows what a plugin does; the node hears of pipes, endpoints, hints and health through `HostEvents`.
 * Built-in plugins come through the same door.
 */
import type { DialTerms, Pipe, Plugin, PluginHealth, PluginNamespace } from "@godwit/sdk";
import { Backoff, CrashBudget } from "../../kernel/backoff.ts";
import { asGodwitError, GodwitError, godwitError } from "../../kernel/errors.ts";
import { Scope } from "../../kernel/scope.ts";
import { SDK_VERSION } from "@godwit/sdk";
import { startWaves } from "./order.ts";
import { createHostContext } from "./context.ts";
import { type Candidate, dialInTurn, dialTimeoutMs } from "./dial.ts";
import { Offers } from "./offers.ts";
import { Pages } from "../pages/pages.ts";
import {
  type PluginInstance,
  type RunningPlugin,
  type Running,
  type Supervision,
  type HostDeps,
  sourceOf,
  findPlugin,
} from "./instance.ts";
import { type DoorPolicy, doorPolicyOf } from "../permissions.ts";
import { ServiceBoard } from "../service/board.ts";
import { validateOptions, keyOf } from "./options.ts";

/** `start` must resolve within this. */
const START_DEADLINE_MS = 30_000;
/** What it owns must be disposed of within this; then it is left behind. */
const STOP_DEADLINE_MS = 5_000;
/** Pauses before a failed plugin is started anew. */
const RESTART = { firstMs: 1_000, capMs: 60_000 } as const;
/** More failures than this within the window: it rests for the window, and `/health` says so. */
export const CRASHES_MAX = 5;
const CRASH_WINDOW_MS = 600_000;
/** A life this long makes the next failure a first one. */
const STABLE_MS = 300_000;
/** Of a life: the first show what is missing. */
const REFUSALS_MAX = 4;
/** Kinds of errors that, where they advise never to try again, would come again. */
const FINAL_KINDS: ReadonlySet<string> = new Set(["config", "permission", "plugin"]);
/** Transports first, so that hints find someone to dial them, unless they need another before; stopped in reverse. */
const startOrder: readonly PluginNamespace[] = ["transport", "engine", "heal-action", "service", "discovery"];

export class PluginHost {
  readonly #deps: HostDeps;
  readonly #running: Running[] = [];
  /** Engines and heal actions of those that run. */
  readonly offers: Offers;
  readonly #board: ServiceBoard;
  /** What those that run show and take over HTTP. */
  readonly pages: Pages;
  readonly #restarts;
  readonly #hintsDropped;
  #isStopped = false;

  constructor(deps: HostDeps) {
    this.#deps = deps;
    this.offers = new Offers(deps.clock);
    this.#board = new ServiceBoard(deps.clock, deps.metrics);
    this.pages = new Pages(deps.clock, deps.metrics);
    this.#restarts = deps.metrics.counter("godwit_plugin_failures_total");
    this.#hintsDropped = deps.metrics.counter("godwit_hints_dropped_total");
  }

  get running(): readonly RunningPlugin[] {
    return this.#running;
  }

  /** Every endpoint on which some transport is reachable. */
  get endpoints(): readonly string[] {
    return this.#running.flatMap((running) => running.endpoints);
  }

  /** The sockets behind them, as they are bound. */
  get sockets(): readonly string[] {
    return this.#running.flatMap((running) => running.sockets);
  }

  /** Starts all; one that fails is marked down with its reason and the others go on. */
  async start(instances: readonly PluginInstance[]): Promise<void> {
    const waves = startWaves(instances, (instance) => {
      const { namespace, type } = instance;
      const plugin = findPlugin(this.#deps.plugins, namespace, type);
      const policy = plugin === undefined ? undefined : this.#doorPolicy(plugin, instance);
      return {
        rank: startOrder.indexOf(namespace),
        type,
        requires: plugin?.requires ?? [],
        offers: policy?.offers ?? [],
        uses: policy?.uses ?? [],
      };
    });
    for (const wave of waves) await Promise.all(wave.map((instance) => this.#start(instance)));
  }

  #doorPolicy(plugin: Plugin, instance: PluginInstance): DoorPolicy {
    return this.#deps.doorPolicy?.(plugin, instance) ?? doorPolicyOf(plugin.permissions, undefined);
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

  /** Whether a transport of another type dials this scheme. */
  isOthers(scheme: string, running: Running): boolean {
    return this.#running.some(
      (other) =>
        other.instance.type !== running.instance.type && other.driver?.schemes.includes(scheme) === true,
    );
  }

  /** True when some transport claims the endpoint's scheme. */
  canDial(endpoint: string): boolean {
    return this.#candidatesFor(endpoint).length > 0;
  }

  /** What those that claim its scheme ask for a dial, together; undefined: the default. */
  dialTimeoutMs(endpoint: string): number | undefined {
    const candidates = this.#candidatesFor(endpoint);
    return candidates.length === 0 ? undefined : dialTimeoutMs(candidates);
  }

  /** By the first that can, in the order in which they were started; on `terms` where another named it. Rejects with GODWIT_ENDPOINT_REFUSED too. */
  async dial(endpoint: string, signal: AbortSignal, expected?: string, terms?: DialTerms): Promise<Pipe> {
    const candidates = this.#candidatesFor(endpoint);
    if (candidates.length === 0)
      throw godwitError("GODWIT_ENDPOINT_INVALID", `no running transport dials ${endpoint}; configure one`);
    return await dialInTurn(candidates, this.#deps.clock, endpoint, signal, { expected, terms });
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
      sockets: [],
      overlay: undefined,
      refusals: [],
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
      for (const reason of placed.warnings?.(config) ?? [])
        log.warn("plugin has a warning", { name: instance.name, type: instance.type, reason });
      await placed.start(
        createHostContext(this.#deps, this, running, plugin, {
          services: (ownLog) =>
            this.#board.door({
              source: sourceOf(instance),
              scope: running.scope,
              policy: this.#doorPolicy(plugin, instance),
              log: ownLog,
            }),
          health: (health) => this.#setHealth(running, health),
          hintDropped: () => this.#hintsDropped.add(),
          refused: (why) => this.#noteRefusal(running, why),
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
    if (running.endpoints.length + running.sockets.length > 0) {
      running.endpoints = [];
      running.sockets = [];
      this.#deps.events.listening();
    }
  }

  #noteRefusal(running: Running, why: string): void {
    const { refusals, instance } = running;
    if (refusals.length >= REFUSALS_MAX || refusals.includes(why)) return;
    refusals.push(why);
    const { name, type } = instance;
    this.#deps.log.warn("plugin refused something", { name, type, reason: why });
    this.#deps.events.health(running);
  }

  #setHealth(running: Running, health: PluginHealth): void {
    running.health = health;
    this.#deps.events.health(running);
  }

  #candidatesFor(endpoint: string): Candidate[] {
    const scheme = endpoint.slice(0, endpoint.indexOf("://"));
    return this.#running.flatMap(({ instance, driver }) =>
      driver?.schemes.includes(scheme) === true ? [{ instance: instance.name, driver }] : [],
    );
  }
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
    ({ message, path, keys, params }) =>
      `${(path ?? []).map(keyOf).join(".") || "table"}: ${keys === undefined ? message : `unknown ${keys.join(", ")}`}${typeof params?.found === "string" ? `, found ${params.found}` : ""}`,
  );
  throw godwitError("GODWIT_CONFIG_INVALID", problems.join("; "));
}
