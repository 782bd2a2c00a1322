/**
 * What gateways publish through a broker, `msh/REGION/2/e/CHANNEL/GATEWAY`: each message one packet and who heard it. Subscribes with quality 0 and publishes nothing. The
 * broker is not trusted: what it may send is bounded before anything of it is decoded.
 */
import { readFile } from "node:fs/promises";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import type { MqttClient } from "mqtt";
import { type Clock, type HostPort, type Random, type Timer, TokenBucket } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";
import type { Secret } from "@godwit/sdk/secret";
import { MqttFilter } from "./mqtt-filter.ts";
import { decodeEnvelope, type MeshPacket } from "./protocol.ts";
import type { OpenTap, Published, TapIgnored } from "./tap.ts";
import { unreachable } from "./wire.ts";

/** From the first packet to the broker's answer to what is subscribed, ms. */
const CONNECT_MS = 30_000;
const KEEPALIVE_S = 60;
/** Read from a broker in a second on the average, and at once; then it waits. */
const BYTES_PER_SECOND = 262_144;
const BYTES_BURST = 1_048_576;
/** What each part of a packet costs beside its bytes: one of two bytes is decoded as well. */
const PART_BYTES = 128;
const PACE_MS = 250;
/** Answers of brokers to a subscription that they refuse (MQTT 3.1.1, section 3.9.3). */
const REFUSED = 0x80;

export interface MqttPlace extends HostPort {
  readonly isTls: boolean;
}

export interface MqttOptions {
  readonly place: MqttPlace;
  readonly topics: readonly string[];
  readonly user: string | undefined;
  readonly password: Secret | undefined;
  /** Path of certificates in PEM; undefined: those that the system trusts. Read each time: they are renewed. */
  readonly ca: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

export const openMqtt =
  ({ place, topics, user, password, ca, clock, random }: MqttOptions): OpenTap =>
  async (handlers, signal) => {
    signal.throwIfAborted();
    const what = `${place.host}:${place.port}`;
    // Most nodes never speak to a broker.
    const mqtt = await import("mqtt");
    const certificates =
      ca === undefined
        ? undefined
        : await readFile(ca, "utf8").catch((cause: unknown) => {
            throw unreachable(what, cause);
          });
    claimDescriptor("link");
    const stream = new BrokerStream(place, certificates, clock, () => handlers.ignored("too_long"));
    const client = new mqtt.MqttClient(() => stream, {
      protocol: place.isTls ? "mqtts" : "mqtt",
      protocolVersion: 4,
      clientId: `godwit-${Buffer.from(random.bytes(6)).toString("hex")}`,
      clean: true,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_MS,
      // The tap decides when.
      reconnectPeriod: 0,
      ...(user === undefined ? {} : { username: user }),
      ...(password === undefined ? {} : { password: Buffer.from(password.reveal()) }),
    });
    let isOver = false;
    let why: string | undefined;
    const ended = Promise.withResolvers<never>();
    ended.promise.catch(() => {});
    const gone = () => {
      if (isOver) return;
      isOver = true;
      const reason = why ?? "the broker closed the connection";
      ended.reject(new Error(reason));
      handlers.closed(reason);
    };
    // The library takes it for an end like any other.
    stream.on("error", (error: Error) => void (why ??= error.message));
    client.on("error", (error: Error) => {
      why ??= error.message;
      gone();
      client.end(true);
    });
    client.on("close", gone);
    client.on("message", (topic, bytes, { retain }) => {
      if (isOver) return;
      if (retain) return handlers.ignored("retained");
      const published = parseTopic(topic);
      if (published === undefined) return handlers.ignored("topic");
      handlers.packet(bytes, (it) => packetOf(it, published), published);
    });
    const close = async () => {
      isOver = true;
      await new Promise<void>((resolve) => client.end(true, () => resolve()));
      stream.destroy();
    };
    const onAbort = () => ended.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([subscribed(client, topics, clock), ended.promise]);
      return { close };
    } catch (cause) {
      await close();
      throw signal.aborted ? signal.reason : unreachable(what, cause);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  };

/** Resolves when the broker has accepted all of them. */
async function subscribed(client: MqttClient, topics: readonly string[], clock: Clock): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = clock.after(CONNECT_MS, () => late.reject(new Error("the broker does not answer")));
  try {
    const granted = await Promise.race([client.subscribeAsync([...topics], { qos: 0 }), late.promise]);
    const refused = granted.find(({ qos }) => (qos as number) >= REFUSED);
    if (refused !== undefined) throw new Error(`the broker refuses the topic ${refused.topic}`);
  } finally {
    timer.cancel();
  }
}

