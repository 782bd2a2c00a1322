/**
 * The sockets under the API: TCP listeners and the unix socket of the CLI. Owns who may open the socket file, that a
 * dead node's socket is replaced and a living one's never, and that nothing is left at stop. Knows no route.
 */
import { lstatSync, unlinkSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";
import { asGodwitError, GodwitError, godwitError } from "../kernel/errors.ts";
import { whyNotListening } from "@godwit/sdk/listening";
import { Late } from "../kernel/late.ts";
import type { Log } from "../kernel/log.ts";
import type { Scope } from "../kernel/scope.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Api } from "./app.ts";
import { ControlSocket } from "./control-socket.ts";
import { HttpServer, type Listener, newPlaces, type PassedListener } from "./http.ts";

/** sun_path of sockaddr_un(7) is 108 bytes with its end mark. */
export const SOCKET_PATH_BYTES_MAX = 107;
/** Silence after which a connection is cut, in seconds; event streams and traces lift it off themselves. */
const IDLE_TIMEOUT_SECONDS = 60;
/** What requests in progress get at stop before they are cut. */
export const STOP_GRACE_MS = 2_000;
/** What streams get that came by a file of the control socket that was deleted since. */
const RETIRE_GRACE_MS = 24 * 3_600_000;
const SOCKET_MODE_UMASK = 0o177;

export interface ApiAddress {
  /** An IP literal. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

export interface ApiServerOptions {
  readonly app: Api;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Empty: no TCP. */
  readonly listen: readonly ApiAddress[];
  readonly socketPath: string;
  /** Opened by a service manager. With a TCP one among them, those are all: `listen` is not looked at. */
  readonly passed?: readonly PassedListener[];
}

export interface ApiServers {
  /** `127.0.0.1:8000`, `[::1]:8000`: the real addresses that are open now, in the order of `listen`. */
  readonly addresses: readonly string[];
  readonly socketPath: string;
  /** Why an address of `listen` is not open, for each that is not; and the control socket, where nobody can find it. */
  readonly waiting: readonly string[];
  /**
   * Where it listens from now on; addresses that are as before stay open, with everybody who came by them. Whoever is being answered by one that
   * goes is answered. Where a service manager passed a TCP socket nothing changes: that one is all.
   */
  listenOn(listen: readonly ApiAddress[]): void;
}

/**
 * Opens the socket, what was passed, and every address that is there; one that is not is tried until it is. The scope closes all. Throws
 * GODWIT_LISTEN_FAILED (what was passed is no listener), GODWIT_STATE_UNUSABLE (another node runs on this socket, or the file
 * is something else) or GODWIT_CONFIG_INVALID (path too long).
 */
export async function startApiServers(options: ApiServerOptions, scope: Scope): Promise<ApiServers> {
  const { socketPath, passed = [] } = options;
  const passedTcp = passed.flatMap((one) => (one.kind === "tcp" ? [formatAddress(one.host, one.port)] : []));
  const listen = passedTcp.length > 0 ? [] : options.listen;
  const fronts = openFronts(options);
  await clearSocketPath(socketPath);
  const onSocket = new ControlSocket<HttpServer>({
    path: socketPath,
    clock: options.clock,
    log: options.log,
    open: () => serveSocket(socketPath, fronts),
    retire: (server) => server.stop(RETIRE_GRACE_MS),
  });
  const adopted: HttpServer[] = [];
  try {
    for (const server of onSocket.servers) await openedSocket(server, socketPath);
    for (const listener of passed) adopted.push(await adopt(listener, fronts));
  } catch (error) {
    onSocket.stop();
    await Promise.all([...onSocket.servers, ...adopted].map((server) => server.stop(0)));
    throw error;
  }
  const open = (address: ApiAddress) => ({ address, late: listenLate(options, fronts, address) });
  let tcp = listen.map(open);
  /** Of addresses that went, with what is still being answered there. */
  const leaving = new Set<Promise<void>>();
  const opened = () => tcp.flatMap(({ late }) => late.opened ?? []);
  scope.own(async () => {
    for (const { late } of tcp) late.stop();
    // No longer found by anybody who comes now; those who have it open are still answered.
    onSocket.stop();
    await Promise.all(
      [...onSocket.servers, ...adopted, ...opened()].map((server) => server.stop(STOP_GRACE_MS)),
    );
    await Promise.all(leaving);
  });
  const leave = ({ late }: (typeof tcp)[number]) => {
    late.stop();
    const left = late.opened?.stop(STOP_GRACE_MS);
    if (left !== undefined) leaving.add(left.finally(() => leaving.delete(left)));
  };
  const servers: ApiServers = {
    get addresses() {
      const own = tcp.flatMap(({ address, late: { opened: server } }) =>
        server === undefined ? [] : formatAddress(address.host, server.port),
      );
      return [...own, ...passedTcp];
    },
    socketPath,
    get waiting() {
      const reasons: string[] = [];
      for (const { late } of tcp) if (late.reason !== undefined) reasons.push(late.reason);
      return onSocket.trouble === undefined ? reasons : [...reasons, onSocket.trouble];
    },
    listenOn(wanted) {
      if (passedTcp.length > 0) return;
      const before = [...tcp];
      const kept = wanted.map(({ host, port }) => {
        const at = before.findIndex(({ address }) => address.host === host && address.port === port);
        return at < 0 ? undefined : before.splice(at, 1)[0];
      });
      // First, because a new one may need the port.
      before.forEach(leave);
      tcp = wanted.map((address, index) => kept[index] ?? open(address));
      options.log.info("api listening", { addresses: servers.addresses });
    },
  };
  const sockets = passed.flatMap((one) => (one.kind === "unix" ? [one.path] : []));
  options.log.info("api listening", {
    addresses: servers.addresses,
    socket: socketPath,
    ...(passed.length === 0 ? {} : { passed: [...passedTcp, ...sockets] }),
  });
  return servers;
}

/** Opens a front for HTTP on a listener; not waited for. */
type Front = (listener: Listener) => HttpServer;

/** Connections over TCP are counted together, those over unix sockets apart: their file says who may. */
function openFronts({ app, clock, metrics }: ApiServerOptions): Front {
  const places = { tcp: newPlaces(), unix: newPlaces() };
  const refused = metrics.counter("godwit_http_connections_refused_total");
  metrics.observedGauge("godwit_http_connections", () => places.tcp.count + places.unix.count);
  return (listener) =>
    new HttpServer(listener, {
      app,
      clock,
      places: places[listener.kind],
      refused: () => refused.add(),
      idleMs: IDLE_TIMEOUT_SECONDS * 1_000,
      hosts: new Set(listener.kind === "tcp" ? [bracketed(listener.host)] : []),
    });
}

function listenLate(options: ApiServerOptions, front: Front, address: ApiAddress): Late<HttpServer> {
  const { clock, log } = options;
  const where = formatAddress(address.host, address.port);
  let wasMissing = false;
  return new Late({
    clock,
    open: () => serveTcp(front, address),
    changed(error) {
      if (error !== undefined)
        log.warn("api address missing", { address: where, error: asGodwitError(error) });
      else if (wasMissing) log.info("api address open", { address: where });
      wasMissing = error !== undefined;
    },
  });
}

async function adopt(listener: PassedListener, front: Front): Promise<HttpServer> {
  const server = front(listener);
  try {
    await server.opened();
    return server;
  } catch (error) {
    throw godwitError(
      "GODWIT_LISTEN_FAILED",
      `descriptor ${listener.fd} that the service manager passed cannot be used: ${reasonOf(error)}`,
      error,
    );
  }
}

function serveSocket(path: string, front: Front): HttpServer {
  // The file must be 0600 from its first moment: a chmod afterwards would leave a window. It is made within the call, so that nothing
  // else of this thread creates a file meanwhile.
  const umask = process.umask(SOCKET_MODE_UMASK);
  try {
    return front({ kind: "unix", path });
  } finally {
    process.umask(umask);
  }
}

async function openedSocket(server: HttpServer, path: string): Promise<void> {
  try {
    await server.opened();
  } catch (error) {
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `cannot open the control socket ${path} (${reasonOf(error)}); set api.socket to a writable place`,
      error,
    );
  }
}

