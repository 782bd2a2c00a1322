/**
 * A radio for tests of the session: the stream API over TCP as firmware 2.8 speaks it, with a queue that empties at once, and whatever faults a test asks for. What it
 * puts on the air, and how the air is, is `FakeEther`: everybody hears everybody, nothing takes time. Not the emulator: no flooding, no airtime, no retries.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Channel, Config, Mesh, Telemetry } from "@meshtastic/protobufs";
import type { Socket } from "bun";
import { encodeFrame, FrameReader } from "./frames.ts";
import { numberOfKey } from "./names.ts";

export const BROADCAST = 0xffff_ffff;

export interface FakeRadioOptions {
  readonly publicKey?: Uint8Array;
  readonly firmware?: string;
  readonly region?: number;
  readonly preset?: number;
  readonly isLicensed?: boolean;
  readonly isTxEnabled?: boolean;
  readonly channelName?: string;
  readonly psk?: Uint8Array;
}

/** What it does wrong; each may be changed at any time. */
export interface Faults {
  /** Before each frame. */
  noise: Uint8Array;
  isLocked: boolean;
  isMute: boolean;
  /** Of `configCompleteId`, added. */
  nonceOffset: number;
  /** Of what a handshake says, left out. */
  leavesOut: "myInfo" | "metadata" | "lora" | "self" | undefined;
  queue: "honest" | "always full" | "no answer" | "nonsense" | "refuses";
}

export class FakeEther {
  readonly radios = new Set<FakeRadio>();
  /** All that was sent, in order. */
  readonly sent: { readonly from: number; readonly packet: Mesh.MeshPacket }[] = [];

  send(from: FakeRadio, packet: Mesh.MeshPacket): void {
    this.sent.push({ from: from.number, packet });
    for (const radio of this.radios)
      if (radio !== from && (packet.to === BROADCAST || packet.to === radio.number)) radio.deliver(packet);
  }
}

export class FakeRadio {
  readonly options: FakeRadioOptions;
  readonly ether: FakeEther;
  readonly publicKey: Uint8Array;
  number: number;
  readonly faults: Faults = {
    noise: new Uint8Array(0),
    isLocked: false,
    isMute: false,
    nonceOffset: 0,
    leavesOut: undefined,
    queue: "honest",
  };
  /** Requests for all of its configuration. */
  handshakes = 0;
  readonly heartbeatNonces: number[] = [];
  disconnects = 0;
  #server: { readonly port: number; stop(closeActive: boolean): void };
  #socket: Socket | undefined;
  #ids = 1;

  constructor(ether = new FakeEther(), options: FakeRadioOptions = {}) {
    this.options = options;
    this.ether = ether;
    this.publicKey = options.publicKey ?? new Uint8Array(32).fill(ether.radios.size + 1);
    this.number = numberOfKey(this.publicKey);
    ether.radios.add(this);
    this.#server = this.#listen(0);
  }

  get port(): number {
    return this.#server.port;
  }

  get isConnected(): boolean {
    return this.#socket !== undefined;
  }

  close(): void {
    this.ether.radios.delete(this);
    this.#server.stop(true);
  }

  /** As when the cable is pulled; the port stays. */
  cut(): void {
    this.#socket?.terminate();
  }

  /** It says that it restarted, on the connection that stands. */
  restart(): void {
    this.say({ case: "rebooted", value: true });
  }

