/** What a radio says of its own accord and answers: who it is, where, how it fares, and by which way a packet came. As the firmware's modules. */
import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { Mesh, Telemetry } from "@meshtastic/protobufs";
import type { Timer } from "@godwit/sdk";
import type { MediumTime } from "../sim/radio/medium.ts";
import type { AirtimeLog } from "./airtime-log.ts";
import type { Behaviour } from "./behaviour.ts";
import { isSameKey } from "./keys.ts";
import { BROADCAST } from "./lora-frame.ts";
import type { NodeDb } from "./nodes.ts";
import { dataOf, decodeUser, hopsTaken, Port, Priority, type Packet } from "./packet.ts";
import type { Router } from "./router.ts";
import type { Transmitter } from "./transmitter.ts";

/** Above it, percent of the channel: what is no hurry waits, and nothing is said of its own accord. */
const POLITE_PERCENT = 25;
const BUSY_PERCENT = 40;
/** It says who it is once in so long, and once in the shorter while somebody asks, ms. */
const NODE_INFO_PACE_MS = 600_000;
const NODE_INFO_URGENT_MS = 60_000;
const FIRST_NODE_INFO_MS = 30_000;
const TO_CLIENT_MS = 60_000;
const LOCAL_STATS_MS = 900_000;
/** Nodes of a trace. */
const ROUTE_MAX = 8;
const UNKNOWN_NODE = BROADCAST;
const UNKNOWN_SNR = -128;

export interface Beacons {
  /** Pauses, ms; 0: never. */
  readonly nodeInfoMs: number;
  readonly positionMs: number;
  readonly telemetryMs: number;
}

export interface ModulesOptions {
  readonly time: MediumTime;
  readonly number: () => number;
  readonly behaviour: () => Behaviour;
  readonly beacons: () => Beacons;
  readonly user: () => Mesh.User;
  readonly position: () => Mesh.Position | undefined;
  readonly nodes: NodeDb;
  readonly airtime: AirtimeLog;
  readonly transmitter: Transmitter;
  /** Made after this. */
  readonly router: () => Router;
  readonly wallSeconds: () => number;
  readonly toClient: (packet: Packet) => void;
  readonly isClientIdle: () => boolean;
  readonly admin: (packet: Packet) => Packet | undefined;
}

export class Modules {
  readonly #options: ModulesOptions;
  #timers: Timer[] = [];
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #startedMs = 0;

  constructor(options: ModulesOptions) {
    this.#options = options;
  }

  start(): void {
    const { time, beacons } = this.#options;
    this.#startedMs = time.nowMs;
    const { nodeInfoMs, positionMs, telemetryMs } = beacons();
    if (nodeInfoMs > 0) this.#every(nodeInfoMs, () => this.tellWho(BROADCAST, false), FIRST_NODE_INFO_MS);
    if (positionMs > 0) this.#every(positionMs, () => this.#tellPosition());
    if (telemetryMs > 0) this.#every(telemetryMs, () => this.#tellMetrics());
    this.#every(TO_CLIENT_MS, () => this.#metricsToClient());
    this.#every(LOCAL_STATS_MS, () => this.#statsToClient());
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
  }

