/** The configuration that `init`, `join` and a first boot write: only what was asked for is set, the rest stands as comments. */
import { mkdirSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";

export interface StarterParts {
  readonly callsign?: string | undefined;
  readonly network?: string | undefined;
  /** References: `file:/path`. */
  readonly networkSecrets?: readonly string[];
  readonly stateDir?: string | undefined;
  /** Addresses of the TCP transport; none: every address, port 4860. */
  readonly listen?: readonly string[];
  /** Where the API listens, or `off`; absent: 127.0.0.1:8000. */
  readonly apiListen?: string | undefined;
  readonly peers: readonly string[];
  /** Finds the nodes of the LAN by multicast DNS. */
  readonly hasMdns?: boolean;
  /** Where the control socket is, instead of the state directory. */
  readonly socket?: string;
}

/** `--state-dir` as a configuration has it: from the root, whatever folder the command was given in. */
export function placeOf({
  option,
}: {
  readonly option: (name: string) => string | undefined;
}): string | undefined {
  const place = option("state-dir");
  return place === undefined ? undefined : resolve(place);
}

/**
 * Where a node keeps its identity and store whose configuration was named: beside that, so that it is neither the machine's own node nor
 * another one of this folder. Undefined: the configuration is the usual one, or the environment says where.
 */
export function placeBeside(
  named: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  if (named === undefined || env["GODWIT_NODE__STATE_DIR"] || env["STATE_DIRECTORY"]) return undefined;
  const path = resolve(named);
  if (path === defaultConfigPath(env)) return undefined;
  return join(dirname(path), `${basename(path, extname(path))}.state`);
}

/** As root the system's place, else the user's. */
export function defaultConfigPath(env: Readonly<Record<string, string | undefined>>): string {
  const home = env["XDG_CONFIG_HOME"] || (env["HOME"] ? `${env["HOME"]}/.config` : undefined);
  return process.getuid?.() === 0 || home === undefined
    ? "/etc/godwit/godwit.toml"
    : `${home}/godwit/godwit.toml`;
}

export function starterConfig({
  callsign,
  network,
  networkSecrets = [],
  stateDir,
  listen = [],
  apiListen = "127.0.0.1:8000",
  peers,
  hasMdns = false,
  socket,
}: StarterParts): string {
  const setting = (key: string, value: string | undefined, example: string) =>
    value === undefined ? `# ${key} = ${JSON.stringify(example)}` : `${key} = ${JSON.stringify(value)}`;
  const secret = networkSecrets.length === 1 ? networkSecrets[0] : networkSecrets;
  const discovery = [
    "[discovery.neighbours]",
    'type = "static"',
    `peers = [${(peers.length === 0 ? ["tcp://192.0.2.1:4860"] : peers).map((peer) => JSON.stringify(peer)).join(", ")}]`,
  ].map((line) => (peers.length === 0 ? `# ${line}` : line));
  const mdns = ["[discovery.lan]", 'type = "mdns"   # finds the nodes of this LAN, and is found by them'].map(
    (line) => (hasMdns ? line : `# ${line}`),
  );
  return [
    "# Every key and its meaning: godwit config explain",
    "",
    "[node]",
    setting("callsign", callsign, "DUN-A"),
    setting("network", network, "godwit"),
    networkSecrets.length === 0
      ? '# network_secret = "file:/etc/godwit/network.key"   # closes the mesh to strangers'
      : `network_secret = ${JSON.stringify(secret)}`,
    setting("state_dir", stateDir, "/var/lib/godwit"),
    "",
    "[transports.lan]",
    'type = "tcp"',
    `listen = [${(listen.length === 0 ? ["[::]:4860"] : listen).map((address) => JSON.stringify(address)).join(", ")}]`,
    "",
    ...discovery,
    "",
    ...mdns,
    "",
    "[api]",
    `listen = ${apiListen === "off" ? "false" : JSON.stringify(apiListen)}`,
    ...(socket === undefined ? [] : [`socket = ${JSON.stringify(socket)}`]),
    "",
  ].join("\n");
}

/** All of it or nothing, and no half-written file after a power cut; its folder is made. */
export function writeConfig(path: string, content: string | Uint8Array, mode = 0o644): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeWhole(path, content, mode & ~process.umask());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError(
      "GODWIT_CONFIG_UNREADABLE",
      `cannot write ${path}: ${reason}; choose a place with --config`,
      error,
    );
  }
}
