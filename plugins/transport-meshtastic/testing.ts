/**
 * Radios for tests of the transport, behind the door that service.radio offers: what one sends all others on the same ether hear at once, unless a test says
 * otherwise. Answers as the service does; knows no LoRa and no airtime but the costs that it tells of.
 */
import type { Random, ServiceChannel } from "@godwit/sdk";
import type { FakeServices } from "@godwit/sdk/testkit";

export const BROADCAST = 0xffff_ffff;

export interface Sent {
  readonly from: number;
  readonly to: number;
  readonly id: number;
  readonly port: number;
  readonly rank: number;
  readonly hopLimit: number;
  readonly payload: Uint8Array;
}

interface Sending {
  readonly tag: number;
  readonly port: number;
  readonly to: number;
  readonly rank: number;
  readonly hopLimit: number;
}

export class FakeAir {
  readonly radios: FakeDoor[] = [];
  readonly sent: Sent[] = [];
  #ids = 1;

  send(from: FakeDoor, { port, to, rank, hopLimit }: Sending, payload: Uint8Array): void {
    const sent = { from: from.number, to, id: this.#ids++, port, rank, hopLimit, payload: payload.slice() };
    this.sent.push(sent);
    for (const radio of this.radios)
      if (radio !== from && (to === BROADCAST || to === radio.number)) radio.hear(sent);
  }
}

export class FakeDoor {
  readonly name: string;
  number: number;
  utilisation = 0;
  costMs = 10;
  mayNotSend: string | null = null;
  tag = "5f21";
  isReady = true;
  /** What becomes of what it is handed: at once, or never. */
  answers = true;
  outcome = "left";
  readonly #air: FakeAir;
  readonly #users = new Set<{ readonly channel: ServiceChannel; readonly ports: readonly number[] }>();

  /** Offers `radio.NAME` until `stopped`. */
  constructor(air: FakeAir, services: FakeServices, name: string, number: number, stopped: AbortSignal) {
    this.#air = air;
    this.name = name;
    this.number = number;
    air.radios.push(this);
    services.door(`service.${name}`, stopped).offer(`radio.${name}`, {
      channel: (channel, { json }) => this.#open(channel, json),
    });
  }

  get users(): number {
    return this.#users.size;
  }

  /** After something of it has changed. */
  tell(): void {
    for (const { channel } of this.#users) channel.send({ json: { t: "state", state: this.#state() } });
  }

  hear({ from, to, id, port, payload }: Sent, more: object = {}): void {
    const json = { t: "packet", from, to, id, channel: 0, port, isPki: false, viaMqtt: false, ...more };
    for (const { channel, ports } of this.#users)
      if (ports.includes(port)) channel.send({ json, bytes: payload });
  }

  #open(channel: ServiceChannel, opening: unknown): void {
    const { packets } = opening as { readonly packets: readonly number[] };
    const user = { channel, ports: packets };
    this.#users.add(user);
    channel.open({
      message: ({ json, bytes }) => this.#onSend(channel, json as Sending, bytes),
      drain: () => {},
      closed: () => void this.#users.delete(user),
    });
    channel.send({ json: { t: "state", state: this.#state() } });
  }

  #onSend(channel: ServiceChannel, sending: Sending, bytes: Uint8Array): void {
    if (!this.answers) return;
    if (this.outcome === "left") this.#air.send(this, sending, bytes);
    channel.send({ json: { t: "done", tag: sending.tag, outcome: this.outcome } });
  }

  #state() {
    const costs = Array.from({ length: 234 }, () => this.costMs);
    return {
      trouble: this.isReady ? this.mayNotSend : "it has not answered yet",
      airtime: { utilisation: this.utilisation },
      radio: !this.isReady
        ? null
        : {
            number: this.number,
            id: "!0",
            isLicensed: false,
            dutyCycle: 0.1,
            preset: "LongFast",
            // Of what costs so little.
            rateBitsPerSecond: 200_000,
            slotMs: 28,
            mayNotSend: this.mayNotSend,
            channels: [{ index: 0, name: "godwit", isPublic: false, tag: this.tag }],
            costs: { one: costs, all: costs },
          },
    };
  }
}

export const numberOf = (random: Random): number => 1 + random.below(0xffff_fff0);
