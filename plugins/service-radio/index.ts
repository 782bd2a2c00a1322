/**
 * service.radio: the session of one Meshtastic radio, and its door `radio.NAME` for the plugins of this node: one owner, many users. Moves no mail and knows
 * no mesh but the radio's. Specified by docs/meshtastic.md.
 */
import { definePlugin, GodwitError, type PluginContext, type ServiceContext } from "@godwit/sdk";
import {
  DEFAULT_TOPICS,
  formatPlace,
  keysOf,
  type RadioConfig,
  radioConfig,
  type RadioPlace,
  type TapPlace,
} from "./config.ts";
import { Keyring } from "./keyring.ts";
import type { MeshPacket } from "./protocol.ts";
import { type Ignored, RadioSession } from "./session.ts";
import { bitsPerSecond, slotMs } from "./lora.ts";
import { costsOf, idOf, whySilent } from "./state.ts";
import { type Published, Tap, type TapIgnored } from "./tap.ts";
import { openMqtt } from "./tap-mqtt.ts";
import { openUdp } from "./tap-udp.ts";
import { type Sender, Users } from "./users.ts";
import { WAKE } from "./frames.ts";
import { openLine, openTcp, type OpenWire } from "./wire.ts";

const NO_BYTES = new Uint8Array(0);
/** What changes by itself is told at most this often, ms. */
const TELL_MS = 10_000;

/** How a radio at a place is reached; each life of the plugin asks anew. */
type OpenPlace = (place: RadioPlace, by: Pick<PluginContext, "clock" | "serial">) => OpenWire;

const openPlace: OpenPlace = (place, { clock, serial }) =>
  place.kind === "tcp" ? openTcp(place.host, place.port, clock) : openLine(place.path, serial);

/** `openWire`: of tests in virtual time, whose radios are in memory. */
export const radioPlugin = (openWire: OpenPlace) =>
  definePlugin({
    id: "radio",
    namespace: "service",
    sdk: "^0.1.0",
    permissions: ["net.tcp", "net.udp", "serial:*", "service.offer:*"],
    config: radioConfig,
    start(ctx, options) {
      const { connect } = options;
      const keyring = new Keyring(keysOf(options));
      const read = ctx.counter("read", "packets that were read by the keys of this node", ["by"]);
      const ignored = ctx.counter("ignored", "what a radio said that was passed over", ["reason"]);
      const refused = ctx.counter("refused", "packets that were not handed to the radio", ["reason"]);
      const packets = ctx.counter("packets", "packets that the radio handed over");
      const cutOff = ctx.counter("cut_off", "users that did not read what they had asked for");
      const shared: Shared = {
        ctx,
        ignored: (reason) => ignored.add(1, { reason }),
        keyed(number, publicKey) {
          const reason = keyring.learn(number, publicKey);
          if (reason !== undefined) ignored.add(1, { reason });
        },
        packet(packet, published) {
          packets.add();
          const seen = keyring.read(packet, (reason) => ignored.add(1, { reason }));
          if (seen.readBy !== undefined) read.add(1, { by: seen.readBy.by });
          users.tellPacket(seen.packet, {
            source: connect.kind,
            published,
            readBy: seen.readBy,
            numberProof: keyring.proofOf(packet.from),
          });
        },
        changed() {
          const trouble = source.trouble();
          ctx.health(trouble === undefined ? { state: "running" } : { state: "degraded", reason: trouble });
          users.tellState();
        },
      };
      const source =
        connect.kind === "udp" || connect.kind === "mqtt"
          ? tapSource(shared, options, connect)
          : radioSource(shared, connect, openWire(connect, ctx));
      const users: Users = new Users({
        sender: source.sender,
        state: source.state,
        refused: (reason) => refused.add(1, { reason }),
        cutOff: () => cutOff.add(),
      });
      // Names of tables have underscores, those of services hyphens.
      ctx.services.offer(`radio.${ctx.instance.replaceAll("_", "-")}`, users.service);
      ctx.onRequest((request) =>
        request === "show"
          ? Promise.resolve({ ...source.state(), users: Object.fromEntries(users.airtimeMs) })
          : Promise.reject(
              new GodwitError("GODWIT_REQUEST_INVALID", 'a radio answers "show"', { kind: "protocol" }),
            ),
      );
      ctx.spawn("radio", (signal) => source.run(signal));
      shared.changed();
    },
  });

export default radioPlugin(openPlace);

/** What every source is given. */
interface Shared {
  readonly ctx: ServiceContext;
  ignored(reason: Ignored | TapIgnored): void;
  keyed(number: number, publicKey: Uint8Array): void;
  packet(packet: MeshPacket, published?: Published): void;
  changed(): void;
}

