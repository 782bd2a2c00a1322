/**
 * What a radio is, by the handshake that every client begins with: nothing is changed by it. Owns telling apart a radio, one that restarts meanwhile,
 * another firmware and silence; each refusal says what to do. What it learns holds keys of channels, which nothing here shows.
 */
import { type Clock, GodwitError, type Random } from "@godwit/sdk";
import type { Channel, Config } from "@meshtastic/protobufs";
import { encodeWantConfig, type FromRadio, lockdownOf } from "../protocol.ts";
import { Draft, type RadioFacts } from "../state.ts";
import { pause as pauseOf } from "../session.ts";
import type { OpenWire } from "../wire.ts";
import { Line } from "./line.ts";

/** Until its first message: a board that restarts when its port is opened needs some seconds. */
const FIRST_MS = 10_000;
/** What is asked while a board starts is lost. */
const AGAIN_MS = 2_000;
/** Between two messages of a handshake. */
const PAUSE_MS = 10_000;
const HANDSHAKE_MS = 60_000;
/** What is locked says so behind its handshake. */
const LOCK_WORD_MS = 2_000;
/** So often it may restart or hang up before it is given up. */
const RESTARTS_MAX = 3;
const RESTART_PAUSE_MS = 2_000;
/** Nonces of the firmware with a meaning of their own, and below. */
const NONCE_MIN = 100_000;

export interface RadioDoor {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  /** As people name it. */
  readonly name: string;
  /** Ways to open it, each tried where nothing answers by the one before. */
  readonly ways: readonly OpenWire[];
  /** Written before the first question, where the device may sleep. */
  readonly wake: Uint8Array;
}

export interface RadioAnswer {
  readonly number: number;
  /** Undefined: it is locked, and says nothing of itself. */
  readonly facts: RadioFacts | undefined;
  /** Takes no changes by its cable. */
  readonly isManaged: boolean;
  /** So often it restarted while it was asked. */
  readonly restarts: number;
  /** As it has them, keys included. */
  readonly lora: Config.Config_LoRaConfig | undefined;
  readonly channels: ReadonlyMap<number, Channel.Channel>;
}

export const unusable = (message: string): GodwitError =>
  new GodwitError("GODWIT_RADIO_UNUSABLE", message, { kind: "transport", retry: "later" });

/** Rejects with GODWIT_RADIO_UNUSABLE, as the way to it does, or with the signal's reason. */
export async function askRadio(door: RadioDoor): Promise<RadioAnswer> {
  let line: string | undefined;
  for (const way of door.ways) {
    const asked = await withLine(door, way, (open, restarts) => ask(open, door, restarts));
    if (asked.kind === "answer") return asked.answer;
    line ??= asked.line;
  }
  throw unusable(
    line === undefined
      ? `${door.name} is silent: is the radio on, is the cable one for data, and does its firmware answer on this port?`
      : `${door.name} speaks, but not as Meshtastic does${line === "" ? "" : ` (it says "${line}")`}: is that another firmware, such as MeshCore or RNode, or no radio? Flash Meshtastic, or name another port with --port`,
  );
}

type Asked =
  | { readonly kind: "answer"; readonly answer: RadioAnswer }
  /** `line`: what it said that was no message. */
  | { readonly kind: "no radio"; readonly line: string | undefined };

/** Thrown where the far end went in the middle. */
class Gone extends Error {}

/** Opens it, and again where it went meanwhile: it restarts, or a plug is loose. */
export async function withLine<T>(
  door: RadioDoor,
  way: OpenWire,
  use: (line: Line, restarts: number) => Promise<T>,
): Promise<T> {
  const { clock, signal, name } = door;
  for (let restarts = 0; ; restarts++) {
    let line: Line | undefined;
    try {
      line = await Line.open(way, clock, signal);
      return await use(line, restarts);
    } catch (error) {
      // Of the first opening it is told as it is; later the port may need a moment.
      if (signal.aborted || !(error instanceof Gone || (restarts > 0 && isWorthAnother(error)))) throw error;
      if (restarts < RESTARTS_MAX) await pause(clock, RESTART_PAUSE_MS, signal);
      else
        throw unusable(
          `${name} went away ${restarts + 1} times while it was asked (${error instanceof Error ? error.message : String(error)}): another client may have it, or it restarts for want of current; try another cable or supply`,
        );
    } finally {
      line?.close();
    }
  }
}