/** Undefined: not where gateways publish packets. */
export function parseTopic(topic: string): Published | undefined {
  const [, channelName, gateway] = /(?:^|\/)2\/e\/([^/]{1,32})\/(![0-9a-f]{8})$/.exec(topic) ?? [];
  return gateway === undefined ? undefined : { gateway, channelName: channelName! };
}

/** Brokers judge who may publish by the topic: what the message says otherwise is another's. */
function packetOf(bytes: Uint8Array, { gateway, channelName }: Published): MeshPacket | TapIgnored {
  const envelope = decodeEnvelope(bytes);
  if (envelope === undefined) return "malformed";
  if (envelope.packet === undefined) return "envelope";
  return envelope.gatewayId === gateway && envelope.channelId === channelName ? envelope.packet : "gateway";
}

/** A connection to a broker, of which only what may come is passed on, at a pace. */
class BrokerStream extends Duplex {
  readonly #socket: Socket;
  readonly #filter: MqttFilter;
  readonly #pace: TokenBucket;
  readonly #clock: Clock;
  #timer: Timer | undefined;
  /** Read and not paid for, bytes. */
  #owed = 0;
  #hasRoom = true;

  constructor({ host, port, isTls }: MqttPlace, ca: string | undefined, clock: Clock, tooLong: () => void) {
    super();
    this.#clock = clock;
    this.#pace = new TokenBucket(clock, BYTES_PER_SECOND, BYTES_BURST);
    this.#filter = new MqttFilter(tooLong);
    this.#socket = isTls
      ? connectTls({
          host,
          port,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...(ca === undefined ? {} : { ca }),
        })
      : connectTcp({ host, port });
    this.#socket.setNoDelay(true);
    this.#socket.on("data", (bytes: Uint8Array) => this.#onData(bytes));
    this.#socket.on("end", () => this.push(null));
    this.#socket.on("close", () => this.destroy());
    this.#socket.on("error", (error: Error) => this.destroy(error));
  }

  #onData(bytes: Uint8Array): void {
    if (this.destroyed) return;
    let parts = 0;
    try {
      for (const part of this.#filter.push(bytes)) {
        parts++;
        this.#hasRoom = this.push(Buffer.from(part));
      }
    } catch (error) {
      return void this.destroy(error as Error);
    }
    this.#owed += bytes.length + PART_BYTES * parts;
    if (this.#timer === undefined) this.#pay();
  }

  /** What came is paid for before more is read. */
  #pay(): void {
    this.#timer = undefined;
    if (this.destroyed) return;
    const part = Math.min(this.#owed, BYTES_BURST);
    if (this.#pace.take(part)) this.#owed -= part;
    if (this.#owed === 0 && this.#hasRoom) return void this.#socket.resume();
    this.#socket.pause();
    if (this.#owed > 0) this.#timer = this.#clock.after(PACE_MS, () => this.#pay());
  }

  override _read(): void {
    this.#hasRoom = true;
    if (this.#timer === undefined) this.#socket.resume();
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // Why it failed is said by the socket.
    this.#socket.write(bytes, () => done());
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#timer?.cancel();
    this.#socket.destroy();
    done(error);
  }
}
