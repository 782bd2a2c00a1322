/**
 * transport.meshtastic: links over LoRa, as packets of a private port in a mesh of Meshtastic radios. The radio is owned by service.radio; this plugin has a
 * place at its door. Never trusts a radio's word of who sent: the link proves who is there. docs/meshtastic.md, docs/protocol/meshtastic.md
 */
import { type Clock, definePlugin, type Timer } from "@godwit/sdk";
import { Air, failed } from "./air.ts";
import { meshtasticConfig, type MeshtasticConfig } from "./config.ts";
import { parseMeshtasticEndpoint } from "./endpoint.ts";
import { type Radio, RadioDoor, type RadioState } from "./radio.ts";

/** A radio that restarts is back before; after that its links end, ms. */
const GONE_MS = 300_000;
/** What a dial waits for a radio that is starting, ms. */
const READY_MS = 10_000;
/** A handshake takes three packets and what waits before them, ms. */
const DIAL_TIMEOUT_MS = 30 * 60_000;

export default definePlugin({
  id: "meshtastic",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["service:*"],
  config: meshtasticConfig,
  warnings: ({ hops }) =>
    hops > 1
      ? [
          `hops = ${hops} costs ${hops + 1} times the airtime for each packet, of everybody in earshot of a relay`,
        ]
      : [],
  start(ctx, config) {
    const dropped = ctx.counter("dropped", "packets on this port that were not taken", ["reason"]);
    const refused = ctx.counter("refused", "packets that the radio's owner did not send", ["reason"]);
    const saved = ctx.gauge(
      "airtime_saved_ms",
      "own airtime that is not used yet, milliseconds; below 0: owed",
    );
    let state: RadioState | undefined;
    let utilisation = 1;
    let air: Air | undefined;
    let goneTimer: Timer | undefined;

    const leave = (why: string) => {
      air?.close(why);
      air = undefined;
    };
    const door: RadioDoor = new RadioDoor(ctx, config.radio, config.port, {
      state: (next) => {
        state = next;
        // What it was counts until a radio that is gone is back.
        utilisation = next?.airtime.utilisation ?? utilisation;
        onState();
      },
      packet: (packet) => air?.hear(packet),
      room: () => air?.again(),
      refused: (reason) => refused.add(1, { reason: /^[a-z_]{1,32}$/.test(reason) ? reason : "other" }),
    });
    const onState = () => {
      const radio = state?.radio ?? undefined;
      const channel = radio && channelOf(radio, config);
      const trouble = troubleOf(state, channel, config);
      if (trouble !== undefined) ctx.health({ state: "degraded", reason: trouble });
      if (radio === undefined) {
        ctx.transport.listening([]);
        goneTimer ??= ctx.clock.after(GONE_MS, () => leave("the radio is gone"));
        return;
      }
      goneTimer?.cancel();
      goneTimer = undefined;
      if (channel === undefined || radio.mayNotSend !== null) {
        ctx.transport.listening([]);
        return leave(trouble ?? "the radio may not send");
      }
      if (air === undefined || keyOf(radio, channel) !== airKey) {
        leave("the radio is another one, or has another channel");
        airKey = keyOf(radio, channel);
        air = newAir(radio, channel);
        if (channel.isPublic)
          ctx.log.warn("everybody's channel", {
            channel: channel.name,
            advice: "make one of your own in the radio, with a key, and name it in channel",
          });
        ctx.transport.register({
          schemes: ["meshtastic"],
          dialTimeoutMs: DIAL_TIMEOUT_MS,
          medium: air.medium,
          dial,
        });
      }
      readiness.tell();
      const { busy } = air;
      if (trouble === undefined)
        ctx.health(
          busy === undefined
            ? { state: "running" }
            : {
                state: "degraded",
                reason: `the channel is busy (${Math.round(100 * busy)} %): mail waits, alarms go`,
              },
        );
      ctx.transport.listening([air.endpoint]);
      saved.set(air.savedMs);
      air.again();
    };
    let airKey = "";
    const newAir = (radio: Radio, channel: Radio["channels"][number]) =>
      new Air({
        clock: ctx.clock,
        random: ctx.random,
        instance: ctx.instance,
        transport: ctx.transport,
        radio,
        channel,
        port: config.port,
        hops: config.hops,
        share: config.airtime_percent / 100,
        utilisation: () => utilisation,
        send: (send, payload, done) => door.send(send, payload, done),
        dropped: (reason) => dropped.add(1, { reason }),
      });
    /** Who dials while the radio is starting waits a moment. */
    const dial = async (endpoint: string, signal: AbortSignal) => {
      signal.throwIfAborted();
      parseMeshtasticEndpoint(endpoint);
      if (air === undefined || state?.radio === undefined) await readiness.wait(signal);
      if (air === undefined || state?.radio === undefined)
        throw failed(endpoint, troubleOf(state, undefined, config) ?? "the radio is not there");
      return air.dial(endpoint);
    };
    const readiness = new Readiness(ctx.clock);

    ctx.transport.register({ schemes: ["meshtastic"], dialTimeoutMs: DIAL_TIMEOUT_MS, dial });
    ctx.own(() => {
      goneTimer?.cancel();
      readiness.tell();
      leave("the transport stops");
    });
    ctx.spawn("radio", (signal) => door.run(signal));
    onState();
  },
});

/** Whoever waits for the radio, for a bounded time. */
class Readiness {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  tell(): void {
    for (const done of [...this.#waiting]) done();
  }

  /** Resolves when it is ready, or after the time; rejects with the signal's reason. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = () => {
        this.#waiting.delete(finish);
        timer.cancel();
        signal.removeEventListener("abort", finish);
        if (signal.aborted) reject(signal.reason as Error);
        else resolve();
      };
      const timer = this.#clock.after(READY_MS, finish);
      this.#waiting.add(finish);
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}

const channelOf = ({ channels }: Radio, { channel }: MeshtasticConfig) =>
  channel === undefined
    ? channels.find(({ index }) => index === 0)
    : channels.find(({ name }) => name === channel);

/** What makes pipes and medium what they are. */
const keyOf = ({ number, rateBitsPerSecond, costs }: Radio, channel: Radio["channels"][number]): string =>
  JSON.stringify([number, rateBitsPerSecond, costs, channel]);

/** One reason, for people; undefined: it works. */
function troubleOf(
  state: RadioState | undefined,
  channel: Radio["channels"][number] | undefined,
  { radio, channel: wanted }: MeshtasticConfig,
): string | undefined {
  if (state === undefined) return `there is no [services.${radio}] of type "radio" that runs`;
  if (state.radio === null) return state.trouble ?? "the radio is not ready";
  if (state.radio.mayNotSend !== null) return state.radio.mayNotSend;
  if (channel === undefined)
    return wanted === undefined
      ? "the radio has no primary channel"
      : `the radio has no channel "${wanted}": make it there, with a key of your own`;
  return state.trouble ?? undefined;
}
