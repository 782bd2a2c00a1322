/**
 * Whose program is at the other end of a connection over loopback: the kernel's table of connections has the user of every
 * socket of this machine. Any program of any user can connect to a port, and no address tells them apart.
 */
import { readFileSync } from "node:fs";

/** The caller's socket is still open to somebody: one that was closed already is shown as root's. */
const NO_INODE = "0";

export interface Ends {
  readonly callerAddress: string;
  readonly callerPort: number;
  readonly ownAddress: string;
  readonly ownPort: number;
}

/** Undefined when no socket of this network namespace is that caller's. */
export function userOfCaller(ends: Ends, read: (path: string) => string = readTable): number | undefined {
  const caller = keysOf(ends.callerAddress, ends.callerPort);
  const own = keysOf(ends.ownAddress, ends.ownPort);
  for (const [i, path] of ["/proc/self/net/tcp", "/proc/self/net/tcp6"].entries())
    for (const line of read(path).split("\n")) {
      // sl local_address rem_address st queues timer retrnsmt uid timeout inode
      const [, local, remote, , , , , uid, , inode] = line.trim().split(/\s+/);
      if (local === caller[i] && remote === own[i] && inode !== NO_INODE) return Number(uid);
    }
  return undefined;
}

function readTable(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** As the tables of IPv4 and of IPv6 write an end: 32 bits at a time, in the order of this machine, and the port. */
function keysOf(address: string, port: number): readonly [ipv4: string, ipv6: string] {
  const ipv4 = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  // Both ends are on loopback, and IPv6 has one address of it.
  const bytes =
    ipv4 === undefined
      ? Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? 1 : 0))
      : Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...ipv4.split(".").map(Number));
  const words = [...new Uint32Array(bytes.buffer)].map((word) => hex(word, 8));
  const at = `:${hex(port, 4)}`;
  return [ipv4 === undefined ? "none" : `${words[3]!}${at}`, `${words.join("")}${at}`];
}

const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");
