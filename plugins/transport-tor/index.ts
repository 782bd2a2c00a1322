/**
 * transport.tor: links over Tor, to onion addresses and to hosts of the open internet, and an onion address of our own.
 * Tor itself is somebody else's daemon or a child of ours; this plugin only asks it. Must never resolve a name, never
 * reach a peer but through the SOCKS port, and never say a key or password to anybody but tor. README.md in this folder;
 * docs/protocol/link.md for what anonymous pipes change above.
 */
import { lstatSync, unlinkSync } from "node:fs";
import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import { whyNotListening } from "@godwit/sdk/listening";
import { Places } from "@godwit/sdk/places";
import { definePlugin, type PluginContext, type PluginHealth } from "@godwit/sdk";
import { Attempts } from "./attempts.ts";
import { pathsIn, superviseTor } from "./child.ts";
import { torConfig, type TorConfig } from "./config.ts";
import { type OnionService, TorController } from "./controller.ts";
import {
  ANONYMOUS,
  type Door,
  formatDoor,
  formatTorEndpoint,
  isOnionHost,
  parseTorEndpoint,
} from "./endpoint.ts";
import { clientKeyOf, type OnionKey, onionKeyOf, SEED_BYTES } from "./onion.ts";
import { TorPipe } from "./pipe.ts";
import { isolationOf, openSocks } from "./socks.ts";
import { isUnderWay, planHealth, type TorStatus } from "./status.ts";
import { reasonOf } from "./wait.ts";

const SOCKS_DEFAULT: Door = { host: "127.0.0.1", port: 9050 };
/** A first way to an onion address takes a descriptor, an introduction and a meeting: 20 s is too often too short. */
const DIAL_TIMEOUT_MS = 60_000;
/**
 * Streams to our onion address whose far end has proven nothing. They have no source to be told apart by: the oldest gives way,
 * so that whoever needs seconds for its handshake has them while a hundred others a second come.
 */
export const STRANGERS_MAX = 1_024;
const STORED_KEY = "onion-key";

export default definePlugin({
  id: "tor",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.tcp", "net.unix", "process.spawn", "identity.derive", "files"],
  config: torConfig,
  async start(ctx, config) {
    const paths = config.mode === "supervised" ? pathsIn(await ctx.folder()) : undefined;
    const socks: Door = paths === undefined ? (config.socks ?? SOCKS_DEFAULT) : { path: paths.socks };
    const control: Door | undefined = paths === undefined ? config.control : { path: paths.control };
    const [listen] = control === undefined ? [] : config.listen;
    const key = listen === undefined ? undefined : await openOnionKey(ctx, config);
    const clientKey = config.client_key ? clientKeyOf(await ctx.deriveSeed("onion client")) : undefined;
    if (clientKey !== undefined) ctx.log.info("onion client key", { public_key: clientKey.publicText });
    const own =
      key === undefined ? undefined : formatTorEndpoint({ host: `${key.name}.onion`, port: config.port });
    const onion: OnionService | undefined =
      listen === undefined || key === undefined || own === undefined
        ? undefined
        : { key, port: config.port, target: await listenForTor(ctx, listen, own), clients: config.clients };
    if (ctx.signal.aborted) return;

    const report = reporter(ctx, control !== undefined);
    const controller = new TorController({
      clock: ctx.clock,
      random: ctx.random,
      log: ctx.log,
      door: control,
      isClockShared: control !== undefined || isHere(ctx, socks),
      credentials: {
        password: config.control_password,
        cookieFile: paths?.cookie ?? config.cookie_file,
        random: ctx.random,
      },
      onion,
      clientKey,
      circuits: ctx.counter("circuits", "circuits that tor built or failed to build", ["outcome"]),
      losses: ctx.counter("control_losses", "control connections that worked and ended"),
      onStatus: report,
      onPublished: (isPublished) => {
        ctx.log.info(isPublished ? "onion address published" : "onion address withdrawn", { endpoint: own });
        ctx.transport.listening(isPublished && own !== undefined ? [own] : []);
      },
    });
    registerDriver(ctx, controller, socks);
    report(controller.status);
    if (paths !== undefined)
      ctx.spawn("tor", (signal) =>
        superviseTor(
          {
            clock: ctx.clock,
            random: ctx.random,
            log: ctx.log,
            config,
            paths,
            onTrouble: (reason) => controller.setChildTrouble(reason),
          },
          signal,
        ),
      );
    ctx.spawn("tor control", (signal) => controller.run(signal));
  },
});

/** Whether the daemon runs on this machine. Of a name nothing is known before it is looked up. */
function isHere({ network }: PluginContext, door: Door): boolean {
  if ("path" in door || isIP(door.host) === 0) return true;
  const isLoopback = door.host.startsWith("127.") || door.host === "::1";
  return isLoopback || network.addresses().some(({ address }) => address === door.host);
}

