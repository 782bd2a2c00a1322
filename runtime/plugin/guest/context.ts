/** The context of the SDK over frames: what a plugin calls becomes frames, what the node sends becomes calls of the plugin. */
import type {
  DialTerms,
  EngineContext,
  HealContext,
  HostAddress,
  ServiceContext,
  TransportDriver,
} from "@godwit/sdk";
import { systemClock } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { systemRandom } from "../../kernel/random.ts";
import { openPump } from "../frames/flow-pump.ts";
import { PluginFrame } from "../frames/frames.ts";
import { createMedium } from "./medium.ts";
import { createMembers } from "./members.ts";
import { createMesh } from "./mesh.ts";
import { createMetrics } from "./metrics.ts";
import { createNet } from "./net.ts";
import { createOffers } from "./offers.ts";
import { createHttp } from "./pages.ts";
import { createPeers } from "./peers.ts";
import { createSelf } from "./self.ts";
import { createSerial } from "./serial.ts";
import { createServices } from "./services.ts";
import { createStreams } from "./streams.ts";
import { pipeProperties, pipeSource } from "./pipe.ts";
import type { ContextParts } from "./parts.ts";
import { createLog } from "./log.ts";

interface DialArgs {
  readonly endpoint: string;
  readonly expected?: string;
  /** Number of the terms to ask by; none: the operator named the endpoint. */
  readonly terms?: number;
}

export interface GuestContext {
  readonly ctx: ServiceContext;
  flushMetrics(): void;
  /** `bytes` are borrowed. */
  onEvent(event: { readonly event: string }, bytes: Uint8Array): void;
  onOpen(id: number, opened: { readonly what: string }, bytes: Uint8Array): void;
}

