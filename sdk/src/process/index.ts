/**
 * Daemons that a plugin runs beside the node: started, watched, started again, and never left behind. A transport whose
 * network is another program's (tor, wireguard-go, yggdrasil) describes that program and is told what becomes of it. The
 * program has a process group of its own, an environment of its own, and ends with the node, however that ends. Must
 * never put a secret into an argument or an environment: they go into files of the plugin's folder.
 */
import { access, constants } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { Random } from "../random.ts";
import { type DeathSignal, launch, type Launched, signalGroup } from "./launch.ts";
import { endLeftover, forget, remember } from "./leftover.ts";
import { readPaced } from "./paced.ts";
import { LogRing } from "./ring.ts";
import { pause, Pauses } from "./wait.ts";

export type { DeathSignal } from "./launch.ts";
export { readPrivate, writePrivate } from "./private-file.ts";
export { readPaced } from "./paced.ts";
export { LogRing } from "./ring.ts";
export { pause, Pauses } from "./wait.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const RESTART = { firstMs: 1_000, capMs: 60_000 } as const;
/** A life this long makes the next end a first one. */
const STABLE_MS = 60_000;
/** This many ends within the window, and it rests: a program that dies at once must not fill a disk with its words. */
const CRASH_BUDGET = { crashes: 8, windowMs: 600_000, restMs: 300_000 } as const;
const PROBE_MS = 100;
const READY_MS = 30_000;
/** After SIGTERM; then SIGKILL. A plugin has a second to stop. */
const TERM_MS = 700;
/** What it said last is still in the pipe when it has ended; a grandchild may hold the pipe open for ever. */
const LAST_WORDS_MS = 200;

export interface DaemonOptions {
  /** Kebab-case, for logs, reasons and the name of the file with its pid. */
  readonly name: string;
  /** Its program, by name or absolute path, and its arguments, which everybody on the machine may read. */
  readonly command: readonly [string, ...string[]];
  /** Working folder and HOME of the program, and place of `NAME.pid`: one that nobody else can write to (`ctx.folder`). */
  readonly folder: string;
  /** Beside PATH and HOME. Nothing of the node's own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Before each start, once what an earlier run left has ended: writes configuration, removes stale sockets. */
  prepare?(signal: AbortSignal): Promise<void>;
  /** Whether it does its work by now; asked every 100 ms. A rejection means no. Default: as soon as it runs. */
  isReady?(signal: AbortSignal): Promise<boolean>;
  /** It is ended when it is not ready after so long. Default 30,000 ms. */
  readonly readyMs?: number;
  /** From SIGTERM to SIGKILL when it is to stop. Default 700 ms: a plugin has a second. */
  readonly stopMs?: number;
  /** Sent by the kernel when this process dies. SIGTERM for one that has something to tidy up. Default SIGKILL. */
  readonly deathSignal?: DeathSignal;
  /** Of its last lines, what most likely tells why it ended. Default: the last. */
  complaint?(lines: readonly string[]): string | undefined;
}

export type DaemonState =
  | { readonly state: "starting" | "ready"; readonly pid: number }
  /** Ended, or could not be started; tried again after `retryMs`. */
  | { readonly state: "waiting"; readonly reason: string; readonly retryMs: number };

export interface DaemonDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  onState(state: DaemonState): void;
}

interface End {
  readonly reason: string;
  /** It ran, and ended. */
  readonly isCrash: boolean;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #deps: DaemonDeps;
  #ring = new LogRing();
  #child: Launched | undefined;
  /** Why it was told to end, if we did: none or one. */
  #orders: string[] = [];
  #kill: { cancel(): void } | undefined;
  /** When it crashed, on the monotonic clock; at most the budget and one. */
  #crashes: number[] = [];

