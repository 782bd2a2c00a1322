/**
 * What Bun's socket does not offer, by libc: which datagrams may be fragmented, and room for a burst. Data may be, so
 * that a path below the size in use delays nothing; a probe of the path's size must not, else it proves nothing. What
 * routers are said to have answered is ignored for both: anybody could forge it.
 */
import { dlopen, ptr } from "bun:ffi";

/** By family: level and option. */
const MTU_DISCOVER = { 4: [0, 10], 6: [41, 23] } as const;
/** Never fragmented; the size is ours, up to the interface's. */
const PMTUDISC_PROBE = 3;
/** Fragmented where the interface, or over IPv4 a router, carries less. */
const PMTUDISC_OMIT = 5;
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

/**
 * `family` of the socket: a dual one is 6 and carries IPv4 too. False where the system cannot be told what to fragment:
 * then no probe above what common paths carry proves anything.
 */
export function tuneSocket(descriptor: number, family: 4 | 6): boolean {
  // Beyond the machine's limit only with the right to; else up to the limit.
  if (!setOption(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES))
    setOption(descriptor, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
  const isIpv4Ours = allowFragments(descriptor, 4, true);
  return family === 4 ? isIpv4Ours : isIpv4Ours && allowFragments(descriptor, 6, true);
}

/** Whether what is sent from now on over `family` may be fragmented. False: the system does not offer that. */
export function allowFragments(descriptor: number, family: 4 | 6, isAllowed: boolean): boolean {
  const [level, name] = MTU_DISCOVER[family];
  return setOption(descriptor, level, name, isAllowed ? PMTUDISC_OMIT : PMTUDISC_PROBE);
}
