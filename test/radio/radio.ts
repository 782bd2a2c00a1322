/**
 * One emulated Meshtastic radio: what it is set to and whom it knows, which outlive a reboot, and one life between two of them. It speaks the
 * device's protocol to clients over TCP, a pseudo-terminal or in memory, and LoRa frames to the other radios of its ether.
 */
import { create } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import type { Random, Timer } from "@godwit/sdk";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { Medium, MediumTime, Station } from "../sim/radio/medium.ts";
import { AdminModule } from "./admin.ts";
import { AirtimeLog } from "./airtime-log.ts";
import { behaviours, type Behaviour, type Firmware } from "./behaviour.ts";
import { Cable, type Wire } from "./cable.ts";
import { newFaults, type Faults } from "./faults.ts";
import { newKeyPair, nodeNumberOf, type KeyPair } from "./keys.ts";
import { Modules, type Beacons } from "./modules.ts";
import { NodeDb } from "./nodes.ts";
import { addVarint, packetOf, type Packet } from "./packet.ts";
import { Phone } from "./phone.ts";
import { presets, rssiOf, snrOf, type PresetName, type RegionName } from "./plan.ts";
import { Router, type Role } from "./router.ts";
import { Sealing, type OpenedFrames, type Verified } from "./sealing.ts";
import { defaultChannel, newUser, Settings, type ChannelOptions } from "./settings.ts";
import { listenTcp, openSerial, type SerialPort, type TcpPort } from "./sockets.ts";
import { Transmitter } from "./transmitter.ts";

const BOOT_MS = 1_500;
/** Of firmware that does so unless it is told otherwise. */
const TELLING = { positionMs: 900_000, telemetryMs: 1_800_000 } as const;
/** Where the plane of positions lies, degrees: Dundee. */
const ORIGIN = { latitude: 56.46, longitude: -2.97 } as const;
const METRES_OF_DEGREE = 111_320;

export interface RadioOptions {
  readonly name?: string;
  readonly firmware?: Firmware;
  /** Changes to what that firmware does. */
  readonly behaviour?: Partial<Behaviour>;
  readonly region?: RegionName;
  readonly role?: Role;
  /** 0 to 7. */
  readonly hopLimit?: number;
  /** The first is the primary one; by default that of the preset with the key that everybody knows. */
  readonly channels?: readonly ChannelOptions[];
  /** An amateur's: nothing is encrypted. */
  readonly isLicensed?: boolean;
  readonly okToMqtt?: boolean;
  /** What it tells the mesh of its own accord. */
  readonly beacons?: Partial<Beacons>;
  /** Metres east and north of anywhere: decides who hears it. */
  readonly position?: readonly [number, number];
  /** Words that unlock it; with them it tells clients nothing before (2.8). */
  readonly passphrase?: string;
  readonly faults?: Partial<Faults>;
  /** Between two lives, ms. */
  readonly bootMs?: number;
}

export interface Surroundings {
  readonly time: MediumTime;
  readonly medium: Medium<EmulatedRadio, Uint8Array>;
  readonly preset: PresetName;
  readonly random: Random;
  readonly verified: Verified;
  readonly opened: OpenedFrames;
  readonly wallMs: () => number;
}

/** A client in memory, for virtual time. */
export interface MemoryClient {
  /** Borrowed. */
  data(bytes: Uint8Array): void;
  /** Once, last; not after an own `close`. */
  closed(why: string): void;
}

export class EmulatedRadio implements Station<Uint8Array> {
  readonly name: string;
  readonly settings: Settings;
  readonly nodes: NodeDb;
  readonly faults: Faults;
  readonly keys: KeyPair;
  readonly options: RadioOptions;
  airtime: AirtimeLog;
  transmitter: Transmitter;
  router: Router;
  isShielded = false;
  /** Each packet that it heard, as it was on the air. */
  onHeard: (packet: Packet) => void = () => {};
  readonly #air: Surroundings;
  readonly #random: Random;
  readonly #mac: Uint8Array;
  readonly #numbers: { readonly byKey: number; readonly byMac: number };
  readonly #phone: Phone;
  readonly #sealing: Sealing;
  readonly #admin: AdminModule;
  readonly #cables = new Map<Cable, "cable" | "network">();
  readonly #tcpPorts: TcpPort[] = [];
  readonly #serialPorts = new Set<SerialPort>();
  #modules: Modules;
  #behaviour: Behaviour;
  #names: { longName: string; shortName: string };
  #isLicensed: boolean;
  #isOn = true;
  #boots = 1;
  #timer: Timer | undefined;

