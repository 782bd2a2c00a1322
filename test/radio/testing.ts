/** A client of a radio for tests: what it hears, in order, and what it says. Encodes and decodes by the published definitions alone. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import { SimTime, WORLD_START_MS } from "../sim/time.ts";
import { Ether, type EtherOptions } from "./ether.ts";
import type { PortNumber } from "./packet.ts";
import type { EmulatedRadio } from "./radio.ts";
import { frameMessage, MessageReader } from "./stream.ts";

export type Heard = Mesh.FromRadio["payloadVariant"];
type HeardCase = NonNullable<Heard["case"]>;
type HeardValue<C> = Extract<Heard, { case: C }>["value"];

export const BROADCAST = 0xffff_ffff;

export interface HeardPacket {
  readonly from: number;
  readonly to: number;
  readonly id: number;
  readonly packet: Mesh.MeshPacket;
  readonly data: Mesh.Data;
  /** Its payload. */
  readonly text: string;
}

export class TestClient {
  readonly heard: Mesh.FromRadio[] = [];
  /** What does not decode is no fault of the test. */
  isPatient = false;
  readonly reader = new MessageReader((message) => this.#hear(message), "within");
  closed: string | undefined;
  /** Set by whoever connects it. */
  write: (bytes: Uint8Array) => void = () => {};

  static in(radio: EmulatedRadio): TestClient {
    const client = new TestClient();
    const wire = radio.attach({
      data: (bytes) => client.reader.push(bytes),
      closed: (why) => void (client.closed = why),
    });
    client.write = (bytes) => wire.write(bytes);
    return client;
  }

  say(payloadVariant: NonNullable<MessageInitShape<typeof Mesh.ToRadioSchema>["payloadVariant"]>): void {
    const message = create(Mesh.ToRadioSchema, { payloadVariant });
    this.write(frameMessage(toBinary(Mesh.ToRadioSchema, message)));
  }

  send(
    portnum: PortNumber,
    payload: Uint8Array | string,
    packet: Partial<
      Pick<Mesh.MeshPacket, "to" | "id" | "hopLimit" | "wantAck" | "channel" | "pkiEncrypted">
    > = {},
    data: Partial<Pick<Mesh.Data, "wantResponse" | "replyId">> = {},
  ): void {
    const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
    const value = create(Mesh.MeshPacketSchema, {
      to: BROADCAST,
      hopLimit: 3,
      ...packet,
      payloadVariant: {
        case: "decoded",
        value: create(Mesh.DataSchema, { portnum, payload: bytes, ...data }),
      },
    });
    this.say({ case: "packet", value });
  }

  all<C extends HeardCase>(it: C): HeardValue<C>[] {
    return this.heard.flatMap(({ payloadVariant }) =>
      payloadVariant.case === it ? [payloadVariant.value as HeardValue<C>] : [],
    );
  }

  /** Packets that it could read, of one port. */
  packets(portnum: PortNumber): HeardPacket[] {
    return this.all("packet").flatMap((packet) => {
      if (packet.payloadVariant.case !== "decoded") return [];
      const data = packet.payloadVariant.value;
      if (data.portnum !== portnum) return [];
      const { from, to, id } = packet;
      return [{ from, to, id, packet, data, text: new TextDecoder().decode(data.payload) }];
    });
  }

  #hear(message: Uint8Array): void {
    try {
      this.heard.push(fromBinary(Mesh.FromRadioSchema, message));
    } catch (error) {
      if (!this.isPatient) throw error;
    }
  }

  get isConfigured(): boolean {
    return this.all("configCompleteId").length > 0;
  }
}

/** Radios in virtual time. */
export class TestEther extends Ether {
  readonly sim: SimTime;

  constructor(options: Omit<EtherOptions, "time" | "wallMs"> = {}) {
    const sim = new SimTime();
    super({ ...options, time: sim, wallMs: () => WORLD_START_MS + sim.nowMs });
    this.sim = sim;
  }

  run(ms: number): void {
    this.sim.run(this.sim.nowMs + ms);
  }

  /** A client that has its configuration, and has forgotten what it heard of it. */
  client(radio: EmulatedRadio): TestClient {
    const client = TestClient.in(radio);
    client.say({ case: "wantConfigId", value: 1 });
    this.run(50);
    client.heard.length = 0;
    return client;
  }
}
