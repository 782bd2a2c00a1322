/**
 * Keeps one tor under control for as long as the plugin runs: connects, proves itself, publishes the onion address, follows
 * what tor tells, and begins again whenever the connection goes. Streams live on meanwhile: they are tor's, not the
 * control port's. Owns the status; never a stream.
 */
import type { Clock, Log, MetricCounter, Random } from "@godwit/sdk";
import { authenticate, CookieRefused, type Credentials } from "./auth.ts";
import { ControlConnection, ControlError } from "./control.ts";
import { infoOf, parseWords, type Reply } from "./control-reply.ts";
import type { Door } from "./endpoint.ts";
import type { ClientKey, OnionKey } from "./onion.ts";
import { dialFailed } from "./socks.ts";
import {
  afterLoss,
  bootstrapOf,
  initialStatus,
  judgeEvent,
  type TorStatus,
  whyClockHolds,
  whyNotReady,
} from "./status.ts";
import { pause, Pauses, reasonOf } from "./wait.ts";

const RECONNECT = { firstMs: 250, capMs: 10_000 } as const;
/** A process that is stopped still has its sockets open: only an answer proves that it lives. */
const HEARTBEAT_MS = 30_000;
const CLOCK_CHECK_MS = 5_000;
/** A published address stays published over a restart of tor, which is shorter than this. */
const WITHDRAW_AFTER_MS = 120_000;
/** How long a dial waits for tor before it gives its place to others. */
const READY_WAIT_MS = 15_000;
/** Dials that wait at once: the node has only so many places for dials, and other transports need some. */
const READY_WAITERS_MAX = 8;
/** Streams on one circuit to our address. Nobody has a reason for more than a few. */
const STREAMS_PER_CIRCUIT_MAX = 16;
const CLIENT_KEYS_MAX = 1_024;
const COLLISION = 550;
/** ONION_CLIENT_AUTH_ADD: replaced, or added beside a descriptor that was there. */
const CLIENT_AUTH_OK = [251, 252];

export interface OnionService {
  readonly key: OnionKey;
  readonly port: number;
  /** `127.0.0.1:12345` */
  readonly target: string;
  readonly clients: readonly string[];
}

export interface ControllerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Undefined: tor is not ours to control, and only the clock is watched. */
  readonly door: Door | undefined;
  /** Tor goes by this machine's clock: without one that is set it can do nothing. */
  readonly isClockShared: boolean;
  readonly credentials: Credentials;
  readonly onion: OnionService | undefined;
  readonly clientKey: ClientKey | undefined;
  readonly circuits: MetricCounter;
  readonly losses: MetricCounter;
  onStatus(status: TorStatus): void;
  /** The onion address can be found by others, or no longer. */
  onPublished(isPublished: boolean): void;
}

export class TorController {
  readonly #deps: ControllerDeps;
  #status: TorStatus;
  #control: ControlConnection | undefined;
  #isPublished = false;
  #withdrawal: { cancel(): void } | undefined;
  readonly #waiting = new Set<() => void>();
  /** Onion names that the tor of this connection was given our client key for. */
  readonly #keyed = new Set<string>();