const isWorthAnother = (error: unknown): boolean => error instanceof GodwitError && error.retry !== "never";

/** Throws Gone. */
export async function ask(line: Line, door: RadioDoor, restartsBefore: number): Promise<Asked> {
  const { clock, random, signal, name, wake } = door;
  const startMs = clock.monotonicMs();
  const endMs = startMs + HANDSHAKE_MS;
  let told = new Told();
  let restarts = restartsBefore;
  const begin = () => {
    told = new Told(NONCE_MIN + random.below(0x7fff_ffff - NONCE_MIN));
    line.wake(wake);
    line.say(encodeWantConfig(told.nonce));
  };
  begin();
  for (;;) {
    const nowMs = clock.monotonicMs();
    const heard = await line.next(Math.min(endMs - nowMs, line.messages === 0 ? AGAIN_MS : PAUSE_MS));
    signal.throwIfAborted();
    if (heard.kind === "closed") throw new Gone(heard.why);
    if (heard.kind === "late") {
      const atMs = clock.monotonicMs();
      if (line.messages === 0 && atMs - startMs >= FIRST_MS)
        return { kind: "no radio", line: line.said?.line };
      if (atMs >= endMs)
        throw unusable(
          `${name} did not say ${told.lacks ?? "that this was all"}: restart the radio, then again`,
        );
      begin();
    } else if (heard.message.payloadVariant.case === "rebooted") {
      if (++restarts > RESTARTS_MAX)
        throw unusable(
          `${name} restarts again and again: does its supply give enough current? Try another cable or port`,
        );
      begin();
    } else if (told.take(heard.message)) {
      if (!told.isLocked && told.firmware === "") await awaitLock(line, told);
      if (!told.isLocked && told.lacks !== undefined)
        throw unusable(`${name} did not say ${told.lacks}: restart the radio, then again`);
      return { kind: "answer", answer: told.answer(restarts) };
    } else if (clock.monotonicMs() >= endMs)
      throw unusable(`${name} tells of itself without an end: restart the radio, then again`);
  }
}

async function awaitLock(line: Line, told: Told): Promise<void> {
  for (;;) {
    const heard = await line.next(LOCK_WORD_MS);
    if (heard.kind !== "message") return;
    told.take(heard.message);
    if (told.isLocked) return;
  }
}

/** What one handshake has brought. */
class Told {
  readonly nonce: number;
  readonly #draft = new Draft();
  #security: Config.Config_SecurityConfig | undefined;
  isLocked = false;

  constructor(nonce = 0) {
    this.nonce = nonce;
  }

  get firmware(): string {
    return this.#draft.metadata?.firmwareVersion ?? "";
  }

  get lacks(): string | undefined {
    return this.#draft.lacks;
  }

  /** True: that was the end of it. */
  take(message: FromRadio): boolean {
    const lockdown = lockdownOf(message);
    if (lockdown !== undefined) this.isLocked = lockdown !== "unlocked";
    const draft = this.#draft;
    const { payloadVariant: it } = message;
    switch (it.case) {
      case "myInfo":
        draft.my = it.value;
        return false;
      case "nodeInfo":
        if (it.value.num === draft.my?.myNodeNum) draft.self = it.value;
        return false;
      case "metadata":
        draft.metadata = it.value;
        return false;
      case "channel":
        if (it.value.index >= 0 && it.value.index < 8) draft.channels.set(it.value.index, it.value);
        return false;
      case "config":
        this.#config(it.value);
        return false;
      case "configCompleteId":
        return it.value === this.nonce;
      default:
        return false;
    }
  }

  answer(restarts: number): RadioAnswer {
    const { my, lora, channels } = this.#draft;
    const facts = this.isLocked || this.lacks !== undefined ? undefined : this.#draft.facts();
    return {
      number: my?.myNodeNum ?? 0,
      facts,
      isManaged: this.#security?.isManaged ?? false,
      restarts,
      lora,
      channels,
    };
  }

  #config({ payloadVariant: it }: Config.Config): void {
    if (it.case === "lora") this.#draft.lora = it.value;
    else if (it.case === "security") this.#security = it.value;
  }
}

/** As the session's, but rejects once the signal aborts. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await pauseOf(clock, delayMs, signal);
  signal.throwIfAborted();
}
