/**
 * The one owner of one radio: connects, shakes hands, keeps alive, hands packets over at the radio's pace, and starts over when it went, restarted or
 * was locked. Owns what is known of the radio; must never send anything before all of a handshake has come, nor where the radio may not send. Nothing that a
 * radio says throws. Specified by docs/meshtastic.md.
 */
import type { Clock, Log, Random, Timer } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { RadioAirtime } from "./airtime.ts";
import { encodeFrame, FrameReader } from "./frames.ts";
import { isForbiddenPort, PORT, PortLimits } from "./limits.ts";
import { frameMs } from "./lora.ts";
import { HEADER_BYTES, packetBytes, PAYLOAD_BYTES_MAX } from "./modem.ts";
import { Outbox, type Outcome } from "./outbox.ts";
import {
  decodeFromRadio,
  decodeRouting,
  decodeTelemetry,
  encodeDisconnect,
  encodeHeartbeat,
  encodeSend,
  encodeWantConfig,
  type FromRadio,
  lockdownOf,
  type MeshPacket,
} from "./protocol.ts";
import { Draft, numberProof, type RadioFacts, whySilent } from "./state.ts";
import type { OpenWire, Wire } from "./wire.ts";

export const BROADCAST = 0xffff_ffff;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** All of a handshake, and what a radio may be silent in it, ms. */
const HANDSHAKE_MS = 90_000;
/** It drops who is silent for 15 min, and answers each heartbeat. */
const HEARTBEAT_MS = 120_000;
const HEARTBEATS_UNANSWERED_MAX = 2;
/** Nonces of the firmware with a meaning of their own, and below. */
const NONCE_MIN = 100_000;
/** Nodes of which the radio told, with their keys. */
const NODES_MAX = 1_000;
/** After the firmware said that the duty cycle is used up nothing is handed over, ms. */
const DUTY_PAUSE_MS = 300_000;
const DUTY_CYCLE_LIMIT = 9;
/** Of what the region allows. */
const DUTY_PART = 0.5;

/** Why what came was passed over; labels. */
export type Ignored =
  "noise" | "malformed" | "nonce" | "incomplete" | "queue_status" | "packet" | "node_number" | "telemetry";

export type Phase = "connecting" | "handshake" | "locked" | "ready";

export interface KnownNode {
  readonly number: number;
  readonly longName: string;
  readonly publicKey: Uint8Array;
}

/** What is to be sent; false where a user may not decide it. */
export interface SendRequest {
  readonly port: number;
  readonly to: number;
  readonly channel: number;
  readonly payload: Uint8Array;
  readonly hopLimit: number;
  readonly wantAck: boolean;
  /** Nobody but whom it is for can read it. */
  readonly isSealed: boolean;
  readonly rank: number;
  /** For how long it is worth sending, ms. */
  readonly lifetimeMs: number;
}

/** Why a packet was not taken; labels. */
export type Refusal =
  | "not_ready"
  | "may_not_send"
  | "licensed"
  | "port"
  | "too_early"
  | "too_long"
  | "channel"
  | "queue_full"
  | "listens_only";

export interface SessionDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly open: OpenWire;
  /** Written before the first frame, where the device may sleep. */
  readonly wake: Uint8Array;
  /** Something that `snapshot` shows has changed: whether it is ready, why not, what it is. */
  changed(): void;
  /** Borrowed. From the radio's own queue as well, which it sends after a handshake. */
  packet(packet: MeshPacket): void;
  ignored(reason: Ignored): void;
  /** Borrowed: the key that the radio knows a node by. */
  keyed(number: number, publicKey: Uint8Array): void;
}