/** Throws GODWIT_LISTEN_FAILED. */
function serveTcp(front: Front, address: { host: string; port: number }): HttpServer {
  const server = front({ kind: "tcp", ...address });
  if (server.isListening) return server;
  const where = formatAddress(address.host, address.port);
  throw godwitError("GODWIT_LISTEN_FAILED", `the api cannot listen on ${where}: ${whyNot(address)}`);
}

/** The net server says it later, and this has to be said now. */
function whyNot({ host, port }: { host: string; port: number }): string {
  try {
    Bun.listen({ hostname: host, port, socket: { data() {} } }).stop(true);
    return "it came free just now";
  } catch (error) {
    return whyNotListening(error, { protocol: "tcp", host, port, setting: "api.listen" });
  }
}

/** Removes what a dead node left. */
async function clearSocketPath(path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX)
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `api.socket: the path of a unix socket has at most ${SOCKET_PATH_BYTES_MAX} bytes, ${path} has ${bytes}; ` +
        'set a shorter one, like api.socket = "/run/godwit.sock"',
    );
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `${path} is there and is no socket; move it away or set api.socket`,
    );
  if (await answers(path))
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `another node runs here: ${path} answers; stop it or use another state_dir`,
    );
  try {
    unlinkSync(path);
  } catch (error) {
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `cannot replace the stale socket ${path} (${reasonOf(error)})`,
      error,
    );
  }
}

/** A stopped (SIGSTOP) node still accepts connections: the kernel does it. */
async function answers(path: string): Promise<boolean> {
  try {
    const socket = await Bun.connect({ unix: path, socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}

const bracketed = (host: string) => (host.includes(":") ? `[${host.toLowerCase()}]` : host.toLowerCase());
const formatAddress = (host: string, port: number) => `${bracketed(host)}:${port}`;

function reasonOf(error: unknown): string {
  if (error instanceof GodwitError) return error.message;
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return String(error);
}
