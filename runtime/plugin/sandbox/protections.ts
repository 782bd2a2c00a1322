/** Names and numbers of what protects the node from an untrusted plugin. */
export type Protection = "landlock" | "landlock-net" | "seccomp" | "uid";

const MIB = 2 ** 20;
/** Of one file in the plugin's folder. */
export const FILE_BYTES_MAX = 64 * MIB;
/** Of the folder: looked at, so that it may be more for a moment. */
export const FOLDER_BYTES_MAX = 64 * MIB;
/** The engine reserves about half of it before the plugin has anything. */
const DATA_BYTES_MAX = 512 * MIB;
/** Files and folders in it. */
export const FOLDER_ENTRIES_MAX = 4_096;
const FILES_MAX = 256;
const THREADS_MAX = 64;
const STACK_BYTES_MAX = 8 * MIB;

/** [number of <asm-generic/resource.h>, bound]; the same on both architectures. */
export const RLIMITS = {
  fileSize: [1, FILE_BYTES_MAX],
  data: [2, DATA_BYTES_MAX],
  stack: [3, STACK_BYTES_MAX],
  core: [4, 0],
  // Counted by user: only where the plugin is one of its own. See docs/plugins.md.
  threads: [6, THREADS_MAX],
  files: [7, FILES_MAX],
  lockedMemory: [8, 0],
  messageQueues: [12, 0],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;

/** Above what distributions, containers and dynamic users take. */
const UID_BASE = 0x7000_0000;
const UIDS = 2 ** 24;

/**
 * Of an instance, by its folder's name: the same at every start, so that its files stay its own. Without node:crypto, which
 * would cost each launch 2 ms.
 */
export function uidOf(folder: string): number {
  return UID_BASE + (new Bun.CryptoHasher("sha256").update(folder).digest().readUInt32BE(0) % UIDS);
}
