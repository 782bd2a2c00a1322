/** The few doors of libc that locking in needs. Undefined results never happen here: what the kernel refuses is an error number. */
import { dlopen, ptr, read } from "bun:ffi";

function open() {
  return dlopen("libc.so.6", {
    // One entry for all calls, with the kernel's own numbers; every argument is passed as 64 bits.
    syscall: { args: ["i64", "u64", "u64", "u64", "u64", "u64"], returns: "i64" },
    __errno_location: { args: [], returns: "ptr" },
  } as const).symbols;
}

let libc: ReturnType<typeof open> | undefined;

export interface Result {
  readonly value: number;
  /** 0 when it worked. */
  readonly errno: number;
}

/** Arguments are numbers, or memory, which must stay referenced until the call returns. Throws where there is no glibc. */
export function syscall(number: number, ...args: readonly (number | bigint | ArrayBufferView)[]): Result {
  libc ??= open();
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = args.map((arg) =>
    typeof arg === "object" ? ptr(arg as Uint8Array) : arg,
  );
  const value = Number(libc.syscall(number, a, b, c, d, e));
  if (value !== -1) return { value, errno: 0 };
  const location = libc.__errno_location();
  return { value, errno: location === null ? 1 : read.i32(location, 0) };
}

/** Zero-terminated; keep the result while the kernel reads it. */
export const cString = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** An array of pointers to texts, ended by a null pointer; the second half keeps the texts alive. */
export function cStrings(texts: readonly string[]): {
  readonly pointers: BigUint64Array;
  readonly kept: Uint8Array[];
} {
  const kept = texts.map(cString);
  const pointers = new BigUint64Array(kept.length + 1);
  kept.forEach((bytes, index) => (pointers[index] = BigInt(ptr(bytes))));
  return { pointers, kept };
}