  constructor(options: DaemonOptions, deps: DaemonDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** While it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** What this life of it, or the last one, said: at most 64 KiB. */
  get lines(): readonly string[] {
    return this.#ring.lines;
  }

  /** Ends it; it is started again like after a crash. For one that runs and does not work. */
  restart(reason: string): void {
    if (this.#child !== undefined) this.#end(reason);
  }

  /** Keeps it running until the signal aborts, and has ended it when it resolves; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log, onState } = this.#deps;
    const pauses = new Pauses(RESTART.firstMs, RESTART.capMs, random);
    while (!signal.aborted) {
      const startedAtMs = clock.monotonicMs();
      const { reason, isCrash } = await this.#live(signal);
      if (signal.aborted) return;
      if (clock.monotonicMs() - startedAtMs >= STABLE_MS) pauses.reset();
      const isSpent = isCrash && this.#spend();
      const retryMs = Math.round(isSpent ? CRASH_BUDGET.restMs : pauses.next());
      log.warn("daemon ended", { daemon: this.#options.name, reason, retry_ms: retryMs });
      onState({ state: "waiting", reason, retryMs });
      await pause(clock, retryMs, signal);
    }
  }

  /** Counts a crash; true when that is one too many. */
  #spend(): boolean {
    const nowMs = this.#deps.clock.monotonicMs();
    this.#crashes = this.#crashes.filter((atMs) => nowMs - atMs < CRASH_BUDGET.windowMs);
    this.#crashes.push(nowMs);
    if (this.#crashes.length <= CRASH_BUDGET.crashes) return false;
    this.#crashes = [];
    return true;
  }

  get #pidFile(): string {
    return join(this.#options.folder, `${this.#options.name}.pid`);
  }

  /** One life, from nothing to its end. */
  async #live(signal: AbortSignal): Promise<End> {
    const { clock, log } = this.#deps;
    const { name, command, folder, env, prepare, deathSignal = "SIGKILL" } = this.#options;
    let child: Launched;
    try {
      const left = await endLeftover(this.#pidFile, clock, signal);
      if (left !== undefined) log.info("daemon of an earlier run ended", { daemon: name, pid: left });
      await prepare?.(signal);
      if (signal.aborted) return { reason: "stopped", isCrash: false };
      const path = process.env["PATH"] ?? DEFAULT_PATH;
      const file = await findProgram(command[0], path);
      if (file === undefined) return { reason: `${name} is not installed: no ${command[0]}`, isCrash: false };
      child = launch({
        file,
        args: command.slice(1),
        env: { PATH: path, HOME: folder, ...env },
        cwd: folder,
        deathSignal,
      });
    } catch (error) {
      return { reason: `${name} cannot be started: ${reasonOf(error)}`, isCrash: false };
    }
    const reason = await this.#watch(child, signal);
    return { reason, isCrash: true };
  }

  /** Answers why it ended. */
  async #watch(child: Launched, signal: AbortSignal): Promise<string> {
    const { log, onState, clock } = this.#deps;
    const { name } = this.#options;
    this.#child = child;
    this.#orders = [];
    this.#ring = new LogRing();
    const over = new AbortController();
    const reading = Promise.all([this.#read(child.stdout, "out"), this.#read(child.stderr, "err")]);
    const onAbort = () => this.#end("stopped");
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    log.info("daemon started", { daemon: name, pid: child.pid });
    onState({ state: "starting", pid: child.pid });
    const probing = this.#untilReady(child, over.signal);
    try {
      await remember(this.#pidFile, child.pid).catch((error: unknown) => this.#end(reasonOf(error)));
      const code = await child.exited;
      over.abort();
      const heard = new AbortController();
      await Promise.race([reading, pause(clock, LAST_WORDS_MS, heard.signal)]);
      heard.abort();
      for (const source of ["out", "err"]) this.#ring.flush(source);
      const complaint = (this.#options.complaint ?? lastLine)(this.#ring.lines) ?? "it said nothing";
      const [order] = this.#orders;
      return order === undefined
        ? `${name} ended with ${child.signalCode ?? code}: ${complaint}`
        : `${name} was ended: ${order}`;
    } finally {
      over.abort();
      signal.removeEventListener("abort", onAbort);
      this.#kill?.cancel();
      this.#kill = undefined;
      this.#child = undefined;
      // What it started itself goes with it.
      signalGroup(child.pid, "SIGKILL");
      await probing;
      await forget(this.#pidFile).catch(() => {});
    }
  }

  #end(reason: string): void {
    const child = this.#child;
    if (child === undefined || this.#orders.length > 0) return;
    this.#orders.push(reason);
    signalGroup(child.pid, "SIGTERM");
    this.#kill = this.#deps.clock.after(this.#options.stopMs ?? TERM_MS, () =>
      signalGroup(child.pid, "SIGKILL"),
    );
  }

  /** Never rejects. */
  async #untilReady({ pid }: Launched, over: AbortSignal): Promise<void> {
    const { clock, onState } = this.#deps;
    const { isReady = () => Promise.resolve(true), readyMs = READY_MS } = this.#options;
    const deadline = clock.monotonicMs() + readyMs;
    const aborted = new Promise<void>((resolve) =>
      over.addEventListener("abort", () => resolve(), { once: true }),
    );
    while (!over.aborted) {
      // A probe that hears no signal must not hold up the end.
      const answer = await Promise.race([
        isReady.call(this.#options, over).catch(() => false),
        aborted.then(() => false),
      ]);
      if (over.aborted) return;
      if (answer) return onState({ state: "ready", pid });
      if (clock.monotonicMs() >= deadline)
        return this.#end(`it was not ready within ${Math.round(readyMs / 1_000)} s`);
      await pause(clock, PROBE_MS, over);
    }
  }

  async #read(stream: ReadableStream<Uint8Array>, source: string): Promise<void> {
    const decoder = new TextDecoder();
    const ring = this.#ring;
    try {
      await readPaced(stream, this.#deps.clock, (bytes) =>
        ring.push(decoder.decode(bytes, { stream: true }), source),
      );
    } catch {
      // The pipe broke; what is in the ring stays.
    }
  }
}

/** Absolute path of a program that may be executed; undefined: there is none. */
async function findProgram(program: string, path: string): Promise<string | undefined> {
  const candidates = isAbsolute(program)
    ? [program]
    : path
        .split(":")
        .filter(isAbsolute)
        .map((folder) => join(folder, program));
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // The next one, then.
    }
  }
  return undefined;
}

const lastLine = (lines: readonly string[]): string | undefined =>
  lines.findLast((line) => line.trim() !== "");
const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
