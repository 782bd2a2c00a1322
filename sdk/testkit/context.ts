/**
 * A host for one plugin under test: hands it a context, records all it registers, undoes it like Godwit does (abort,
 * wait for tasks, dispose in reverse), and notes what no plugin may do in `violations`.
 */
import { createHash } from "node:crypto";
import {
  GodwitError,
  type Engine,
  type EngineContext,
  type HealAction,
  type HealContext,
  type Hint,
  type LogFields,
  type Log,
  type MetricCounter,
  type MetricGauge,
  type Overlay,
  type Pipe,
  type Plugin,
  type PluginHealth,
  type PluginNet,
  type PluginSerial,
  type Random,
  type ServiceContext,
  type Services,
  type TransportDriver,
} from "../src/index.ts";
import { ManualClock } from "./clock.ts";
import { FakeStreams } from "./engine-streams.ts";
import { FakeHostNetwork } from "./host-network.ts";
import { timerLeaks, WatchedAbort } from "./leak.ts";
import { FakeMembers } from "./members.ts";
import { FakeMesh } from "./network.ts";
import { FakePages } from "./pages.ts";
import { FakePeers } from "./peers.ts";
import { seededRandom } from "./random.ts";
import { FakeSelf } from "./self.ts";
import { FakeServices } from "./services.ts";
import { FakeStorage } from "./storage.ts";

const noSockets = () => Promise.reject(new Error("this test host opens no sockets for plugins"));
const noNet: PluginNet = { connect: noSockets, listen: noSockets, datagrams: noSockets };

const noPorts = () => Promise.reject(new Error("this test host opens no serial ports for plugins"));
const noSerial: PluginSerial = { open: noPorts, list: () => Promise.resolve([]) };

/** As the real host: what is not done by then is left behind. */
const STOP_DEADLINE_MS = 5_000;
const LIVE_HINTS_MAX = 4_096;

export interface RecordedLog {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly event: string;
  readonly fields: LogFields;
}

export interface RecordedTask {
  readonly name: string;
  isSettled: boolean;
  /** Why it failed, unless that was our abort. */
  error: unknown;
}

export interface TestHostOptions {
  readonly instance?: string;
  /** Shared, for instances that talk to one another. */
  readonly clock?: ManualClock;
  readonly random?: Random;
  readonly mesh?: FakeMesh;
  /** Of an earlier life. */
  readonly storage?: FakeStorage;
  readonly network?: FakeHostNetwork;
  readonly self?: FakeSelf;
  readonly peers?: FakePeers;
  /** Shared, for plugins that offer and use services of each other. */
  readonly services?: FakeServices;
  /** What `ctx.folder` answers; without it the call rejects. */
  readonly folder?: string;
  /** Stands for the node's identity in `ctx.deriveSeed`. */
  readonly identity?: string;
}

type Issues = readonly { readonly message: string }[] | undefined;

/** Problems that the plugin's schema finds in a table of its configuration. */
export async function configIssues(
  plugin: Plugin,
  options: unknown,
): Promise<{ value: unknown; issues: Issues }> {
  const { value, issues } = (await plugin.config["~standard"].validate(options)) as {
    value?: unknown;
    issues?: Issues;
  };
  return { value, issues };
}

export class TestHost {
  readonly plugin: Plugin;
  readonly clock: ManualClock;
  readonly mesh: FakeMesh;
  readonly storage: FakeStorage;
  readonly network: FakeHostNetwork;
  /** Who the node is: `self.set(["tcp://192.0.2.1:4860"])`. */
  readonly self: FakeSelf;
  readonly peers: FakePeers;
  readonly services: FakeServices;
  /** What an engine sees of the mesh, and its streams: `streams.receiveStream("log", "b".repeat(52))`. */
  readonly members = new FakeMembers();
  readonly streams = new FakeStreams();
  /** What it shows over HTTP: `pages.request("/")`. */
  readonly pages: FakePages;
  readonly accepted: Pipe[] = [];
  readonly drivers: TransportDriver[] = [];
  readonly engines: Engine[] = [];
  readonly healActions: HealAction[] = [];
  readonly hints = new Map<string, Hint>();
  /** Every call of `hint`, refreshes included. */
  readonly hintCalls: Hint[] = [];
  readonly health: PluginHealth[] = [];
  readonly logs: RecordedLog[] = [];
  readonly tasks: RecordedTask[] = [];
  /** Sums by `name{label=value}`. */
  readonly counters = new Map<string, number>();
  readonly gauges = new Map<string, number>();
  /** What the host would refuse, or an operator would curse. */
  readonly violations: string[] = [];
  /** Called for each accepted pipe. */
  onPipe: (pipe: Pipe) => void = () => {};
  /** What the node makes of the first datagram of somebody unknown. */
  onScreen: (datagram: Uint8Array, remote: string) => "open" | Uint8Array | undefined = () => "open";
  endpoints: readonly string[] = [];
  /** What it said of its sockets with them. */
  sockets: readonly string[] = [];
  overlay: Overlay | undefined;

