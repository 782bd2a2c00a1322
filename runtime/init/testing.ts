/** Sockets as a service manager makes and hands them out, made by hand. */
import { dlopen, ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { socketAddress } from "./notify.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;
const BACKLOG = 16;

export const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i64" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
} as const).symbols;

function bound(family: number, type: number, address: Uint8Array): number {
  const fd = libc.socket(family, type, 0);
  if (libc.bind(fd, ptr(address), address.length) !== 0) throw new Error("cannot bind");
  return fd;
}

function listening(fd: number): number {
  if (libc.listen(fd, BACKLOG) !== 0) throw new Error("cannot listen");
  return fd;
}

/** Descriptor of a listener on a port of loopback that the kernel chooses. */
export function listenTcp(family: 4 | 6 = 4): number {
  const address = new Uint8Array(family === 4 ? 16 : 28);
  new DataView(address.buffer).setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
  if (family === 4) address.set([127, 0, 0, 1], 4);
  else address[23] = 1;
  return listening(bound(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, address));
}

/** Descriptor of a listener on a unix socket; `@name` is an abstract one. */
export const listenUnix = (path: string): number =>
  listening(bound(AF_UNIX, SOCK_STREAM, socketAddress(path)!));

/** The manager's end of a notification socket. */
export class NotifySocket {
  readonly fd: number;

  constructor(path: string) {
    this.fd = bound(AF_UNIX, SOCK_DGRAM, socketAddress(path)!);
  }

  /** Every datagram that has come, as its lines. */
  received(): string[][] {
    const out: string[][] = [];
    const buffer = new Uint8Array(4_096);
    for (;;) {
      const length = Number(libc.recv(this.fd, ptr(buffer), buffer.length, MSG_DONTWAIT));
      if (length < 0) return out;
      out.push(new TextDecoder().decode(buffer.subarray(0, length)).split("\n"));
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}