  constructor(air: Surroundings, options: RadioOptions, index: number) {
    this.#air = air;
    this.options = options;
    this.#random = seededRandom(air.random.below(2 ** 32));
    this.keys = newKeyPair(this.#random);
    this.#mac = this.#random.bytes(6);
    this.#numbers = {
      byKey: nodeNumberOf(this.keys.publicKey),
      byMac: new DataView(this.#mac.buffer).getUint32(2),
    };
    this.name = options.name ?? `radio ${index}`;
    this.#names = { longName: this.name, shortName: index.toString(36).padStart(4, "0").slice(-4) };
    this.#behaviour = { ...behaviours[options.firmware ?? "2.8"], ...options.behaviour };
    this.#isLicensed = options.isLicensed ?? false;
    this.faults = { ...newFaults(), ...options.faults };
    this.settings = new Settings({
      preset: air.preset,
      region: options.region ?? "EU_868",
      role: options.role ?? "client",
      hopLimit: options.hopLimit ?? 3,
      channels: options.channels ?? [defaultChannel],
      keys: this.keys,
      okToMqtt: options.okToMqtt ?? false,
    });
    this.nodes = new NodeDb(() => this.number);
    this.#sealing = this.#newSealing();
    this.#admin = this.#newAdmin();
    [this.airtime, this.transmitter, this.router, this.#modules] = this.#newLife();
    this.#phone = this.#newPhone();
    this.nodes.touch(this.number);
    this.#modules.start();
  }

  get behaviour(): Behaviour {
    return this.#behaviour;
  }

  get number(): number {
    return this.#behaviour.numbersByKey ? this.#numbers.byKey : this.#numbers.byMac;
  }

  get user(): Mesh.User {
    return newUser(this.number, this.#names, this.#mac, this.keys.publicKey, this.#isLicensed);
  }

  /** As it tells it: exact. Undefined: it knows of none. */
  get position(): Mesh.Position | undefined {
    if (this.options.position === undefined) return undefined;
    const [east, north] = this.options.position;
    const latitude = ORIGIN.latitude + north / METRES_OF_DEGREE;
    const longitude =
      ORIGIN.longitude + east / (METRES_OF_DEGREE * Math.cos((ORIGIN.latitude * Math.PI) / 180));
    return create(Mesh.PositionSchema, {
      latitudeI: Math.round(latitude * 1e7),
      longitudeI: Math.round(longitude * 1e7),
      time: this.#wallSeconds(),
      precisionBits: 32,
    });
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  /** For which a client had no room. */
  get lost(): number {
    return this.#phone.lost;
  }

  noteBusy(ms: number): void {
    // Its own are noted where they are sent.
    if (this.#isOn && !this.#isSending) this.airtime.note(ms, false);
  }

  hear(frame: Uint8Array, dB: number): void {
    const packet = packetOf(frame);
    if (packet !== undefined) {
      const { lora } = presets[this.#air.preset];
      packet.rxSnr = snrOf(lora, dB);
      // Zero would say that it was sent here.
      packet.rxRssi = rssiOf(lora, dB) || -1;
      packet.rxTime = this.#wallSeconds();
      this.onHeard(packet);
      this.router.receive(packet);
    }
    this.transmitter.heard();
  }

  /** 0: a port that is free. */
  async listenTcp(options: { host?: string; port?: number } = {}): Promise<TcpPort> {
    const { host = "127.0.0.1", port = 0 } = options;
    const listening = await listenTcp({ host, port }, (wire) => this.#connect(wire, "network"));
    this.#tcpPorts.push(listening);
    return listening;
  }

  openPty(options: { link?: string } = {}): SerialPort {
    const port = openSerial({ link: options.link }, (wire) => this.#connect(wire, "cable"));
    this.#serialPorts.add(port);
    return port;
  }

  /** In memory, in whichever time the ether runs. */
  attach(client: MemoryClient): { write(bytes: Uint8Array): void; close(): void } {
    const { time } = this.#air;
    let isOver = false;
    const later = (fn: () => void) => void time.after(0, () => (isOver ? undefined : fn()));
    const cable = this.#connect(
      {
        write: (bytes) => {
          const own = bytes.slice();
          later(() => client.data(own));
          return true;
        },
        close: () =>
          later(() => {
            isOver = true;
            client.closed("the radio closed the connection");
          }),
      },
      "cable",
    );
    if (cable === undefined) later(() => client.closed("the radio is off"));
    return {
      write: (bytes) => {
        const own = bytes.slice();
        later(() => cable?.receive(own));
      },
      close: () => {
        isOver = true;
        cable?.ended();
      },
    };
  }

  /** As after a fault, an update, or because its owner wants it: connections by network end, those by cable hear that it is back. */
  reboot(options: { firmware?: Firmware; behaviour?: Partial<Behaviour> } = {}): void {
    this.#off();
    for (const [cable, by] of [...this.#cables]) if (by === "network") cable.close();
    if (options.firmware !== undefined) this.#behaviour = behaviours[options.firmware];
    this.#behaviour = { ...this.#behaviour, ...options.behaviour };
    this.#timer = this.#air.time.after(this.options.bootMs ?? BOOT_MS, () => this.#boot());
  }

  /** No current: whoever was connected finds nothing. */
  unplug(): void {
    this.#off();
    for (const cable of [...this.#cables.keys()]) cable.close();
    for (const port of this.#serialPorts) port.close();
    this.#serialPorts.clear();
  }

  /** With current again; serial ports are opened anew by `openPty`. */
  plug(): void {
    this.#timer?.cancel();
    this.#timer = this.#air.time.after(this.options.bootMs ?? BOOT_MS, () => this.#boot());
  }

  async close(): Promise<void> {
    this.unplug();
    await Promise.all(this.#tcpPorts.splice(0).map((port) => port.close()));
  }

  #off(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#isOn = false;
    this.#modules.stop();
    this.router.clear();
    this.transmitter.clear();
    this.#phone.clear();
  }

  #boot(): void {
    this.#timer = undefined;
    this.#boots++;
    this.#sealing.forgetChannels();
    this.#isOn = true;
    [this.airtime, this.transmitter, this.router, this.#modules] = this.#newLife();
    this.nodes.touch(this.number);
    this.#modules.start();
    for (const cable of this.#cables.keys()) cable.tellRebooted();
  }

  /** By cable there is somebody as soon as there is current, by the network when it has started. */
  #connect(wire: Wire, by: "cable" | "network"): Cable | undefined {
    if (!this.#isOn && (by === "network" || this.#timer === undefined)) return undefined;
    const cable = new Cable({
      time: this.#air.time,
      random: this.#random,
      faults: () => this.faults,
      wire,
      phone: this.#phone,
      onEnd: (it) => this.#cables.delete(it),
    });
    this.#cables.set(cable, by);
    return cable;
  }

  #isSending = false;

  #newLife(): [AirtimeLog, Transmitter, Router, Modules] {
    const { time, medium, preset } = this.#air;
    const { lora } = presets[preset];
    const airtime = new AirtimeLog(time);
    const number = () => this.number;
    const transmitter = new Transmitter({
      time,
      random: this.#random,
      lora,
      slotMs: medium.slotMs,
      airtime,
      isEarly: () => this.settings.role === "router",
      isOwn: ({ from }) => from === this.number,
      isBusy: () => medium.isBusyAt(this),
      transmit: (frame, ms, left) => {
        this.#isSending = true;
        medium.transmit(this, frame, ms, left);
        this.#isSending = false;
      },
      onRoom: () => this.#phone.onRoom(),
    });
    const toClient = (packet: Packet) => this.#phone.toClient(packet);
    const common = {
      time,
      number,
      behaviour: () => this.#behaviour,
      nodes: this.nodes,
      airtime,
      transmitter,
    };
    const router: Router = new Router({
      ...common,
      random: this.#random,
      lora,
      slotMs: medium.slotMs,
      role: () => this.settings.role,
      hopLimit: () => this.settings.lora.hopLimit,
      dutyCycle: () => this.settings.dutyCycle,
      isMute: () => this.settings.isMute,
      sealing: this.#sealing,
      rxTime: () => this.#wallSeconds(),
      handle: (packet) => modules.handle(packet),
      alter: (packet) => modules.alter(packet),
      toClient: (packet) => this.#deliver(packet),
      notify: (text, replyId) => this.#phone.notify(text, replyId),
    });
    const modules: Modules = new Modules({
      ...common,
      beacons: () => this.#beacons,
      user: () => this.user,
      position: () => this.position,
      router: () => router,
      wallSeconds: () => this.#wallSeconds(),
      toClient,
      isClientIdle: () => this.#phone.isIdle,
      admin: (packet) => this.#admin.handle(packet),
    });
    return [airtime, transmitter, router, modules];
  }

  get #beacons(): Beacons {
    const own = this.#behaviour.telemetryIsOptIn ? { positionMs: 0, telemetryMs: 0 } : TELLING;
    return { nodeInfoMs: 10_800_000, ...own, ...this.options.beacons };
  }

  #deliver(packet: Packet): void {
    if (packet.from !== this.number) this.#modules.meet(packet);
    this.#phone.toClient(packet);
    const { deliversTwice } = this.#behaviour;
    if (packet.from !== this.number && deliversTwice > 0 && this.#random.float() < deliversTwice)
      this.#phone.toClient(packet);
  }

  #wallSeconds(): number {
    return Math.floor(this.#air.wallMs() / 1_000);
  }

  #newSealing(): Sealing {
    return new Sealing({
      random: this.#random,
      nodes: this.nodes,
      keys: this.keys,
      number: () => this.number,
      behaviour: () => this.#behaviour,
      isLicensed: () => this.#isLicensed,
      okToMqtt: () => this.settings.lora.configOkToMqtt,
      channels: () => this.settings.channels,
      channelName: () => presets[this.#air.preset].channelName,
      verified: this.#air.verified,
      opened: this.#air.opened,
    });
  }

  #newAdmin(): AdminModule {
    return new AdminModule({
      settings: this.settings,
      nodes: this.nodes,
      router: () => this.router,
      number: () => this.number,
      owner: () => this.user,
      setOwner: (longName, shortName, isLicensed) => {
        this.#names = { longName, shortName };
        this.#isLicensed = isLicensed;
      },
      metadata: () => this.#metadata(),
      reboot: (inSeconds) => void this.#air.time.after(1_000 * inSeconds, () => this.reboot()),
      // After the answer has left.
      changed: () => void this.#air.time.after(1_000, () => this.reboot()),
    });
  }

  #newPhone(): Phone {
    return new Phone({
      time: this.#air.time,
      behaviour: () => this.#behaviour,
      faults: () => this.faults,
      number: () => this.number,
      rebootCount: () => this.#boots,
      settings: this.settings,
      nodes: this.nodes,
      user: () => this.user,
      metadata: () => this.#metadata(),
      position: () => this.position,
      metrics: () => this.#modules.metrics,
      wallSeconds: () => this.#wallSeconds(),
      router: () => this.router,
      transmitter: () => this.transmitter,
      tellWho: () => this.#modules.tellWho(0xffff_ffff, true, true),
      passphrase: () => (this.#behaviour.handshake === "2.8" ? this.options.passphrase : undefined),
    });
  }

  #metadata(): Mesh.DeviceMetadata {
    const metadata = create(Mesh.DeviceMetadataSchema, {
      firmwareVersion: this.#behaviour.version,
      deviceStateVersion: 24,
      canShutdown: true,
      hasBluetooth: true,
      hasWifi: true,
      role: this.settings.device.role,
      hwModel: Mesh.HardwareModel.HELTEC_V3,
      hasPKC: true,
    });
    if (this.#behaviour.signs) addVarint(metadata, HAS_XEDDSA, 1);
    return metadata;
  }
}
const HAS_XEDDSA = 14;