export function createContext(parts: ContextParts): GuestContext {
  const { configure, port, flows, calls, scope } = parts;
  let { addresses } = configure;
  let driver: TransportDriver | undefined;
  const watchers = new Set<() => void>();
  const metrics = createMetrics(port, systemClock);
  scope.own(() => metrics.stop());
  const mesh = configure.self === undefined ? undefined : createMesh(parts, configure.self);
  const isEngine = configure.namespace === "engine";
  const streams = isEngine ? createStreams(parts, "streams") : undefined;
  const { peers, onRequest, ...peersFrames } = createPeers(parts);
  const { self, onSelf } = createSelf(parts);
  const offers = createOffers(parts);
  const { services, ...servicesFrames } = createServices(parts);
  const net = createNet(calls, flows, scope);
  const channel = createMedium(parts, systemClock);
  const event = (json: object) => {
    if (!scope.isClosed) port.sendParts(PluginFrame.event, 0, json);
  };

  const refusal = (method: string, asked: object) =>
    (calls.askNow(method, asked) as string | null) ?? undefined;
  const termsOf = (terms: number | undefined): DialTerms | undefined =>
    terms === undefined ? undefined : { refusal: (address) => refusal("dial.refusal", { terms, address }) };

  calls.add("dial", async (args, _bytes, cancelled) => {
    const { endpoint, expected, terms } = args as DialArgs;
    if (driver === undefined) throw godwitError("GODWIT_ENDPOINT_INVALID", "no transport is registered");
    const pipe = await driver.dial(
      endpoint,
      AbortSignal.any([cancelled, scope.signal]),
      expected,
      termsOf(terms),
    );
    try {
      const flow = flows.newId();
      return {
        json: { flow, pipe: pipeProperties(pipe, driver.medium) },
        after: () => openPump(flows, flow, pipeSource(pipe), pipe.kind),
      };
    } catch (error) {
      pipe.close();
      throw error;
    }
  });

  const ctx: Omit<EngineContext, "members" | "streams"> & HealContext = {
    instance: configure.instance,
    clock: systemClock,
    random: systemRandom,
    log: createLog(port, {}),
    signal: scope.signal,
    storage: {
      get: (key) =>
        calls.ask("storage.get", { key }, (value, bytes) => (value === true ? bytes.slice() : undefined)),
      set: (key, value) => calls.ask("storage.set", { key }, () => {}, { bytes: value }),
      delete: (key) => calls.ask("storage.delete", { key }, () => {}),
      keys: () => calls.ask("storage.keys", {}, (value) => value as string[]),
    },
    net,
    serial: createSerial(calls, flows, scope),
    self,
    peers,
    onRequest,
    services,
    engine: offers.engine,
    heal: offers.heal,
    network: {
      addresses: () => addresses,
      refusal: (address) => refusal("network.refusal", { address }),
      onChange(fn) {
        watchers.add(fn);
        scope.own(() => void watchers.delete(fn));
      },
    },
    deriveSeed: (purpose) => calls.ask("seed", { purpose }, (_value, bytes) => bytes.slice()),
    folder: async () => parts.folder ?? (await calls.ask("folder", {}, (value) => value as string)),
    spawn: (name, task) => scope.spawn(name, task),
    own: (dispose) => scope.own(dispose),
    health: (health) => {
      if (!scope.isClosed) port.sendParts(PluginFrame.health, 0, health);
    },
    counter: (name, help, labels = []) => metrics.counter(name, help, labels),
    gauge: (name, help, labels = []) => metrics.gauge(name, help, labels),
    transport: {
      register(given) {
        driver = given;
        const { schemes, dialTimeoutMs } = given;
        const medium = channel.use(given.medium);
        event({
          event: "register",
          schemes,
          ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
          ...(medium === undefined ? {} : { medium }),
        });
      },
      // The answer would come too late: the node judges what the pipe brings.
      screen: () => "open",
      accept(pipe) {
        if (scope.isClosed) return pipe.close();
        try {
          const flow = flows.newId();
          port.sendParts(PluginFrame.open, flow, {
            what: "pipe",
            pipe: pipeProperties(pipe, driver?.medium),
          });
          openPump(flows, flow, pipeSource(pipe), pipe.kind);
        } catch {
          pipe.close();
        }
      },
      listening: (endpoints, sockets = []) =>
        event({ event: "listening", endpoints, ...(sockets.length === 0 ? {} : { sockets }) }),
      overlay: (overlay) => event({ event: "overlay", ...(overlay === undefined ? {} : { overlay }) }),
    },
    discovery: {
      hint: (hint) => event({ event: "hint", ...hint }),
      withdraw: (endpoint) => event({ event: "withdraw", endpoint }),
    },
  };
  const onlyOf = <T>(whom: string, name: string, value: T | undefined): PropertyDescriptor => ({
    enumerable: true,
    get() {
      if (value === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", `only ${whom} has ctx.${name}`);
      return value;
    },
  });
  const withMesh = Object.defineProperties(ctx, {
    mesh: onlyOf("a service", "mesh", mesh?.mesh),
    http: onlyOf("a service", "http", mesh === undefined ? undefined : createHttp(parts)),
    members: onlyOf("an engine", "members", isEngine ? createMembers(parts) : undefined),
    streams: onlyOf("an engine", "streams", streams?.streams),
  }) as typeof ctx & ServiceContext & EngineContext;

  return {
    ctx: withMesh,
    flushMetrics: () => metrics.flush(),
    onEvent(given, bytes) {
      if (given.event === "addresses") {
        ({ addresses } = given as unknown as { addresses: readonly HostAddress[] });
        for (const fn of [...watchers]) fn();
      } else if (given.event === "peers" || given.event === "peer-message") peersFrames.onEvent(given, bytes);
      else if (given.event === "self") onSelf();
      else if (given.event === "service") servicesFrames.onEvent(given);
      else mesh?.onEvent(given);
    },
    onOpen(id, opened, bytes) {
      if (opened.what === "connection") net.onOpen(id, opened);
      else (mesh ?? streams)?.onOpen(id, opened, bytes);
    },
  };
}
