/**
 * What Bun's socket does not offer, by libc: never fragment (else a probe of the path's size proves nothing), and room
 * for a burst. Where libc cannot be called, the answer is false and the caller stays below 1,452 bytes.
 */
import { dlopen, ptr } from "bun:ffi";

const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IPPROTO_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
/** Sets the bit "don't fragment" and leaves the size to us, up to the interface's. */
const PMTUDISC_PROBE = 3;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

function openLibc() {
  return dlopen("libc.so.6", {
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  } as const).symbols;
}

let libc: ReturnType<typeof openLibc> | undefined | null;

function setOption(descriptor: number, level: number, name: number, value: number): boolean {
  if (libc === undefined) {
    try {
      libc = openLibc();
    } catch {
      libc = null;
    }
  }
  const bytes = Int32Array.of(value);
  return libc !== null && libc.setsockopt(descriptor, level, name, ptr(bytes), 4) === 0;
}

/** `family` of the socket: a dual one is 6 and carries IPv4 too. True when no datagram of it is ever fragmented. */
export function tuneSocket(descriptor: number, family: 4 | 6): boolean {
  // Beyond the machine's limit only with the right to; else up to the limit.
  if (!setOption(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES))
    setOption(descriptor, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
  const isIpv4Whole = setOption(descriptor, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
  return family === 4
    ? isIpv4Whole
    : isIpv4Whole && setOption(descriptor, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
}
