/**
 * service.radio: the session of one Meshtastic radio, and its door `radio.NAME` for the plugins of this node: one owner, many users. Moves no mail and knows
 * no mesh but the radio's. Specified by docs/meshtastic.md.
 */
import { definePlugin, GodwitError, type PluginContext } from "@godwit/sdk";
import { formatPlace, keysOf, radioConfig, type RadioPlace } from "./config.ts";
import { Keyring } from "./keyring.ts";
import { RadioSession } from "./session.ts";
import { bitsPerSecond, slotMs } from "./lora.ts";
import { costsOf, idOf, whySilent } from "./state.ts";
import { Users } from "./users.ts";
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
    permissions: ["net.tcp", "serial:*", "service.offer:*"],
    config: radioConfig,
    start(ctx, options) {
      const { connect } = options;
      const keyring = new Keyring(keysOf(options));
      const read = ctx.counter("read", "packets that were read by the keys of this node", ["by"]);
      const ignored = ctx.counter("ignored", "what a radio said that was passed over", ["reason"]);
      const refused = ctx.counter("refused", "packets that were not handed to the radio", ["reason"]);
      const packets = ctx.counter("packets", "packets that the radio handed over");
      const cutOff = ctx.counter("cut_off", "users that did not read what they had asked for");
      const airtime = ctx.counter("airtime_ms", "airtime of what was handed to the radio, milliseconds");
      const utilisation = ctx.gauge(
        "utilisation_ratio",
        "share of the last minutes in which the channel was busy",
      );
      const state = () => stateOf(session, connect, ctx.instance);
      let told = 0;
      const tell = () => {
        const { trouble, phase } = session;
        const where = formatPlace(connect);
        if (trouble === undefined) ctx.health({ state: "running" });
        else
          ctx.health({
            state: "degraded",
            reason: phase === "ready" ? trouble : `the radio at ${where} is not ready: ${trouble}`,
          });
        utilisation.set(session.airtime.utilisation);
        users.tellState();
      };
      const session: RadioSession = new RadioSession({
        clock: ctx.clock,
        random: ctx.random,
        log: ctx.log,
        open: openWire(connect, ctx),
        wake: connect.kind === "serial" ? WAKE : NO_BYTES,
        changed: () => tell(),
        packet: (packet) => {
          packets.add();
          const seen = keyring.read(packet, (reason) => ignored.add(1, { reason }));
          if (seen.readBy !== undefined) read.add(1, { by: seen.readBy.by });
          users.tellPacket(seen.packet, {
            source: connect.kind,
            readBy: seen.readBy,
            numberProof: keyring.proofOf(packet.from),
          });
        },
        ignored: (reason) => ignored.add(1, { reason }),
        keyed(number, publicKey) {
          const reason = keyring.learn(number, publicKey);
          if (reason !== undefined) ignored.add(1, { reason });
        },
      });
      const users: Users = new Users({
        session,
        state,
        refused: (reason) => refused.add(1, { reason }),
        cutOff: () => cutOff.add(),
      });
      const again = () => {
        const { totalMs } = session.airtime;
        airtime.add(totalMs - told);
        told = totalMs;
        tell();
        timer = ctx.clock.after(TELL_MS, again);
      };
      let timer = ctx.clock.after(TELL_MS, again);
      ctx.own(() => timer.cancel());
      // Names of tables have underscores, those of services hyphens.
      ctx.services.offer(`radio.${ctx.instance.replaceAll("_", "-")}`, users.service);
      ctx.onRequest((request) =>
        request === "show"
          ? Promise.resolve({
              ...state(),
              users: Object.fromEntries(users.airtimeMs),
              nodes: session.nodes.size,
            })
          : Promise.reject(
              new GodwitError("GODWIT_REQUEST_INVALID", 'a radio answers "show"', { kind: "protocol" }),
            ),
      );
      ctx.spawn("radio", (signal) => session.run(signal));
      tell();
    },
  });

export default radioPlugin(openPlace);

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
