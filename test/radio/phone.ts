/**
 * A radio's side of its clients: the handshake, the queues towards them, and what becomes of what they send. As PhoneAPI and MeshService of
 * the firmware. The queues are the radio's, not the client's: of two clients each gets a part.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Mesh, type Telemetry } from "@meshtastic/protobufs";
import type { Timer } from "@godwit/sdk";
import type { MediumTime } from "../sim/radio/medium.ts";
import type { Behaviour } from "./behaviour.ts";
import { passphraseOf } from "./admin.ts";
import type { Faults } from "./faults.ts";
import type { NodeDb } from "./nodes.ts";
import {
  copyOf,
  dataOf,
  isBroadcast,
  newData,
  newPacket,
  PAYLOAD_BYTES_MAX,
  Port,
  Priority,
  RoutingError,
  type Packet,
} from "./packet.ts";
import { encode, handshake, lockdown, LockdownState, type FromRadio } from "./handshake.ts";
import type { Router } from "./router.ts";
import type { Settings } from "./settings.ts";
import { QUEUE_MAX, type Transmitter } from "./transmitter.ts";

/** Packets that wait for a client. */
export const TO_CLIENT_MAX = 32;
const STATUSES_MAX = 4;
const RECENT_IDS = 20;
/** From something to say until it is said, ms: the firmware looks at its clients so often. */
const POLL_MS = 5;
/** Heard nothing of for so long, ms. */
export const SILENT_CLIENT_MS = 900_000;

/** A packet of such a port too soon after the last one is dropped, ms. */
const pacesMs: ReadonlyMap<number, number> = new Map<number, number>([
  [Port.TRACEROUTE_APP, 30_000],
  [Port.POSITION_APP, 10_000],
  [Port.WAYPOINT_APP, 10_000],
  [Port.ALERT_APP, 10_000],
  [Port.TELEMETRY_APP, 10_000],
  [Port.TEXT_MESSAGE_APP, 2_000],
]);

export interface PhoneOptions {
  readonly time: MediumTime;
  readonly behaviour: () => Behaviour;
  readonly faults: () => Faults;
  readonly number: () => number;
  readonly rebootCount: () => number;
  readonly settings: Settings;
  readonly nodes: NodeDb;
  readonly user: () => Mesh.User;
  readonly metadata: () => Mesh.DeviceMetadata;
  readonly position: () => Mesh.Position | undefined;
  readonly metrics: () => Telemetry.DeviceMetrics;
  readonly wallSeconds: () => number;
  readonly router: () => Router;
  readonly transmitter: () => Transmitter;
  readonly tellWho: () => void;
  /** Words that unlock it; undefined: it is not locked. */
  readonly passphrase: () => string | undefined;
}

/** What a client is on: bytes of messages go there. */
export interface ClientLink {
  /** False: it takes no more until `kick`. */
  send(message: Uint8Array): boolean;
  close(why: string): void;
}

export class Phone {
  readonly options: PhoneOptions;
  readonly #clients = new Set<PhoneClient>();
  readonly #packets: Packet[] = [];
  readonly #statuses: Mesh.QueueStatus[] = [];
  readonly #notices: Mesh.ClientNotification[] = [];
  #lastFree = QUEUE_MAX;
  /** For which there was no room. */
  lost = 0;

  constructor(options: PhoneOptions) {
    this.options = options;
  }