function registerDriver(ctx: PluginContext, controller: TorController, socks: Door): void {
  const isolationSecret = ctx.random.bytes(SEED_BYTES);
  const attempts = new Attempts({
    clock: ctx.clock,
    open: (target, generation, signal) =>
      openSocks(socks, target, isolationOf(isolationSecret, target, generation), signal),
  });
  const dials = ctx.counter("dials", "dials through tor by outcome", ["outcome"]);
  ctx.transport.register({
    schemes: ["tor"],
    dialTimeoutMs: DIAL_TIMEOUT_MS,
    dial: async (endpoint, dialSignal) => {
      const target = parseTorEndpoint(endpoint);
      dialSignal.throwIfAborted();
      const signal = AbortSignal.any([dialSignal, ctx.signal]);
      try {
        await controller.ready(signal);
        if (isOnionHost(target.host)) await controller.showClientKey(target.host.replace(/\.onion$/, ""));
        const socket = await attempts.dial(target, signal);
        dials.add(1, { outcome: "connected" });
        return new TorPipe(
          socket,
          { direction: "outbound", local: ANONYMOUS, remote: formatTorEndpoint(target) },
          ctx.clock,
        );
      } catch (error) {
        dials.add(1, { outcome: "failed" });
        throw error;
      }
    },
  });
}

/** The address must survive restarts: others know it. */
async function openOnionKey(ctx: PluginContext, { key }: TorConfig): Promise<OnionKey> {
  if (key === "derived") return onionKeyOf(await ctx.deriveSeed("onion address"));
  const stored = await ctx.storage.get(STORED_KEY);
  if (stored?.length === SEED_BYTES) return onionKeyOf(stored);
  const seed = ctx.random.bytes(SEED_BYTES);
  await ctx.storage.set(STORED_KEY, seed);
  return onionKeyOf(seed);
}

/** Where tor hands over streams. Answers the address for ADD_ONION; rejects with the operating system's error. */
async function listenForTor(ctx: PluginContext, listen: Door, own: string): Promise<string> {
  const pipes = new Set<TorPipe>();
  const strangers = new Places({ max: STRANGERS_MAX, perSourceMax: STRANGERS_MAX });
  const server: Server = createServer({ pauseOnConnect: true }, (socket: Socket) => {
    if (ctx.signal.aborted) return void socket.destroy();
    let pipe: TorPipe | undefined = undefined;
    const cut = () => pipe?.cut(new Error("made room for others"));
    const place = strangers.accept(socket, undefined, cut);
    if (place === undefined) return void socket.destroy();
    const ends = { direction: "inbound", local: own, remote: ANONYMOUS } as const;
    const made = (pipe = new TorPipe(socket, ends, ctx.clock, place));
    pipes.add(made);
    socket.once("close", () => pipes.delete(made));
    ctx.transport.accept(made);
  });
  if ("path" in listen) await clearPath(listen.path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      const why =
        "port" in listen
          ? whyNotListening(error, { protocol: "tcp", ...listen, setting: "listen" })
          : reasonOf(error);
      reject(new Error(`cannot listen on ${formatDoor(listen)} for tor: ${why}`, { cause: error }));
    });
    server.listen(listen, resolve);
  });
  server.removeAllListeners("error");
  server.on("error", (error) => ctx.log.warn("accept failed", { reason: reasonOf(error) }));
  ctx.own(() => {
    server.close();
    // Tor keeps streams of an address that is no more; whoever came by it came by leave of this configuration.
    for (const pipe of pipes) pipe.cut();
  });
  if ("path" in listen) return formatDoor(listen);
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("the listener has no address");
  return formatDoor({ host: bound.address, port: bound.port });
}

/** Takes away what a killed node left, and nothing that anybody listens at. */
async function clearPath(path: string): Promise<void> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const isRefused = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      resolve(false);
      socket.destroy();
    });
    socket.on("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED"));
  });
  if (isRefused) unlinkSync(path);
}

/** Says what changed, once. */
function reporter(ctx: PluginContext, isControlled: boolean): (status: TorStatus) => void {
  const progress = ctx.gauge("bootstrap_percent", "how far tor has come towards the network");
  let last: PluginHealth | undefined;
  return (status) => {
    progress.set(status.progress ?? 0);
    const health = planHealth(status, isControlled);
    if (health.state === last?.state && health.reason === last.reason) return;
    last = health;
    ctx.health(health);
    if (health.state === "running") ctx.log.info("tor usable");
    else if (isUnderWay(status)) ctx.log.debug("tor not usable yet", { reason: health.reason });
    else ctx.log.warn("tor not usable", { reason: health.reason });
  };
}