  /** Not more often than it may. */
  tellWho(to: number, wantsReply: boolean, isUrgent = false, channel = 0): void {
    const { airtime, time, router } = this.#options;
    if (airtime.channelPercent >= BUSY_PERCENT || this.#hasToldWithin(isUrgent)) return;
    this.#toldAtMs = time.nowMs;
    const packet = this.#ownUser({
      to,
      channel,
      priority: isUrgent ? Priority.DEFAULT : Priority.BACKGROUND,
    });
    dataOf(packet)!.wantResponse = wantsReply;
    router().sendOwn(packet, false);
  }

  /** What came for this radio or for all. */
  handle(packet: Packet): Packet | "silent" | undefined {
    const data = dataOf(packet)!;
    const { nodes, router, position, admin } = this.#options;
    const node = packet.from === this.#options.number() ? undefined : nodes.touch(packet.from);
    switch (data.portnum) {
      case Port.NODEINFO_APP: {
        const user = decodeUser(data.payload);
        if (user !== undefined && node !== undefined) this.#learnUser(packet, user);
        if (!data.wantResponse) return undefined;
        if (this.#hasToldWithin(true)) return "silent";
        this.#toldAtMs = this.#options.time.nowMs;
        return this.#ownUser({});
      }
      case Port.POSITION_APP: {
        const told = decode(Mesh.PositionSchema, data.payload);
        if (told !== undefined && node !== undefined) node.position = told;
        const own = position();
        return data.wantResponse && own !== undefined
          ? router().newOwn(Port.POSITION_APP, toBinary(Mesh.PositionSchema, own))
          : undefined;
      }
      case Port.TELEMETRY_APP: {
        const told = decode(Telemetry.TelemetrySchema, data.payload);
        if (told?.variant.case !== "deviceMetrics") return undefined;
        if (node !== undefined && !data.wantResponse) node.metrics = told.variant.value;
        return data.wantResponse ? router().newOwn(Port.TELEMETRY_APP, this.#metrics()) : undefined;
      }
      case Port.TRACEROUTE_APP:
        return data.wantResponse && data.requestId === 0 ? this.#traced(packet) : undefined;
      case Port.REPLY_APP:
        return data.wantResponse
          ? router().newOwn(Port.REPLY_APP, new TextEncoder().encode("Message Received"))
          : undefined;
      case Port.ADMIN_APP:
        return admin(packet);
      default:
        return undefined;
    }
  }

  /** A trace is written on whoever carries it. */
  alter(packet: Packet): void {
    const data = dataOf(packet)!;
    if (data.portnum !== Port.TRACEROUTE_APP) return;
    const { number } = this.#options;
    const route = decode(Mesh.RouteDiscoverySchema, data.payload);
    if (route === undefined) return;
    const isBack = data.requestId !== 0;
    const [way, snrs] = isBack ? [route.routeBack, route.snrBack] : [route.route, route.snrTowards];
    const taken = hopsTaken(packet);
    // Whoever could not read it has left a gap.
    const gap = Math.min(taken ?? 0, ROUTE_MAX) - way.length;
    for (let i = 0; i < gap; i++) way.push(UNKNOWN_NODE);
    while (snrs.length < way.length) snrs.push(UNKNOWN_SNR);
    if (snrs.length < ROUTE_MAX) snrs.push(Math.round(4 * packet.rxSnr));
    if (packet.to !== number() && way.length < ROUTE_MAX) way.push(number());
    data.payload = toBinary(Mesh.RouteDiscoverySchema, route);
  }

  /** It heard somebody of whom it does not know who he is. */
  meet(packet: Packet): void {
    const { nodes, airtime, number } = this.#options;
    if (dataOf(packet) === undefined || packet.from === number()) return;
    if (nodes.get(packet.from)?.user !== undefined || airtime.channelPercent >= POLITE_PERCENT) return;
    this.tellWho(packet.from, true, false, packet.channel);
  }

  #learnUser(packet: Packet, user: Mesh.User): void {
    const node = this.#options.nodes.touch(packet.from);
    const old = node.user?.publicKey;
    // A key is believed once; another one under the same number is somebody else.
    const isOther = old?.length === 32 && !isSameKey(old, user.publicKey);
    if (!isOther) node.user = user;
  }

  #hasToldWithin(isUrgent: boolean): boolean {
    return this.#options.time.nowMs - this.#toldAtMs < (isUrgent ? NODE_INFO_URGENT_MS : NODE_INFO_PACE_MS);
  }

  #ownUser(changes: Partial<Packet>): Packet {
    const { router, user } = this.#options;
    return router().newOwn(Port.NODEINFO_APP, toBinary(Mesh.UserSchema, user()), changes);
  }

  #traced(packet: Packet): Packet {
    return this.#options.router().newOwn(Port.TRACEROUTE_APP, dataOf(packet)!.payload);
  }

  #tellPosition(): void {
    const { router, position } = this.#options;
    const own = position();
    if (own === undefined || !this.#mayTell()) return;
    const payload = toBinary(Mesh.PositionSchema, own);
    router().sendOwn(router().newOwn(Port.POSITION_APP, payload, { priority: Priority.BACKGROUND }), false);
  }

  #tellMetrics(): void {
    const { router } = this.#options;
    if (!this.#mayTell()) return;
    const packet = router().newOwn(Port.TELEMETRY_APP, this.#metrics(), { priority: Priority.BACKGROUND });
    router().sendOwn(packet, false);
  }

  #mayTell(): boolean {
    return this.#options.airtime.channelPercent < POLITE_PERCENT;
  }

  /** How it fares now. */
  get metrics(): Telemetry.DeviceMetrics {
    const { airtime } = this.#options;
    return create(Telemetry.DeviceMetricsSchema, {
      // Above a hundred: it has mains.
      batteryLevel: 101,
      voltage: 4.2,
      channelUtilization: airtime.channelPercent,
      airUtilTx: airtime.ownPercent,
      uptimeSeconds: this.#uptime,
    });
  }

  #metrics(): Uint8Array {
    const variant = { case: "deviceMetrics", value: this.metrics } as const;
    const time = this.#options.wallSeconds();
    return toBinary(Telemetry.TelemetrySchema, create(Telemetry.TelemetrySchema, { time, variant }));
  }

  get #uptime(): number {
    return Math.floor((this.#options.time.nowMs - this.#startedMs) / 1_000);
  }

  #metricsToClient(): void {
    const { router, toClient, isClientIdle } = this.#options;
    if (isClientIdle()) toClient(router().newOwn(Port.TELEMETRY_APP, this.#metrics()));
  }

  #statsToClient(): void {
    const { router, toClient, airtime, transmitter, nodes, wallSeconds } = this.#options;
    const { heard, duplicates, drops } = router();
    const value = create(Telemetry.LocalStatsSchema, {
      uptimeSeconds: this.#uptime,
      channelUtilization: airtime.channelPercent,
      airUtilTx: airtime.ownPercent,
      numPacketsTx: transmitter.sent,
      numPacketsRx: heard,
      numPacketsRxBad: [...drops.values()].reduce((sum, count) => sum + count, 0),
      numRxDupe: duplicates,
      numTxRelay: transmitter.repeated,
      numTxRelayCanceled: transmitter.cancelled,
      numOnlineNodes: nodes.size,
      numTotalNodes: nodes.size,
    });
    const telemetry = create(Telemetry.TelemetrySchema, {
      time: wallSeconds(),
      variant: { case: "localStats", value },
    });
    toClient(router().newOwn(Port.TELEMETRY_APP, toBinary(Telemetry.TelemetrySchema, telemetry)));
  }

  #every(pauseMs: number, fn: () => void, firstMs = pauseMs): void {
    const { time } = this.#options;
    const at = this.#timers.length;
    const arm = (ms: number) => {
      this.#timers[at] = time.after(ms, () => {
        arm(pauseMs);
        fn();
      });
    };
    arm(firstMs);
  }
}

function decode<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> | undefined {
  try {
    return fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
}