  constructor(deps: ControllerDeps) {
    this.#deps = deps;
    this.#status = {
      ...initialStatus,
      held: this.#whyHeld,
      onionTrouble: deps.onion === undefined ? undefined : "the address is not published yet",
    };
  }

  get #whyHeld(): string | undefined {
    const { clock, isClockShared } = this.#deps;
    return isClockShared ? whyClockHolds(clock.wallMs()) : undefined;
  }

  get status(): TorStatus {
    return this.#status;
  }

  /** Ends with the signal; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, door, losses, log } = this.#deps;
    const pauses = new Pauses(RECONNECT.firstMs, RECONNECT.capMs, random);
    while (!signal.aborted) {
      const held = this.#whyHeld;
      this.#change({ held });
      if (held !== undefined || door === undefined) {
        await pause(clock, CLOCK_CHECK_MS, signal);
        continue;
      }
      let why: string;
      try {
        why = await this.#session(door, signal, () => pauses.reset());
        losses.add();
      } catch (error) {
        why = reasonOf(error);
      }
      this.#control = undefined;
      this.#keyed.clear();
      if (signal.aborted) break;
      log.debug("tor control lost", { reason: why });
      this.#set(afterLoss(this.#status, why));
      if (this.#isPublished)
        this.#withdrawal ??= clock.after(WITHDRAW_AFTER_MS, () => this.#setPublished(false));
      await pause(clock, pauses.next(), signal);
    }
    this.#withdrawal?.cancel();
    for (const wake of [...this.#waiting]) wake();
  }

  /** Of the tor that is our child: why it does not run; undefined: it does. */
  setChildTrouble(childTrouble: string | undefined): void {
    this.#change({ childTrouble });
  }

  /** Resolves when a dial has a chance. Rejects with GODWIT_DIAL_FAILED in tor's own words, or the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
    const { clock, door } = this.#deps;
    const isControlled = door !== undefined;
    const deadline = clock.monotonicMs() + READY_WAIT_MS;
    for (;;) {
      signal.throwIfAborted();
      const why = whyNotReady(this.#status, isControlled);
      if (why === undefined) return;
      const leftMs = deadline - clock.monotonicMs();
      if (leftMs <= 0 || this.#waiting.size >= READY_WAITERS_MAX) throw dialFailed(why);
      await this.#nextChange(signal, leftMs);
    }
  }

  /** Before a dial: the onion address may let in only those it knows. Never rejects. */
  async showClientKey(name: string): Promise<void> {
    const { clientKey, log } = this.#deps;
    const control = this.#control;
    if (clientKey === undefined || control === undefined || this.#keyed.has(name)) return;
    if (this.#keyed.size >= CLIENT_KEYS_MAX) return;
    this.#keyed.add(name);
    try {
      await control.command(`ONION_CLIENT_AUTH_ADD ${name} ${clientKey.blob.revealText()}`);
    } catch (error) {
      if (error instanceof ControlError && CLIENT_AUTH_OK.includes(error.code)) return;
      this.#keyed.delete(name);
      log.debug("client key not taken", { reason: reasonOf(error) });
    }
  }

  /** Answers why the connection ended. Rejects when it never came to work. */
  async #session(door: Door, signal: AbortSignal, onUp: () => void): Promise<string> {
    try {
      return await this.#connection(door, signal, onUp, true);
    } catch (error) {
      if (!(error instanceof CookieRefused) || this.#deps.credentials.password === undefined) throw error;
      // A cookie that is stale, or another tor's, says nothing of the password; that tor closes the connection over it.
      return await this.#connection(door, signal, onUp, false).catch((second: unknown) => {
        throw new ControlError(`${error.message}; nor does the password help: ${reasonOf(second)}`);
      });
    }
  }

  async #connection(door: Door, signal: AbortSignal, onUp: () => void, withCookie: boolean): Promise<string> {
    const { clock, credentials, onion } = this.#deps;
    const closed = new AbortController();
    let why = "it ended";
    const control = await ControlConnection.open(door, {
      clock,
      signal,
      handlers: {
        event: (lines) => this.#onEvent(lines),
        closed: (reason) => {
          why = reason;
          closed.abort();
        },
      },
    });
    const onAbort = () => control.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (signal.aborted) return why;
      await authenticate(control, credentials, withCookie);
      await control.command("SETEVENTS STATUS_CLIENT STATUS_GENERAL HS_DESC NETWORK_LIVENESS CIRC");
      await this.#refresh(control);
      if (onion !== undefined) await this.#publish(control, onion);
      this.#control = control;
      this.#change({ controlTrouble: undefined, childTrouble: undefined });
      onUp();
      while (!control.isClosed) {
        await pause(clock, HEARTBEAT_MS, closed.signal);
        if (!control.isClosed) await this.#refresh(control).catch(() => control.close());
      }
      return why;
    } finally {
      signal.removeEventListener("abort", onAbort);
      control.close();
    }
  }

  async #refresh(control: ControlConnection): Promise<void> {
    const reply = await control.command(
      "GETINFO status/bootstrap-phase status/circuit-established network-liveness",
    );
    const { words, values } = parseWords(infoOf(reply, "status/bootstrap-phase") ?? "");
    this.#change({
      ...bootstrapOf(values, words[0] === "WARN"),
      hasCircuit: infoOf(reply, "status/circuit-established") === "1",
      isNetworkUp: infoOf(reply, "network-liveness") !== "down",
      held: this.#whyHeld,
    });
  }

  async #publish(control: ControlConnection, { key, port, target, clients }: OnionService): Promise<void> {
    const flags = ["MaxStreamsCloseCircuit", ...(clients.length > 0 ? ["V3Auth"] : [])];
    const command = [
      `ADD_ONION ${key.blob.revealText()}`,
      `Flags=${flags.join(",")}`,
      `MaxStreams=${STREAMS_PER_CIRCUIT_MAX}`,
      `Port=${port},${target}`,
      ...clients.map((client) => `ClientAuthV3=${client}`),
    ].join(" ");
    // Not detached: the address ends with this connection, so a node that dies leaves none that leads nowhere.
    try {
      await control.command(command);
    } catch (error) {
      if (!(error instanceof ControlError) || error.code !== COLLISION) throw error;
      // Of our connection before, which tor has not missed yet, or of somebody who left it behind.
      await control.command(`DEL_ONION ${key.name}`);
      await control.command(command);
    }
  }

  #onEvent(lines: Reply["lines"]): void {
    const { onion, circuits } = this.#deps;
    for (const { text } of lines) {
      const event = judgeEvent(this.#status, text);
      if (event.kind === "status") this.#set(event.status);
      else if (event.kind === "circuit") circuits.add(1, { outcome: event.outcome });
      else if (event.kind !== "other" && event.onion === onion?.key.name) {
        if (event.kind === "uploaded") this.#setPublished(true);
        else if (!this.#isPublished)
          this.#change({ onionTrouble: `the address could not be published: ${event.reason.slice(0, 60)}` });
      }
    }
  }

  #setPublished(isPublished: boolean): void {
    this.#withdrawal?.cancel();
    this.#withdrawal = undefined;
    this.#change({ onionTrouble: isPublished ? undefined : "the address is not published" });
    if (this.#isPublished === isPublished) return;
    this.#isPublished = isPublished;
    this.#deps.onPublished(isPublished);
  }

  #change(change: Partial<TorStatus>): void {
    this.#set({ ...this.#status, ...change });
  }

  #set(status: TorStatus): void {
    this.#status = status;
    this.#deps.onStatus(status);
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves with the next change of the status, after `delayMs`, or with the signal. */
  #nextChange(signal: AbortSignal, delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        timer.cancel();
        signal.removeEventListener("abort", end);
        this.#waiting.delete(end);
        resolve();
      };
      const timer = this.#deps.clock.after(delayMs, end);
      signal.addEventListener("abort", end, { once: true });
      this.#waiting.add(end);
    });
  }
}
