/**
 * A tor of our own: its torrc, its process, its restarts. It lives in a folder of the plugin instance that nobody else may
 * read, has unix sockets instead of ports, and ends with the node, at the latest 15 s after it (`__OwningControllerProcess`).
 */
import { chmod, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Log, Random } from "@godwit/sdk";
import { authenticate } from "./auth.ts";
import type { TorConfig } from "./config.ts";
import { ControlConnection } from "./control.ts";
import { whyClockHolds } from "./status.ts";
import { pause, Pauses, reasonOf } from "./wait.ts";

const RESTART = { firstMs: 1_000, capMs: 60_000 } as const;
/** A life this long makes the next end a first one. */
const STABLE_MS = 60_000;
const CLOCK_CHECK_MS = 5_000;
/** After SIGTERM; then SIGKILL. A plugin has a second to stop. */
const TERM_MS = 700;
const LOG_LINES_MAX = 200;
const LOG_LINE_CHARS_MAX = 400;
/** Of the kernel (sun_path), without the NUL. */
const SOCKET_PATH_MAX = 107;
const HALT_WAIT_MS = 5_000;

export interface ChildPaths {
  readonly folder: string;
  readonly data: string;
  readonly torrc: string;
  readonly socks: string;
  readonly control: string;
  readonly cookie: string;
}

