/**
 * Listeners that the service manager opened for us, sd_listen_fds(3): descriptors from 3 on, counted by LISTEN_FDS and
 * meant for the process LISTEN_PID. Owns the check that each is what it has to be; who serves them is for others.
 */
import { dlopen, ptr } from "bun:ffi";
import { statSync } from "node:fs";
import { godwitError } from "../kernel/errors.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export type ActivatedListener = { readonly fd: number } & (
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
);

const FIRST_DESCRIPTOR = 3;
/** As many as `api.listen` may have. */
const DESCRIPTORS_MAX = 16;
const ADDRESS_BYTES_MAX = 128;

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_ACCEPTCONN = 30;
const SOCK_STREAM = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const WRITABLE_BY_ALL = 0o002;

/** What was passed to this very process; empty without socket activation. Throws GODWIT_LISTEN_FAILED. */
export function takeListeners(env: Environment, pid: number): ActivatedListener[] {
  const count = Number(env["LISTEN_FDS"] ?? "0");
  if (env["LISTEN_PID"] !== String(pid) || !Number.isInteger(count) || count < 1) return [];
  if (count > DESCRIPTORS_MAX)
    throw refusal(`the service manager passed ${count} sockets, more than ${DESCRIPTORS_MAX}`);
  const libc = openLibc();
  return Array.from({ length: count }, (_, index) => inspect(libc, FIRST_DESCRIPTOR + index));
}

function openLibc() {
  return dlopen("libc.so.6", {
    getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  } as const).symbols;
}

/** Throws GODWIT_LISTEN_FAILED for everything that is not a listening stream socket. */
export function inspect(libc: ReturnType<typeof openLibc>, fd: number): ActivatedListener {
  const option = (name: number): number => {
    const value = new Int32Array(1);
    const length = new Uint32Array([value.byteLength]);
    return libc.getsockopt(fd, SOL_SOCKET, name, ptr(value), ptr(length)) === 0 ? value[0]! : -1;
  };
  if (option(SO_TYPE) !== SOCK_STREAM || option(SO_ACCEPTCONN) !== 1)
    throw refusal(`descriptor ${fd} that the service manager passed is no listening stream socket`);
  // Children of the node have no business with it.
  libc.fcntl(fd, F_SETFD, FD_CLOEXEC);
  const bytes = new Uint8Array(ADDRESS_BYTES_MAX);
  const length = new Uint32Array([bytes.length]);
  if (libc.getsockname(fd, ptr(bytes), ptr(length)) !== 0)
    throw refusal(`descriptor ${fd} that the service manager passed has no address`);
  return listenerOf(fd, bytes.subarray(0, Math.min(length[0]!, bytes.length)));
}

/** From a sockaddr of unix(7), ip(7) or ipv6(7). */
export function listenerOf(fd: number, address: Uint8Array): ActivatedListener {
  const view = new DataView(address.buffer, address.byteOffset, address.byteLength);
  const family = address.length < 2 ? 0 : view.getUint16(0, true);
  if (family === AF_INET && address.length >= 8)
    return { fd, kind: "tcp", host: address.subarray(4, 8).join("."), port: view.getUint16(2) };
  if (family === AF_INET6 && address.length >= 24)
    return { fd, kind: "tcp", host: ipv6Text(address.subarray(8, 24)), port: view.getUint16(2) };
  if (family !== AF_UNIX) throw refusal(`descriptor ${fd} that the service manager passed is of no use here`);
  const name = address.subarray(2);
  const end = name.indexOf(0);
  const path = new TextDecoder().decode(end === -1 ? name : name.subarray(0, end));
  // Whoever may open it may do everything, so there must be a file whose mode says who that is.
  if (!path.startsWith("/")) throw refusal("an abstract unix socket was passed, which everybody may open");
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  if (mode !== undefined && (mode & WRITABLE_BY_ALL) !== 0)
    throw refusal(`everybody may open ${path}; set SocketMode=0660 in its socket unit`);
  return { fd, kind: "unix", path };
}

/** RFC 5952, which is how URLs write it. */
const ipv6Text = (bytes: Uint8Array): string =>
  new URL(
    `http://[${Buffer.from(bytes)
      .toString("hex")
      .replace(/.{4}(?=.)/g, "$&:")}]`,
  ).hostname.slice(1, -1);

const refusal = (message: string) => godwitError("GODWIT_LISTEN_FAILED", message);