  readonly #instance: string;
  readonly #identity: string;
  readonly #folder: string | undefined;
  readonly #random: Random;
  readonly #abort = new WatchedAbort();
  /** Of what is the host's own: the plugin's signal counts who listens to it. */
  readonly #stopped = new AbortController();
  readonly #door: Services;
  readonly #owned: (() => void | Promise<void>)[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #labels = new Map<string, string>();
  #onRequest: ((request: string, input: unknown) => Promise<unknown>) | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(plugin: Plugin, options: TestHostOptions = {}) {
    this.plugin = plugin;
    this.#instance = options.instance ?? "test";
    this.#identity = options.identity ?? "identity";
    this.#folder = options.folder;
    this.clock = options.clock ?? new ManualClock();
    this.#random = options.random ?? seededRandom(1);
    this.mesh = options.mesh ?? new FakeMesh(this.clock);
    this.storage = options.storage ?? new FakeStorage();
    this.network = options.network ?? new FakeHostNetwork();
    this.self = options.self ?? new FakeSelf({ plugin: `${plugin.namespace}.${plugin.id}` });
    this.peers = options.peers ?? new FakePeers();
    this.services = options.services ?? new FakeServices();
    this.#door = this.services.door(`${plugin.namespace}.${this.#instance}`, this.#stopped.signal);
    this.pages = new FakePages(() => plugin.permissions.some((one) => one.startsWith("http.pages")));
  }

  /** As the operator asks. Rejects where the plugin answers nothing, or as it refuses. */
  async request(name: string, input: unknown = {}): Promise<unknown> {
    if (this.#onRequest === undefined || this.isStopped) throw new Error("the plugin answers no requests");
    return await this.#onRequest(name, input);
  }

  get isStopped(): boolean {
    return this.#stopping !== undefined;
  }

  get driver(): TransportDriver | undefined {
    return this.isStopped ? undefined : this.drivers.at(-1);
  }

  /** Validates and starts. Rejects with GODWIT_CONFIG_INVALID, or with what the plugin's start rejects with. */
  start(options: unknown): Promise<void> {
    this.#starting ??= this.#start(options);
    return this.#starting;
  }

  /** Idempotent. Rejects when a disposer throws, or when the plugin is not done within five seconds of real time. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** After `stop`: what is left, in sentences. */
  leaks(): string[] {
    const { listenerCount } = this.#abort;
    return [
      ...this.violations,
      ...timerLeaks(this.clock),
      ...this.tasks
        .filter(({ isSettled }) => !isSettled)
        .map(({ name }) => `task "${name}" has not come to an end`),
      ...this.tasks
        .filter(({ error }) => error !== undefined)
        .map(({ name, error }) => `task "${name}" failed: ${String(error)}`),
      ...(listenerCount > 0 ? [`${listenerCount} listeners stay on ctx.signal`] : []),
      ...(this.pages.running > 0 ? [`${this.pages.running} requests for pages have not come to an end`] : []),
      ...(this.mesh.openHandlers > 0 && this.isStopped ? ["handlers stay on ctx.mesh"] : []),
    ];
  }

  async #start(options: unknown): Promise<void> {
    const { value, issues } = await configIssues(this.plugin, options);
    if (issues !== undefined)
      throw new GodwitError("GODWIT_CONFIG_INVALID", issues.map(({ message }) => message).join("; "), {
        kind: "config",
      });
    if (this.isStopped) return;
    await this.plugin.start(this.#context(), value);
  }

  async #stop(): Promise<void> {
    this.#abort.abort(new DOMException(`${this.#instance} closed`, "AbortError"));
    this.#stopped.abort(
      new GodwitError("GODWIT_STOPPED", "the plugin has stopped", { kind: "transport", retry: "later" }),
    );
    this.mesh.stop();
    this.pages.stop();
    this.members.stop();
    this.streams.stop();
    this.network.stop();
    this.self.stop();
    this.peers.stop();
    this.endpoints = [];
    this.sockets = [];
    this.overlay = undefined;
    this.hints.clear();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("the plugin did not stop within 5 s")), STOP_DEADLINE_MS);
    });
    try {
      await Promise.race([this.#dispose(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #dispose(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled([...this.#running]);
    const errors: unknown[] = [];
    for (const dispose of this.#owned.splice(0).reverse()) {
      try {
        await dispose();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  #spawn(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (this.isStopped) return;
    const record: RecordedTask = { name, isSettled: false, error: undefined };
    this.tasks.push(record);
    const running: Promise<void> = (async () => {
      try {
        await task(this.#abort.signal);
      } catch (error) {
        if (!this.#abort.signal.aborted) record.error = error;
      }
      record.isSettled = true;
    })().finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  #own(dispose: () => void | Promise<void>): void {
    if (this.isStopped) void (async () => dispose())().catch(() => {});
    else this.#owned.push(dispose);
  }

  #hint(hint: Hint): void {
    if (this.isStopped) return void this.violations.push(`a hint after stop: ${hint.endpoint}`);
    this.hintCalls.push(hint);
    this.hints.set(hint.endpoint, hint);
    if (this.hints.size > LIVE_HINTS_MAX) this.violations.push(`more than ${LIVE_HINTS_MAX} live hints`);
  }

  #withdraw(endpoint: string): void {
    if (!this.hints.delete(endpoint))
      this.violations.push(`withdrew ${endpoint}, which is no live hint${this.isStopped ? " any more" : ""}`);
  }

  #context(): ServiceContext & EngineContext & HealContext {
    return {
      instance: this.#instance,
      clock: this.clock,
      random: this.#random,
      log: this.#log({}),
      signal: this.#abort.signal,
      storage: this.storage,
      deriveSeed: async (purpose) =>
        new Uint8Array(
          createHash("sha256").update(`${this.#identity}\0${this.#instance}\0${purpose}`).digest(),
        ),
      folder: async () => {
        if (this.#folder === undefined) throw new Error("this test host was given no folder");
        return this.#folder;
      },
      mesh: this.mesh,
      http: this.pages,
      network: this.network,
      self: this.self,
      peers: this.peers,
      services: this.#door,
      net: noNet,
      serial: noSerial,
      spawn: (name, task) => this.#spawn(name, task),
      own: (dispose) => this.#own(dispose),
      health: (health) => void (this.isStopped || this.health.push(health)),
      onRequest: (handler) => void (this.#onRequest = handler),
      counter: (name, _help, labels = []) => this.#counter(name, labels),
      gauge: (name, _help, labels = []) => this.#gauge(name, labels),
      transport: {
        register: (driver) => void (this.isStopped || this.drivers.push(driver)),
        screen: (datagram, remote) => this.onScreen(datagram, remote),
        accept: (pipe) => {
          if (this.isStopped) return pipe.close();
          this.accepted.push(pipe);
          this.onPipe(pipe);
        },
        listening: (endpoints, sockets = []) => {
          if (this.isStopped) return;
          this.endpoints = [...endpoints];
          this.sockets = [...sockets];
        },
        overlay: (overlay) => {
          if (!this.isStopped) this.overlay = overlay;
        },
      },
      members: this.members,
      streams: this.streams,
      engine: { register: (engine) => void (this.isStopped || this.engines.push(engine)) },
      heal: {
        register: (action) => {
          if (this.healActions.some(({ name }) => name === action.name))
            throw new GodwitError("GODWIT_HEAL_INVALID", `an action "${action.name}" is there already`, {
              kind: "plugin",
            });
          if (!this.isStopped) this.healActions.push(action);
        },
      },
      discovery: {
        hint: (hint) => this.#hint(hint),
        withdraw: (endpoint) => this.#withdraw(endpoint),
      },
    };
  }

  #log(base: LogFields): Log {
    const write = (level: RecordedLog["level"]) => (event: string, fields?: LogFields) =>
      void this.logs.push({ level, event, fields: { ...base, ...fields } });
    return {
      debug: write("debug"),
      info: write("info"),
      warn: write("warn"),
      error: write("error"),
      child: (fields) => this.#log({ ...base, ...fields }),
    };
  }

  #counter(name: string, labelNames: readonly string[]): MetricCounter {
    this.#checkMetric("counter", name, labelNames);
    if (name.endsWith("_total")) this.violations.push(`counter ${name}: the host adds _total`);
    return {
      add: (value = 1, labels = {}) => {
        if (!(value >= 0) || !Number.isFinite(value))
          this.violations.push(`counter ${name} goes by ${value}`);
        const key = this.#key(name, labelNames, labels);
        this.counters.set(key, (this.counters.get(key) ?? 0) + value);
      },
    };
  }

  #gauge(name: string, labelNames: readonly string[]): MetricGauge {
    this.#checkMetric("gauge", name, labelNames);
    return {
      set: (value, labels = {}) => {
        if (!Number.isFinite(value)) this.violations.push(`gauge ${name} is ${value}`);
        this.gauges.set(this.#key(name, labelNames, labels), value);
      },
    };
  }

  /** One name is one metric: of one kind, with one list of labels. */
  #checkMetric(kind: string, name: string, labelNames: readonly string[]): void {
    const shape = `${kind}(${labelNames.join()})`;
    const known = this.#labels.get(name);
    if (known !== undefined && known !== shape)
      this.violations.push(`metric ${name} is ${known} and ${shape}`);
    this.#labels.set(name, shape);
    for (const word of [name, ...labelNames])
      if (!/^[a-z][a-z0-9_]{0,63}$/.test(word)) this.violations.push(`"${word}" is no name for a metric`);
  }

  #key(name: string, labelNames: readonly string[], labels: Readonly<Record<string, string>>): string {
    const given = Object.keys(labels).sort();
    if (given.join() !== [...labelNames].sort().join())
      this.violations.push(
        `metric ${name} has labels (${labelNames.join()}) and was given (${given.join()})`,
      );
    return given.length === 0 ? name : `${name}{${given.map((label) => `${label}=${labels[label]}`).join()}}`;
  }
}
