/** The door of a radio in memory (docs/meshtastic.md, "The door"), for plugins that use one: `hear` makes it hear a packet, `sent` is what it was told to send. */
import { GodwitError, type OfferedService, type ServiceChannel } from "../src/index.ts";

/** What a radio hears. */
export interface RadioPacket {
  readonly from: number;
  /** 0xffffffff: everybody. */
  readonly to: number;
  readonly id: number;
  /** Null: it could not be read. */
  readonly port: number | null;
  readonly payload: Uint8Array;
}

export interface RadioSend {
  readonly tag: number;
  readonly port: number;
  readonly to: number;
  readonly payload: Uint8Array;
}

interface RadioUser {
  readonly channel: ServiceChannel;
  readonly ports: "all" | readonly number[];
  readonly isRaw: boolean;
}

/** What the firmware says of itself. */
const FORBIDDEN_PORTS: readonly number[] = [4, 5, 6];
const PORTS_MAX = 16;

export class FakeRadioDoor implements OfferedService {
  readonly sent: RadioSend[] = [];
  readonly #users = new Set<RadioUser>();

  /** JSON, as the request `state` answers it. */
  state(): Record<string, unknown> {
    const airtime = { utilisation: 0, hourMs: 0, hourMaxMs: 36_000, totalMs: 0, waiting: 0, inFlight: 0 };
    return {
      version: 1,
      name: "test",
      where: "nowhere",
      phase: "ready",
      trouble: null,
      airtime,
      radio: null,
    };
  }

  async request({ ask }: Parameters<NonNullable<OfferedService["request"]>>[0]) {
    if (ask !== "state") throw invalid('it answers "state"');
    return Promise.resolve({ json: this.state() });
  }

  channel(
    channel: ServiceChannel,
    { ask, json }: Parameters<NonNullable<OfferedService["channel"]>>[1],
  ): void {
    const ports = ask === "use" ? portsOf(json) : undefined;
    if (ports === undefined)
      throw invalid("a channel is opened with version 1 and the ports that are wanted");
    const isRaw = (json as { readonly raw?: unknown }).raw === true;
    const user: RadioUser = { channel, ports, isRaw };
    this.#users.add(user);
    channel.open({
      message: ({ json: said, bytes }) => this.onMessage(channel, said, bytes),
      drain() {},
      closed: () => void this.#users.delete(user),
    });
    this.tell(channel, { t: "state", state: this.state() });
  }

  hear(heard: RadioPacket): void {
    const { payload, ...packet } = heard;
    const json = {
      ...{ t: "packet", requestId: 0, hopLimit: 3, hopStart: 3, relay: 0, snr: 0, rssi: 0, rxTime: 0 },
      ...{ isPki: false, viaMqtt: false, transport: 1, source: "tcp", gateway: null },
      ...{ readBy: null, channel: 0, channelName: null, numberProof: "unknown", ...packet },
    };
    for (const { channel, ports, isRaw } of this.#users)
      if (this.wants(ports, packet.port)) this.tell(channel, json, isRaw ? rawOf(heard) : payload);
  }

  protected wants(ports: RadioUser["ports"], port: number | null): boolean {
    return ports === "all" || (port !== null && ports.includes(port));
  }

  protected onMessage(channel: ServiceChannel, json: unknown, bytes: Uint8Array): void {
    const said = json as (Partial<Omit<RadioSend, "payload">> & { readonly t?: unknown }) | null;
    if (said?.t !== "send" || !isCount(said.tag) || !isCount(said.port) || !isCount(said.to)) return;
    const { tag, port, to } = said;
    if (FORBIDDEN_PORTS.includes(port))
      return this.tell(channel, { t: "done", tag, outcome: "refused", reason: "port" });
    this.sent.push({ tag, port, to, payload: bytes.slice() });
    this.tell(channel, { t: "done", tag, outcome: "left" });
  }

  protected tell(channel: ServiceChannel, json: unknown, bytes: Uint8Array = new Uint8Array(0)): void {
    channel.send({ json, bytes });
  }
}

/** `MeshPacket` of Meshtastic's protobufs, as far as this knows it. */
function rawOf({ from, to, id, port, payload }: RadioPacket): Uint8Array {
  const fixed = (tag: number, value: number) => [tag, ...new Uint8Array(Uint32Array.of(value).buffer)];
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
  const bytes = (tag: number, value: ArrayLike<number>) => [
    tag,
    ...varint(value.length),
    ...Array.from(value),
  ];
  const data =
    port === null ? bytes(0x2a, payload) : bytes(0x22, [0x08, ...varint(port), ...bytes(0x12, payload)]);
  return Uint8Array.from([...fixed(0x0d, from), ...fixed(0x15, to), ...data, ...fixed(0x35, id)]);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Undefined: no opening of a channel. */
function portsOf(json: unknown): RadioUser["ports"] | undefined {
  const { version, packets } = (json ?? {}) as { readonly version?: unknown; readonly packets?: unknown };
  if (version !== 1) return undefined;
  if (packets === "all") return packets;
  return Array.isArray(packets) && packets.length <= PORTS_MAX && packets.every(isCount)
    ? packets
    : undefined;
}

const invalid = (message: string) =>
  new GodwitError("GODWIT_REQUEST_INVALID", message, { kind: "protocol", retry: "never" });
