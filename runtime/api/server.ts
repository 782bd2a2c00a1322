/**
 * The sockets under the API: TCP listeners and the unix socket of the CLI. Owns who may open the socket file, that a
 * dead node's socket is replaced and a living one's never, and that nothing is left at stop. Knows no route.
 */
import { lstatSync, unlinkSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";
import { asGodwitError, GodwitError, godwitError } from "../kernel/errors.ts";
import { Late } from "../kernel/late.ts";
import type { Log } from "../kernel/log.ts";
import type { Scope } from "../kernel/scope.ts";
import type { Connection } from "./access.ts";
import { type AdoptedServer, adoptListener, type PassedListener } from "./adopted.ts";
import type { Api } from "./app.ts";
import { JSON_BYTES_MAX } from "./body.ts";
import { ControlSocket } from "./control-socket.ts";

/** sun_path of sockaddr_un(7) is 108 bytes with its end mark. */
export const SOCKET_PATH_BYTES_MAX = 107;
/** Silence after which a connection is cut, in seconds; event streams and traces lift it off themselves. */
const IDLE_TIMEOUT_SECONDS = 60;
/** What requests in progress get at stop before they are cut. */
export const STOP_GRACE_MS = 2_000;
const SOCKET_MODE_UMASK = 0o177;

export interface ApiServerOptions {
  readonly app: Api;
  readonly clock: Clock;
  readonly log: Log;
  /** IP literals; port 0 lets the system choose. Empty: no TCP. */
  readonly listen: readonly { readonly host: string; readonly port: number }[];
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
}

type Server = ReturnType<typeof Bun.serve>;

/**
 * Opens the socket, what was passed, and every address that is there; one that is not is tried until it is. The scope closes all. Throws
 * GODWIT_LISTEN_FAILED (what was passed is no listener), GODWIT_STATE_UNUSABLE (another node runs on this socket, or the file
 * is something else) or GODWIT_CONFIG_INVALID (path too long).
 */
export async function startApiServers(options: ApiServerOptions, scope: Scope): Promise<ApiServers> {
  const { socketPath, passed = [] } = options;
  const passedTcp = passed.flatMap((one) => (one.kind === "tcp" ? [formatAddress(one.host, one.port)] : []));
  const listen = passedTcp.length > 0 ? [] : options.listen;
  await clearSocketPath(socketPath);
  const adopted: AdoptedServer[] = [];
  const onSocket = new ControlSocket<Server>({
    path: socketPath,
    clock: options.clock,
    log: options.log,
    open: () => serveSocket(options),
    retire: (server) => server.stop(false),
  });
  try {
    for (const listener of passed) adopted.push(await adopt(options, listener));
  } catch (error) {
    onSocket.stop();
    await Promise.all([
      ...[...onSocket.servers].map((server) => server.stop(true)),
      ...adopted.map((server) => server.stop(0)),
    ]);
    throw error;
  }
  const tcp = listen.map((address) => listenLate(options, address));
  const opened = () => tcp.flatMap(({ opened: server }) => server ?? []);
  // Bun.serve removes the socket file as soon as it stops accepting.
  scope.own(async () => {
    for (const late of tcp) late.stop();
    onSocket.stop();
    await Promise.all([
      ...[...onSocket.servers, ...opened()].map((server) => stopServer(server, options.clock)),
      ...adopted.map((server) => server.stop(STOP_GRACE_MS)),
    ]);
  });
  const servers: ApiServers = {
    get addresses() {
      return [...opened().map((server) => formatAddress(server.hostname!, server.port!)), ...passedTcp];
    },
    socketPath,
    get waiting() {
      return [...tcp.map(({ reason }) => reason), onSocket.trouble].flatMap((reason) => reason ?? []);
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

function listenLate(options: ApiServerOptions, address: { host: string; port: number }): Late<Server> {
  const { clock, log } = options;
  const where = formatAddress(address.host, address.port);
  let wasMissing = false;
  return new Late({
    clock,
    open: () => serveTcp(options, address),
    changed(error) {
      if (error !== undefined)
        log.warn("api address missing", { address: where, error: asGodwitError(error) });
      else if (wasMissing) log.info("api address open", { address: where });
      wasMissing = error !== undefined;
    },
  });
}

const adopt = ({ app, clock }: ApiServerOptions, listener: PassedListener): Promise<AdoptedServer> =>
  adoptListener(listener, {
    app,
    clock,
    idleMs: IDLE_TIMEOUT_SECONDS * 1_000,
    hosts: new Set(listener.kind === "tcp" ? [bracketed(listener.host)] : []),
  });

function serveSocket({ app, socketPath }: ApiServerOptions): Server {
  const connection: Connection = { authority: "socket", peer: undefined, hosts: new Set() };
  // The file must be 0600 from its first moment: a chmod afterwards would leave a window. Synchronous, so nothing else
  // of this thread creates a file meanwhile.
  const umask = process.umask(SOCKET_MODE_UMASK);
  try {
    return Bun.serve({
      unix: socketPath,
      maxRequestBodySize: REQUEST_BYTES_MAX,
      fetch(request, server) {
        // The option of this name does not exist for unix sockets.
        server.timeout(request, IDLE_TIMEOUT_SECONDS);
        const holdOpen = () => server.timeout(request, 0);
        return app.fetch(request, { connection: { ...connection, holdOpen } });
      },
    });
  } catch (error) {
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `cannot open the control socket ${socketPath} (${reasonOf(error)}); set api.socket to a writable place`,
      error,
    );
  } finally {
    process.umask(umask);
  }
}

function serveTcp({ app }: ApiServerOptions, address: { host: string; port: number }): Server {
  const hosts = new Set([bracketed(address.host)]);
  try {
    return Bun.serve({
      hostname: address.host,
      port: address.port,
      maxRequestBodySize: REQUEST_BYTES_MAX,
      idleTimeout: IDLE_TIMEOUT_SECONDS,
      fetch: (request, server) =>
        app.fetch(request, {
          connection: {
            authority: "tcp",
            peer: server.requestIP(request)?.address,
            hosts,
            holdOpen: () => server.timeout(request, 0),
          },
        }),
    });
  } catch (error) {
    const where = formatAddress(address.host, address.port);
    const advice = reasonOf(error).includes("EADDRINUSE")
      ? "another program listens there; choose another port in api.listen, or end it"
      : "tried again until this machine has that address; check api.listen";
    throw godwitError(
      "GODWIT_LISTEN_FAILED",
      `the api cannot listen on ${where} (${reasonOf(error)}): ${advice}`,
      error,
    );
  }
}

/** Above what the API itself allows, so that its own bound answers, with a problem document. */
const REQUEST_BYTES_MAX = JSON_BYTES_MAX + 1024 * 1024;

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

async function stopServer(server: Server, clock: Clock): Promise<void> {
  const stopped = server.stop(false);
  let cut: Promise<void> | undefined;
  const timer = clock.after(STOP_GRACE_MS, () => {
    cut = server.stop(true);
  });
  await stopped;
  timer.cancel();
  await cut;
  // Idle keep-alive connections are not requests in progress and would otherwise outlive the server.
  await server.stop(true);
}

const bracketed = (host: string) => (host.includes(":") ? `[${host.toLowerCase()}]` : host.toLowerCase());
const formatAddress = (host: string, port: number) => `${bracketed(host)}:${port}`;

function reasonOf(error: unknown): string {
  if (error instanceof GodwitError) return error.message;
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return String(error);
}