export class RadioSession {
  readonly airtime: RadioAirtime;
  readonly outbox: Outbox;
  readonly nodes = new BoundedMap<number, KnownNode>({ name: "nodes of a radio", max: NODES_MAX });
  readonly #deps: SessionDeps;
  readonly #limits: PortLimits;
  #wire: Wire | undefined;
  #reader: FrameReader;
  #phase: Phase = "connecting";
  #facts: RadioFacts | undefined;
  #draft = new Draft();
  #nonce = 0;
  #trouble = "it has not answered yet";
  #isStuck = false;
  #dutyUntilMs = Number.NEGATIVE_INFINITY;
  #handshakeTimer: Timer | undefined;
  #heartbeatTimer: Timer | undefined;
  #heartbeats = 0;
  #ended: PromiseWithResolvers<void> | undefined;
  restarts = 0;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
    const { clock } = deps;
    this.#limits = new PortLimits(clock);
    this.airtime = new RadioAirtime(clock);
    this.#reader = this.#newReader();
    this.outbox = new Outbox({
      clock,
      airtime: this.airtime,
      write: (message) => this.#write(message),
      ask: () => void this.#write(encodeHeartbeat()),
      hourMaxMs: () => this.hourMaxMs,
      stuck: (isStuck) => {
        this.#isStuck = isStuck;
        deps.changed();
      },
      refused: (res) => this.#onRes(res),
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Of the last whole handshake; undefined: there was none, or the radio is not ready. */
  get facts(): RadioFacts | undefined {
    return this.#phase === "ready" ? this.#facts : undefined;
  }

  /** What keeps it from its work, in words; undefined: nothing. */
  get trouble(): string | undefined {
    if (this.#phase !== "ready") return this.#trouble;
    if (this.#isStuck) return "the radio's queue has had no room for ten minutes";
    return whySilent(this.#facts!);
  }

  /** Own airtime that any hour may have, ms: half of what the region allows, none where nothing may be sent. */
  get hourMaxMs(): number {
    const facts = this.facts;
    if (facts?.region === undefined || this.#deps.clock.monotonicMs() < this.#dutyUntilMs) return 0;
    return facts.region.dutyCycle * DUTY_PART * 3_600_000;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#deps;
    let failures = 0;
    while (!signal.aborted) {
      const ended = (this.#ended = Promise.withResolvers<void>());
      const onAbort = () => ended.resolve();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        this.#reader = this.#newReader();
        const wire = await this.#deps.open(
          {
            data: (bytes) => this.#reader.push(bytes, clock.monotonicMs()),
            closed: (why) => this.#fail(why),
          },
          signal,
        );
        this.#wire = wire;
        this.#begin();
        await ended.promise;
        if (this.#phase === "ready") failures = 0;
      } catch (error) {
        if (!signal.aborted) this.#fail(error instanceof Error ? error.message : String(error));
      } finally {
        signal.removeEventListener("abort", onAbort);
        this.#close();
      }
      if (signal.aborted) return;
      log.info("radio lost", { reason: this.#trouble });
      const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures++);
      await pause(clock, delayMs * (0.75 + random.float() / 2), signal);
    }
  }

  /** A word: it was not taken. A number: the id of the packet, and `done` follows, once. */
  send(request: SendRequest, done: (outcome: Outcome) => void): Refusal | { readonly id: number } {
    const { clock, random } = this.#deps;
    const facts = this.facts;
    if (facts === undefined) return "not_ready";
    if (request.isSealed && facts.isLicensed) return "licensed";
    // What is plain may be sent by amateurs; all else that keeps a radio silent keeps it from that as well.
    const silence = whySilent({ ...facts, isLicensed: false });
    if (silence !== undefined) return "may_not_send";
    const { port, to, payload } = request;
    if (isForbiddenPort(port) || (port === PORT.traceroute && to === BROADCAST)) return "port";
    if (payload.length > PAYLOAD_BYTES_MAX) return "too_long";
    if (!facts.channels.some(({ index }) => index === request.channel)) return "channel";
    if (this.outbox.isFull) return "queue_full";
    if (!this.#limits.take(port)) return "too_early";
    const id = 1 + random.below(0xffff_fffe);
    const { lifetimeMs, rank } = request;
    const isTaken = this.outbox.offer({
      id,
      rank,
      airtimeMs: this.airtimeOf(payload.length, port, to),
      message: encodeSend({ ...request, id }),
      expiresAtMs: clock.monotonicMs() + lifetimeMs,
      done,
    });
    return isTaken ? { id } : "queue_full";
  }

  /** Of what this radio itself sends; 0 where it is not known. */
  airtimeOf(bytes: number, port: number, to: number): number {
    const facts = this.#facts;
    if (facts?.modem === undefined) return 0;
    const kind = to === BROADCAST ? "all" : "one";
    return frameMs(facts.modem, packetBytes(bytes, port, kind, facts.additions));
  }

  #newReader(): FrameReader {
    return new FrameReader({
      frame: (body) => {
        const message = decodeFromRadio(body);
        if (message === undefined) this.#deps.ignored("malformed");
        else this.#onMessage(message);
        return message !== undefined;
      },
      noise: () => this.#deps.ignored("noise"),
    });
  }

  #write(message: Uint8Array): boolean {
    if (this.#wire === undefined) return false;
    this.#wire.write(encodeFrame(message));
    return true;
  }

  /** A handshake from its start. */
  #begin(): void {
    const { clock, random, wake } = this.#deps;
    this.#heartbeatTimer?.cancel();
    this.#handshakeTimer?.cancel();
    this.#draft = new Draft();
    this.#nonce = NONCE_MIN + random.below(0x7fff_ffff - NONCE_MIN);
    this.#turn("handshake", "it has not said yet what it is");
    if (wake.length > 0) this.#wire?.write(wake);
    this.#write(encodeWantConfig(this.#nonce));
    this.#handshakeTimer = clock.after(HANDSHAKE_MS, () =>
      this.#fail("it does not answer as a Meshtastic radio does"),
    );
  }

  #turn(phase: Phase, trouble: string): void {
    const wasReady = this.#phase === "ready";
    this.#phase = phase;
    this.#trouble = trouble;
    if (wasReady) this.outbox.lost(false);
    this.#deps.changed();
  }

  /** Of this connection: it ends, and the loop makes another. */
  #fail(why: string): void {
    this.#turn("connecting", why);
    this.#ended?.resolve();
  }

  #close(): void {
    this.#handshakeTimer?.cancel();
    this.#heartbeatTimer?.cancel();
    const wire = this.#wire;
    if (wire !== undefined) {
      // A radio that does not notice feeds packets to nobody, and the next client waits.
      wire.write(encodeFrame(encodeDisconnect()));
      wire.close();
    }
    this.#wire = undefined;
    if (this.#phase !== "connecting") this.#turn("connecting", this.#trouble);
  }

  #onMessage(message: FromRadio): void {
    this.#heartbeats = 0;
    const lockdown = lockdownOf(message);
    if (lockdown !== undefined) return this.#onLockdown(lockdown === "unlocked");
    const { payloadVariant } = message;
    switch (payloadVariant.case) {
      case "rebooted":
        this.restarts++;
        this.#deps.log.info("radio restarted", {});
        return this.#begin();
      case "myInfo":
        this.#draft.my = payloadVariant.value;
        return;
      case "nodeInfo":
        return this.#onNode(payloadVariant.value);
      case "metadata":
        this.#draft.metadata = payloadVariant.value;
        return;
      case "config":
        if (payloadVariant.value.payloadVariant.case === "lora")
          this.#draft.lora = payloadVariant.value.payloadVariant.value;
        return;
      case "channel":
        if (payloadVariant.value.index >= 0 && payloadVariant.value.index < 8)
          this.#draft.channels.set(payloadVariant.value.index, payloadVariant.value);
        return;
      case "configCompleteId":
        return this.#onComplete(payloadVariant.value);
      case "queueStatus":
        return this.#onQueueStatus(payloadVariant.value);
      case "packet":
        return this.#onPacket(payloadVariant.value);
      default:
        // Logs, files, notifications, and what is not known yet.
        return;
    }
  }

  #onLockdown(isUnlocked: boolean): void {
    if (isUnlocked) {
      if (this.#phase === "locked") this.#begin();
      return;
    }
    this.#handshakeTimer?.cancel();
    this.#turn("locked", "the radio is locked: unlock it with its passphrase, in the app of Meshtastic");
    this.#beatLater();
  }

  #onNode(info: Extract<FromRadio["payloadVariant"], { case: "nodeInfo" }>["value"]): void {
    const { num, user } = info;
    if (num === 0 || num === BROADCAST) return this.#deps.ignored("node_number");
    // Its own comes with or without its number said before.
    if (num === this.#draft.my?.myNodeNum) this.#draft.self = info;
    if (user === undefined) return;
    if (numberProof(num, user.publicKey) === "other" && this.#hasKeyedNumbers)
      this.#deps.ignored("node_number");
    this.#deps.keyed(num, user.publicKey);
    this.nodes.renew(num, { number: num, longName: user.longName, publicKey: user.publicKey.slice() });
  }

  /** 2.8 numbers nodes by their keys; earlier ones keep what they had. */
  get #hasKeyedNumbers(): boolean {
    const [major = 0, minor = 0] = (this.#draft.metadata?.firmwareVersion ?? "").split(".").map(Number);
    return major > 2 || (major === 2 && minor >= 8);
  }

  #onComplete(nonce: number): void {
    // Of a client before this one.
    if (nonce !== this.#nonce || this.#phase !== "handshake") return this.#deps.ignored("nonce");
    const lacks = this.#draft.lacks;
    if (lacks !== undefined) {
      this.#deps.ignored("incomplete");
      return this.#fail(`it did not say ${lacks}`);
    }
    this.#handshakeTimer?.cancel();
    this.#facts = this.#draft.facts();
    this.#deps.log.info("radio ready", { firmware: this.#facts.firmware, name: this.#facts.shortName });
    this.#turn("ready", "");
    this.#beatLater();
    this.outbox.ready();
  }

  #beatLater(): void {
    this.#heartbeatTimer?.cancel();
    this.#heartbeatTimer = this.#deps.clock.after(HEARTBEAT_MS, () => {
      if (this.#heartbeats++ >= HEARTBEATS_UNANSWERED_MAX) return this.#fail("it does not answer any more");
      this.#beatLater();
      this.#write(encodeHeartbeat());
    });
  }

  #onQueueStatus(status: { res: number; free: number; maxlen: number; meshPacketId: number }): void {
    if (this.#phase !== "ready") return;
    const isSane = status.free <= status.maxlen && status.maxlen <= 255;
    if (isSane) this.outbox.onStatus(status);
    else this.#deps.ignored("queue_status");
  }

  #onRes(res: number): void {
    if (res === DUTY_CYCLE_LIMIT) this.#dutyUntilMs = this.#deps.clock.monotonicMs() + DUTY_PAUSE_MS;
    this.#deps.log.debug("radio refused a packet", { res });
  }