interface Source {
  readonly sender: Sender;
  /** Why it does not do its work, in words; undefined: it does. */
  trouble(): string | undefined;
  /** JSON. */
  state(): object;
  /** Until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

function radioSource(shared: Shared, connect: RadioPlace, open: OpenWire): Source {
  const { ctx } = shared;
  const airtime = ctx.counter("airtime_ms", "airtime of what was handed to the radio, milliseconds");
  const utilisation = ctx.gauge(
    "utilisation_ratio",
    "share of the last minutes in which the channel was busy",
  );
  let told = 0;
  const session = new RadioSession({
    clock: ctx.clock,
    random: ctx.random,
    log: ctx.log,
    open,
    wake: connect.kind === "serial" ? WAKE : NO_BYTES,
    changed() {
      utilisation.set(session.airtime.utilisation);
      shared.changed();
    },
    packet: (packet) => shared.packet(packet),
    ignored: (reason) => shared.ignored(reason),
    keyed: (number, publicKey) => shared.keyed(number, publicKey),
  });
  const again = () => {
    const { totalMs } = session.airtime;
    airtime.add(totalMs - told);
    told = totalMs;
    utilisation.set(session.airtime.utilisation);
    shared.changed();
    timer = ctx.clock.after(TELL_MS, again);
  };
  let timer = ctx.clock.after(TELL_MS, again);
  ctx.own(() => timer.cancel());
  return {
    sender: session,
    trouble() {
      const { trouble, phase } = session;
      if (trouble === undefined || phase === "ready") return trouble;
      return `the radio at ${formatPlace(connect)} is not ready: ${trouble}`;
    },
    state: () => ({ ...stateOf(session, connect, ctx.instance), nodes: session.nodes.size }),
    run: (signal) => session.run(signal),
  };
}

function tapSource(shared: Shared, options: RadioConfig, connect: TapPlace): Source {
  const { ctx } = shared;
  const { clock, random, log } = ctx;
  const watchers = new Set<() => void>();
  const watch = (fn: () => void) => {
    watchers.add(fn);
    return () => void watchers.delete(fn);
  };
  if (connect.kind === "udp")
    ctx.network.onChange(() => {
      for (const fn of [...watchers]) fn();
    });
  const open =
    connect.kind === "udp"
      ? openUdp(connect, ctx.network, options.interfaces, watch)
      : openMqtt({
          place: connect,
          topics: options.topics ?? DEFAULT_TOPICS,
          user: options.user,
          password: options.password,
          ca: options.ca,
          clock,
          random,
        });
  const tap = new Tap({
    ...{ kind: connect.kind, clock, random, log, open },
    changed: () => shared.changed(),
    packet: (packet, published) => shared.packet(packet, published),
    ignored: (reason) => shared.ignored(reason),
  });
  const what = formatPlace(connect);
  return {
    sender: { send: () => "listens_only", airtimeOf: () => 0 },
    trouble: () => tap.trouble && `nothing is heard at ${what}: ${tap.trouble}`,
    state: () => ({
      version: 1,
      name: ctx.instance,
      where: what,
      phase: tap.trouble === undefined ? "listening" : "connecting",
      trouble: tap.trouble ?? null,
      restarts: 0,
      silentMs: tap.silentMs === undefined ? null : Math.round(tap.silentMs),
      airtime: { utilisation: 0, hourMs: 0, hourMaxMs: 0, totalMs: 0, waiting: 0, inFlight: 0 },
      radio: null,
      nodes: 0,
    }),
    run: (signal) => tap.run(signal),
  };
}

/** JSON: what users of the door and people are shown. No key of a channel is in it. */
function stateOf(session: RadioSession, place: Parameters<typeof formatPlace>[0], name: string) {
  const { facts, airtime, outbox, phase, trouble } = session;
  const modem = facts?.modem;
  return {
    version: 1,
    name,
    where: formatPlace(place),
    phase,
    trouble: trouble ?? null,
    restarts: session.restarts,
    airtime: {
      utilisation: airtime.utilisation,
      hourMs: Math.round(airtime.hourMs),
      hourMaxMs: Math.round(session.hourMaxMs),
      totalMs: Math.round(airtime.totalMs),
      waiting: outbox.waiting,
      inFlight: outbox.inFlight,
    },
    radio:
      facts === undefined
        ? null
        : {
            number: facts.number,
            id: idOf(facts.number),
            longName: facts.longName,
            shortName: facts.shortName,
            firmware: facts.firmware,
            board: facts.board,
            role: facts.role,
            isLicensed: facts.isLicensed,
            signs: facts.additions.hasSignatures,
            region: facts.region?.name ?? null,
            dutyCycle: facts.region?.dutyCycle ?? 0,
            preset: modem?.name ?? null,
            rateBitsPerSecond: modem === undefined ? 0 : Math.round(bitsPerSecond(modem)),
            slotMs: modem === undefined ? 0 : Math.round(slotMs(modem)),
            mayNotSend: whySilent(facts) ?? null,
            channels: facts.channels,
            costs: { one: costsOf(facts, "one"), all: costsOf(facts, "all") },
          },
  };
}