  connect(link: ClientLink): PhoneClient {
    const client = new PhoneClient(this, link, () => this.#clients.delete(client));
    this.#clients.add(client);
    return client;
  }

  get isIdle(): boolean {
    return this.#packets.length === 0;
  }

  /** All that waits is gone; the links stay. */
  clear(): void {
    for (const queue of [this.#packets, this.#statuses, this.#notices]) queue.length = 0;
    for (const client of this.#clients) client.forget();
  }

  toClient(packet: Packet): void {
    const port = dataOf(packet)?.portnum;
    if (this.#packets.length >= TO_CLIENT_MAX) {
      this.lost++;
      if (port !== Port.TEXT_MESSAGE_APP && port !== Port.RANGE_TEST_APP) return;
      this.#packets.shift();
    }
    this.#packets.push(copyOf(packet));
    this.kick();
  }

  status(res: number, meshPacketId: number): void {
    const { free } = this.options.transmitter();
    this.#lastFree = free;
    if (this.#statuses.length >= STATUSES_MAX) this.#statuses.shift();
    this.#statuses.push(this.newStatus(res, meshPacketId));
    this.kick();
  }

  newStatus(res = 0, meshPacketId = 0): Mesh.QueueStatus {
    const { queue } = this.options.faults();
    const told = queue === "full" ? 0 : queue === "free" ? QUEUE_MAX : this.options.transmitter().free;
    return create(Mesh.QueueStatusSchema, { res, free: told, maxlen: QUEUE_MAX, meshPacketId });
  }

  /** A client that was told that there is no room hears of it when there is. */
  onRoom(): void {
    if (this.#lastFree === 0 && this.options.transmitter().free > 0) this.status(0, 0);
  }

  notify(message: string, replyId: number): void {
    const { wallSeconds } = this.options;
    if (this.#notices.length >= STATUSES_MAX) this.#notices.shift();
    const level = Mesh.LogRecord_Level.WARNING;
    const notice = { replyId, level, message, time: wallSeconds() };
    this.#notices.push(create(Mesh.ClientNotificationSchema, notice));
    this.kick();
  }

  kick(): void {
    for (const client of this.#clients) client.kick();
  }

  /** What is next for whoever asks first. */
  take(): FromRadio | undefined {
    const status = this.#statuses.shift();
    if (status !== undefined) return { case: "queueStatus", value: status };
    const notice = this.#notices.shift();
    if (notice !== undefined) return { case: "clientNotification", value: notice };
    const packet = this.#packets.shift();
    return packet === undefined ? undefined : { case: "packet", value: packet };
  }
}

export class PhoneClient {
  readonly #phone: Phone;
  readonly #link: ClientLink;
  readonly #onEnd: () => void;
  readonly #recent: number[] = [];
  /** By port, when the last one was taken. */
  readonly #lastMs = new Map<number, number>();
  #handshake: Iterator<Uint8Array> | undefined;
  #isReady = false;
  #isAlive = true;
  #isAuthorized = false;
  #wantsStatus = false;
  #pollTimer: Timer | undefined;
  #silentTimer: Timer | undefined;
  /** Of the device itself, before all else. */
  readonly #urgent: Uint8Array[] = [];

  constructor(phone: Phone, link: ClientLink, onEnd: () => void) {
    this.#phone = phone;
    this.#link = link;
    this.#onEnd = onEnd;
    this.#watchSilence();
  }

  /** The link is gone. */
  end(): void {
    this.#isAlive = false;
    this.#pollTimer?.cancel();
    this.#silentTimer?.cancel();
    this.#onEnd();
  }

  /** Back to before any handshake, as after a reboot. */
  forget(): void {
    this.#handshake = undefined;
    this.#isReady = false;
    this.#isAuthorized = false;
    this.#urgent.length = 0;
    this.#recent.length = 0;
    this.#lastMs.clear();
  }

  tellRebooted(): void {
    this.#urgent.push(encode({ case: "rebooted", value: true }));
    this.kick();
  }

  /** One message of the client. */
  receive(bytes: Uint8Array): void {
    const message = decodeToRadio(bytes);
    if (message === undefined || !this.#isAlive) return;
    this.#watchSilence();
    const { payloadVariant: said } = message;
    switch (said.case) {
      case "wantConfigId":
        this.#handshake = handshake(this.#phone.options, said.value, this.#isUnlocked);
        this.#isReady = false;
        return this.kick();
      case "heartbeat":
        if (said.value.nonce === 1 && this.#phone.options.behaviour().heartbeatTells)
          return this.#phone.options.tellWho();
        this.#wantsStatus = true;
        return this.kick();
      case "disconnect":
        this.forget();
        return;
      case "packet":
        return this.#send(said.value);
      default:
        return;
    }
  }

  /** Something may be there to say. */
  kick(): void {
    if (this.#pollTimer !== undefined || !this.#isAlive) return;
    this.#pollTimer = this.#phone.options.time.after(POLL_MS, () => {
      this.#pollTimer = undefined;
      if (this.#phone.options.faults().isHung) return;
      for (;;) {
        const message = this.#next();
        if (message === undefined || !this.#link.send(message)) return;
      }
    });
  }

  get #isUnlocked(): boolean {
    return this.#isAuthorized || this.#phone.options.passphrase() === undefined;
  }

  #next(): Uint8Array | undefined {
    const urgent = this.#urgent.shift();
    if (urgent !== undefined) return urgent;
    if (this.#wantsStatus) {
      this.#wantsStatus = false;
      return encode({ case: "queueStatus", value: this.#phone.newStatus() });
    }
    if (this.#handshake !== undefined) {
      const { value, done } = this.#handshake.next() as IteratorResult<Uint8Array, undefined>;
      if (done !== true) return value;
      this.#handshake = undefined;
      this.#isReady = true;
    }
    if (!this.#isReady) return undefined;
    let next = this.#phone.take();
    // Who has not unlocked it gets nothing of the mesh, and neither does anybody else.
    while (next?.case === "packet" && !this.#isUnlocked) next = this.#phone.take();
    return next === undefined ? undefined : encode(next);
  }

  #send(packet: Packet): void {
    const { router, number, behaviour } = this.#phone.options;
    const data = dataOf(packet);
    if ((data?.payload.length ?? 0) > PAYLOAD_BYTES_MAX) return;
    const words =
      data?.portnum === Port.ADMIN_APP && packet.to === number() ? passphraseOf(data.payload) : undefined;
    if (words !== undefined && behaviour().handshake === "2.8") return this.#unlock(words);
    if (!this.#isUnlocked || this.#isRecent(packet.id) || this.#isTooSoon(packet)) return;
    const port = data?.portnum ?? Port.UNKNOWN_APP;
    this.#lastMs.set(port, this.#phone.options.time.nowMs);
    const own = copyOf(packet, {
      from: number(),
      // What stands here is the radio's to say.
      nextHop: 0,
      relayNode: 0,
      rxTime: 0,
      rxSnr: 0,
      rxRssi: 0,
      txAfter: 0,
      id: packet.id === 0 ? router().newId() : packet.id,
      ...(port === Port.TRACEROUTE_APP && !isBroadcast(packet) ? { wantAck: true } : {}),
    });
    const { id } = own;
    this.#phone.status(router().sendOwn(own, true), id);
  }

  #isRecent(id: number): boolean {
    if (id === 0) return false;
    if (this.#recent.includes(id)) return true;
    if (this.#recent.length >= RECENT_IDS) this.#recent.shift();
    this.#recent.push(id);
    return false;
  }

  /** Dropped, and told as queued. */
  #isTooSoon(packet: Packet): boolean {
    const port = dataOf(packet)?.portnum ?? Port.UNKNOWN_APP;
    const { time } = this.#phone.options;
    const isTrace = port === Port.TRACEROUTE_APP;
    const paceMs = pacesMs.get(port);
    const lastMs = this.#lastMs.get(port);
    const isSoon = paceMs !== undefined && lastMs !== undefined && time.nowMs - lastMs < paceMs;
    const isWide = isTrace && isBroadcast(packet) && packet.hopLimit > 0;
    if (!isSoon && !isWide) return false;
    if (isTrace)
      this.#phone.notify(
        isSoon
          ? "TraceRoute can only be sent once every 30 seconds"
          : "Multi-hop traceroute to broadcast address is not allowed",
        packet.id,
      );
    this.#phone.status(0, packet.id);
    if (port === Port.TEXT_MESSAGE_APP) this.#refuse(packet);
    return true;
  }

  /** Text alone is told that it was too soon. */
  #refuse(packet: Packet): void {
    const { number, wallSeconds } = this.#phone.options;
    const routing = create(Mesh.RoutingSchema, {
      variant: { case: "errorReason", value: RoutingError.RATE_LIMIT_EXCEEDED },
    });
    const data = newData({
      portnum: Port.ROUTING_APP,
      payload: toBinary(Mesh.RoutingSchema, routing),
      requestId: packet.id,
    });
    this.#phone.toClient(
      newPacket({
        from: number(),
        to: number(),
        id: this.#phone.options.router().newId(),
        rxTime: wallSeconds(),
        priority: Priority.ACK,
        payloadVariant: { case: "decoded", value: data },
      }),
    );
  }

  #unlock(words: string): void {
    const { passphrase } = this.#phone.options;
    this.#isAuthorized = passphrase() === undefined || words === passphrase();
    this.#urgent.push(lockdown(this.#isAuthorized ? LockdownState.unlocked : LockdownState.unlockFailed, ""));
    this.kick();
  }

  #watchSilence(): void {
    this.#silentTimer?.cancel();
    this.#silentTimer = this.#phone.options.time.after(SILENT_CLIENT_MS, () =>
      this.#link.close("nothing was heard of the client"),
    );
  }
}

function decodeToRadio(bytes: Uint8Array): Mesh.ToRadio | undefined {
  try {
    return fromBinary(Mesh.ToRadioSchema, bytes);
  } catch {
    return undefined;
  }
}