  #onPacket(packet: MeshPacket): void {
    const facts = this.facts;
    if (facts === undefined) return;
    const { payloadVariant, from } = packet;
    if (payloadVariant.case === undefined || from === 0) return this.#deps.ignored("packet");
    if (payloadVariant.case === "decoded" && from === facts.number) this.#onOwn(payloadVariant.value);
    else this.#noteHeard(facts, packet);
    this.#deps.packet(packet);
  }

  /** What the device says in its own name: how busy the channel is, and what became of what we handed over. */
  #onOwn({
    portnum,
    payload,
    requestId,
  }: Extract<MeshPacket["payloadVariant"], { case: "decoded" }>["value"]): void {
    const port: number = portnum;
    if (port === PORT.telemetry) {
      const variant = decodeTelemetry(payload)?.variant;
      if (variant?.case !== "deviceMetrics") return;
      const { channelUtilization = 0, airUtilTx = 0 } = variant.value;
      this.airtime.told(channelUtilization / 100, airUtilTx / 100);
      this.#deps.changed();
    }
    if (port !== PORT.routing || requestId === 0) return;
    const variant = decodeRouting(payload)?.variant;
    const reason: number = variant?.case === "errorReason" ? variant.value : 0;
    if (reason === 0) return;
    this.#onRes(reason);
    this.outbox.onRefused(requestId);
  }

  #noteHeard({ modem }: RadioFacts, { payloadVariant, to, viaMqtt }: MeshPacket): void {
    if (modem === undefined || viaMqtt) return;
    const bytes =
      payloadVariant.case === "decoded"
        ? packetBytes(
            payloadVariant.value.payload.length,
            payloadVariant.value.portnum,
            to === BROADCAST ? "all" : "one",
            this.#facts!.additions,
          )
        : HEADER_BYTES + (payloadVariant.case === "encrypted" ? payloadVariant.value.length : 0);
    this.airtime.heard(frameMs(modem, Math.min(255, bytes)));
  }
}

export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = clock.after(delayMs, resolve);
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  await promise;
  timer.cancel();
  signal.removeEventListener("abort", onAbort);
}
