/**
 * Gives back the memory that starting took and running does not need. A compiled binary touches most of its own code
 * once while it starts; those pages stay in the resident set although they are clean copies of the file. Unmapping them
 * costs a soft page fault for each that is used again, and what is really in use comes back at once.
 */
import { dlopen } from "bun:ffi";
import { readFileSync, readlinkSync } from "node:fs";

/** madvise(2): free for shared and private file mappings alike; later access reads the page cache again. */
const MADV_DONTNEED = 4;
const C_LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/**
 * Unmaps the code pages of the running binary. Only the executable mapping: it is never written, not even by the loader,
 * while read-only data may hold relocations. Answers the bytes of address space advised, 0 where it is not possible.
 */
export function releaseStartCode(): number {
  try {
    const executable = readlinkSync("/proc/self/exe");
    const mapping = readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .map((line) => /^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \d+ +(\S.*)$/.exec(line))
      .find((match) => match?.[3] === executable);
    if (mapping == null) return 0;
    const from = Number.parseInt(mapping[1]!, 16);
    const length = Number.parseInt(mapping[2]!, 16) - from;
    return advise(from, length) ? length : 0;
  } catch {
    return 0;
  }
}

function advise(from: number, length: number): boolean {
  for (const name of C_LIBRARIES) {
    try {
      const library = dlopen(name, { madvise: { args: ["u64", "u64", "i32"], returns: "i32" } });
      const result = library.symbols.madvise(from, length, MADV_DONTNEED);
      library.close();
      return result === 0;
    } catch {
      // Another C library, then.
    }
  }
  return false;
}