export function pathsIn(folder: string): ChildPaths {
  const data = join(folder, "data");
  const paths = {
    folder,
    data,
    torrc: join(folder, "torrc"),
    socks: join(folder, "socks.sock"),
    control: join(folder, "ctl.sock"),
    cookie: join(data, "control_auth_cookie"),
  };
  const longest = Buffer.byteLength(paths.socks);
  if (longest > SOCKET_PATH_MAX || /[\s"'\\]/.test(folder))
    throw new Error(
      `${folder} is no place for unix sockets: at most ${SOCKET_PATH_MAX - 11} bytes, no spaces or quotes; set node.state_dir`,
    );
  return paths;
}

/** Nothing in it is secret but bridges; the file is private all the same. */
export function renderTorrc(
  config: Pick<TorConfig, "bridges" | "pluggable_transports" | "torrc">,
  paths: ChildPaths,
  ownerPid: number,
): string {
  const lines = [
    `DataDirectory ${paths.data}`,
    `SocksPort unix:${paths.socks} ExtendedErrors`,
    `ControlSocket ${paths.control}`,
    "CookieAuthentication 1",
    `CookieAuthFile ${paths.cookie}`,
    `__OwningControllerProcess ${ownerPid}`,
    "ClientOnly 1",
    "DormantCanceledByStartup 1",
    "AvoidDiskWrites 1",
    "SafeLogging 1",
    "Log notice stdout",
    ...Object.entries(config.pluggable_transports).map(
      ([name, path]) => `ClientTransportPlugin ${name} exec ${path}`,
    ),
    ...(config.bridges.length > 0 ? ["UseBridges 1"] : []),
    ...config.bridges.map((bridge) => `Bridge ${bridge}`),
    ...config.torrc,
  ];
  return `${lines.join("\n")}\n`;
}

/** The last lines of what tor said. */
export class LogRing {
  readonly lines: string[] = [];
  #rest = "";

  push(text: string): void {
    const pieces = (this.#rest + text).split("\n");
    this.#rest = pieces.pop()!.slice(0, LOG_LINE_CHARS_MAX);
    for (const piece of pieces) this.lines.push(piece.slice(0, LOG_LINE_CHARS_MAX));
    this.lines.splice(0, Math.max(0, this.lines.length - LOG_LINES_MAX));
  }

  /** What most likely tells why it ended. */
  get complaint(): string {
    const find = (level: string) => this.lines.findLast((line) => line.includes(`[${level}]`));
    const line = find("err") ?? find("warn") ?? this.lines.at(-1) ?? "it said nothing";
    return line.replace(/^.*?\[(?:err|warn)\]\s*/, "");
  }
}

export interface ChildDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: TorConfig;
  readonly paths: ChildPaths;
  /** Why it does not run; undefined: it was started. */
  onTrouble(reason: string | undefined): void;
}

/** Keeps a tor running until the signal aborts; never rejects. */
export async function superviseTor(deps: ChildDeps, signal: AbortSignal): Promise<void> {
  const { clock, random, log, onTrouble } = deps;
  const pauses = new Pauses(RESTART.firstMs, RESTART.capMs, random);
  while (!signal.aborted) {
    if (whyClockHolds(clock.wallMs()) !== undefined) {
      await pause(clock, CLOCK_CHECK_MS, signal);
      continue;
    }
    const startedAtMs = clock.monotonicMs();
    let why: string;
    try {
      await prepare(deps);
      await haltEarlier(deps, signal);
      if (signal.aborted) return;
      why = await runOnce(deps, signal);
    } catch (error) {
      why = `tor cannot be started: ${reasonOf(error)}`;
    }
    if (signal.aborted) return;
    if (clock.monotonicMs() - startedAtMs >= STABLE_MS) pauses.reset();
    const delayMs = pauses.next();
    log.warn("tor ended", { reason: why, retry_ms: Math.round(delayMs) });
    onTrouble(why);
    await pause(clock, delayMs, signal);
  }
}

async function prepare({ config, paths }: ChildDeps): Promise<void> {
  await mkdir(paths.data, { recursive: true, mode: 0o700 });
  await chmod(paths.data, 0o700);
  // Written under its final mode: it names the bridges.
  await writeFile(paths.torrc, "", { mode: 0o600 });
  await chmod(paths.torrc, 0o600);
  await writeFile(paths.torrc, renderTorrc(config, paths, process.pid));
}

/** After a crash of the node its tor lives on for some seconds and holds the folder's lock: it is told to end. */
async function haltEarlier({ clock, random, paths }: ChildDeps, signal: AbortSignal): Promise<void> {
  if ((await stat(paths.control).catch(() => undefined)) === undefined) return;
  const closed = new AbortController();
  try {
    const control = await ControlConnection.open(
      { path: paths.control },
      { clock, signal, handlers: { event() {}, closed: () => closed.abort() } },
    );
    try {
      await authenticate(control, { password: undefined, cookieFile: paths.cookie, random });
      await control.command("SIGNAL HALT");
      await pause(clock, HALT_WAIT_MS, AbortSignal.any([closed.signal, signal]));
    } finally {
      control.close();
    }
  } catch {
    // Nobody behind that socket any more, as it should be; the next tor replaces it.
  }
}

/** Answers in words why it ended. */
async function runOnce(
  { clock, log, config, paths, onTrouble }: ChildDeps,
  signal: AbortSignal,
): Promise<string> {
  const child = Bun.spawn([config.binary, "--defaults-torrc", "/dev/null", "-f", paths.torrc], {
    // Nothing of the node's environment is tor's business: secrets of others may be in it.
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin:/usr/sbin:/sbin", HOME: paths.folder },
    cwd: paths.folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  log.info("tor started", { pid: child.pid });
  onTrouble(undefined);
  const ring = new LogRing();
  const reading = readLines(child.stdout, ring);
  const kill = { timer: undefined as { cancel(): void } | undefined };
  const onAbort = () => {
    child.kill("SIGTERM");
    kill.timer = clock.after(TERM_MS, () => child.kill("SIGKILL"));
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    const code = await child.exited;
    await reading;
    return `tor ended with ${child.signalCode ?? code}: ${ring.complaint}`;
  } finally {
    kill.timer?.cancel();
    signal.removeEventListener("abort", onAbort);
  }
}

async function readLines(stream: ReadableStream<Uint8Array>, ring: LogRing): Promise<void> {
  const decoder = new TextDecoder();
  try {
    for await (const chunk of stream) ring.push(decoder.decode(chunk, { stream: true }));
  } catch {
    // The pipe broke; what is in the ring stays.
  }
}
