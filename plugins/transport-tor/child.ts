/**
 * A tor of our own: its torrc, and what becomes of it. It lives in a folder of the plugin instance that nobody else may read,
 * has unix sockets instead of ports, and ends with the node; `@godwit/sdk/process` starts and watches it.
 */
import { chmod, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Log, Random } from "@godwit/sdk";
import { Daemon } from "@godwit/sdk/process";
import type { TorConfig } from "./config.ts";
import { whyClockHolds } from "./status.ts";
import { pause } from "./wait.ts";

const CLOCK_CHECK_MS = 5_000;
/** From its start to its control socket. Bootstrapping comes after that and may take as long as it takes. */
const READY_MS = 60_000;
/** Of the kernel (sun_path), without the NUL. */
const SOCKET_PATH_MAX = 107;

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

/** What most likely tells why it ended. */
export function complaintOf(lines: readonly string[]): string | undefined {
  const find = (level: string) => lines.findLast((line) => line.includes(`[${level}]`));
  const line = find("err") ?? find("warn") ?? lines.at(-1);
  return line?.replace(/^.*?\[(?:err|warn)\]\s*/, "");
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
export function superviseTor(deps: ChildDeps, signal: AbortSignal): Promise<void> {
  const { clock, random, log, config, paths, onTrouble } = deps;
  const daemon = new Daemon(
    {
      name: "tor",
      command: [config.binary, "--defaults-torrc", "/dev/null", "-f", paths.torrc],
      folder: paths.folder,
      prepare: (ending) => prepare(deps, ending),
      isReady: async () => (await stat(paths.control)).isSocket(),
      readyMs: READY_MS,
      complaint: complaintOf,
    },
    {
      clock,
      random,
      log,
      onState: (state) => onTrouble(state.state === "waiting" ? state.reason : undefined),
    },
  );
  return daemon.run(signal);
}

async function prepare({ clock, config, paths }: ChildDeps, signal: AbortSignal): Promise<void> {
  while (whyClockHolds(clock.wallMs()) !== undefined && !signal.aborted)
    await pause(clock, CLOCK_CHECK_MS, signal);
  await mkdir(paths.data, { recursive: true, mode: 0o700 });
  await chmod(paths.data, 0o700);
  // Of a tor that was killed: nobody is behind them.
  for (const socket of [paths.control, paths.socks]) await rm(socket, { force: true });
  // Written under its final mode: it names the bridges.
  await writeFile(paths.torrc, "", { mode: 0o600 });
  await chmod(paths.torrc, 0o600);
  await writeFile(paths.torrc, renderTorrc(config, paths, process.pid));
}