  say(payloadVariant: Mesh.FromRadio["payloadVariant"]): void {
    this.sayBytes(
      toBinary(Mesh.FromRadioSchema, create(Mesh.FromRadioSchema, { id: this.#ids++, payloadVariant })),
    );
  }

  sayBytes(body: Uint8Array): void {
    if (!this.faults.isMute) this.write(Buffer.concat([this.faults.noise, encodeFrame(body)]));
  }

  write(bytes: Uint8Array): void {
    this.#socket?.write(bytes);
  }

  deliver(packet: Mesh.MeshPacket): void {
    this.say({ case: "packet", value: packet });
  }

  /** What it says of the channel each minute. */
  sayUtilisation(channelUtilization: number, airUtilTx = 0): void {
    const metrics = create(Telemetry.DeviceMetricsSchema, { channelUtilization, airUtilTx });
    const payload = toBinary(
      Telemetry.TelemetrySchema,
      create(Telemetry.TelemetrySchema, { variant: { case: "deviceMetrics", value: metrics } }),
    );
    this.deliver(packetOf(this.number, BROADCAST, 67, payload));
  }

  #listen(port: number) {
    const readers = new Map<Socket, FrameReader>();
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port,
      socket: {
        open: (socket) => {
          // A new connection closes the one before, as the firmware does.
          this.#socket?.terminate();
          this.#socket = socket;
          readers.set(socket, new FrameReader({ frame: (body) => this.#onFrame(body), noise: () => {} }));
        },
        data: (socket, bytes) => readers.get(socket)?.push(bytes, 0),
        close: (socket) => {
          readers.delete(socket);
          if (this.#socket === socket) this.#socket = undefined;
        },
      },
    });
    return { port: server.port, stop: (isHard: boolean) => server.stop(isHard) };
  }

  #onFrame(body: Uint8Array): boolean {
    const { payloadVariant } = fromBinary(Mesh.ToRadioSchema, body);
    if (payloadVariant.case === "wantConfigId") this.#handshake(payloadVariant.value);
    else if (payloadVariant.case === "heartbeat") {
      this.heartbeatNonces.push(payloadVariant.value.nonce);
      this.#sayQueue(0, 0);
    } else if (payloadVariant.case === "disconnect") this.disconnects++;
    else if (payloadVariant.case === "packet") this.#send(payloadVariant.value);
    return true;
  }

  #send(packet: Mesh.MeshPacket): void {
    const { queue } = this.faults;
    if (queue === "refuses") return this.#sayQueue(9, packet.id);
    this.#sayQueue(0, packet.id);
    packet.from = this.number;
    packet.hopStart = packet.hopLimit;
    this.ether.send(this, packet);
  }

  #sayQueue(res: number, meshPacketId: number): void {
    const { queue } = this.faults;
    if (queue === "no answer") return;
    const free = queue === "always full" ? 0 : queue === "nonsense" ? 4_000_000_000 : 16;
    const value = create(Mesh.QueueStatusSchema, { res, free, maxlen: 16, meshPacketId });
    this.say({ case: "queueStatus", value });
  }

  #handshake(nonce: number): void {
    this.handshakes++;
    const { options, faults } = this;
    const { leavesOut } = faults;
    if (leavesOut !== "myInfo")
      this.say({ case: "myInfo", value: create(Mesh.MyNodeInfoSchema, { myNodeNum: this.number }) });
    if (faults.isLocked) {
      // lockdown_status { state: LOCKED }, which the definitions do not have yet.
      this.sayBytes(Uint8Array.of(0x92, 0x01, 0x02, 0x08, 0x02));
      return this.say({ case: "configCompleteId", value: nonce });
    }
    const user = create(Mesh.UserSchema, {
      longName: "a radio",
      shortName: "RDIO",
      isLicensed: options.isLicensed ?? false,
      publicKey: this.publicKey,
    });
    if (leavesOut !== "self")
      this.say({ case: "nodeInfo", value: create(Mesh.NodeInfoSchema, { num: this.number, user }) });
    if (leavesOut !== "metadata") {
      const firmwareVersion = options.firmware ?? "2.8.0.7754068";
      const metadata = toBinary(
        Mesh.DeviceMetadataSchema,
        create(Mesh.DeviceMetadataSchema, { firmwareVersion, hasPKC: true }),
      );
      // has_xeddsa, field 14, by hand.
      const signs = firmwareVersion.startsWith("2.8") ? [0x70, 0x01] : [];
      this.say({
        case: "metadata",
        value: fromBinary(Mesh.DeviceMetadataSchema, Uint8Array.of(...metadata, ...signs)),
      });
    }
    for (let index = 0; index < 8; index++)
      this.say({
        case: "channel",
        value: create(Channel.ChannelSchema, {
          index,
          role: index === 0 ? Channel.Channel_Role.PRIMARY : Channel.Channel_Role.DISABLED,
          settings: create(Channel.ChannelSettingsSchema, {
            name: index === 0 ? (options.channelName ?? "godwit") : "",
            psk: index === 0 ? (options.psk ?? new Uint8Array(32).fill(7)) : new Uint8Array(0),
          }),
        }),
      });
    if (leavesOut !== "lora")
      this.say({
        case: "config",
        value: create(Config.ConfigSchema, {
          payloadVariant: {
            case: "lora",
            value: Object.assign(create(Config.Config_LoRaConfigSchema), {
              usePreset: true,
              modemPreset: options.preset ?? 0,
              region: options.region ?? 3,
              txEnabled: options.isTxEnabled ?? true,
              hopLimit: 3,
            }),
          },
        }),
      });
    this.say({ case: "configCompleteId", value: nonce + faults.nonceOffset });
  }
}

export const packetOf = (
  from: number,
  to: number,
  portnum: number,
  payload: Uint8Array,
  id = 1,
): Mesh.MeshPacket =>
  create(Mesh.MeshPacketSchema, {
    from,
    to,
    id,
    payloadVariant: {
      case: "decoded",
      value: Object.assign(create(Mesh.DataSchema, { payload }), { portnum }),
    },
  });

/** Turns of the event loop in which what must not happen would. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 40; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits until it is so; `step` before each look moves a manual clock. Fails after 10 s. */
export async function until(
  isTrue: () => boolean,
  what: string | (() => string),
  step = () => {},
): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!isTrue()) {
    if (performance.now() > endMs)
      throw new Error(`not within 10 s: ${typeof what === "string" ? what : what()}`);
    step();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
