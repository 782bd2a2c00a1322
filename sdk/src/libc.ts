/** The C library of this machine, for the calls that the runtime does not have. Linux; loaded at the first use. */
import { dlopen, type FFIFunction, read } from "bun:ffi";
import { constants } from "node:os";

/** The other names of EAGAIN and EOPNOTSUPP. */
const aliases: readonly string[] = ["EWOULDBLOCK", "ENOTSUP"];
const errnoNames: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => !aliases.includes(name))
    .map(([name, value]) => [value, name]),
);
/** `EEXIST`, or `errno 1234` for what has no name here. */
export const errnoName = (errno: number): string => errnoNames.get(errno) ?? `errno ${errno}`;

/** glibc's, else musl's. Throws the loader's error. */
export function openLibc<const T extends Record<string, FFIFunction>>(functions: T) {
  const musl = `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
  const open = (name: string) => {
    const { symbols } = dlopen(name, {
      __errno_location: { args: [], returns: "ptr" },
      ...functions,
    } as const);
    return symbols;
  };
  try {
    return open("libc.so.6");
  } catch {
    return open(musl);
  }
}

/** Directly after the call that failed: nothing of ours may come between. */
export function lastErrno({ __errno_location }: { __errno_location(): unknown }): number {
  const at = __errno_location();
  return typeof at === "number" && at !== 0 ? read.i32(at, 0) : 0;
}
