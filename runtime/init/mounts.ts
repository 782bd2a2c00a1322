/** File systems of the machine: those of the kernel, those in memory, and the disk that keeps the node's state. */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readSync } from "node:fs";
import { type Mount, MountFlag, type Sys, SysError } from "./sys.ts";

const { noSuid, noDev, noExec, noAtime } = MountFlag;

/** In this order. Stage 0 has made the first three: EBUSY is what is wanted. */
export const mounts: readonly Mount[] = [
  { source: "proc", target: "/proc", type: "proc", flags: noSuid | noDev | noExec },
  { source: "sysfs", target: "/sys", type: "sysfs", flags: noSuid | noDev | noExec },
  { source: "devtmpfs", target: "/dev", type: "devtmpfs", flags: noSuid | noExec },
  {
    source: "devpts",
    target: "/dev/pts",
    type: "devpts",
    flags: noSuid | noExec,
    data: "mode=620,ptmxmode=666",
  },
  { source: "tmpfs", target: "/dev/shm", type: "tmpfs", flags: noSuid | noDev, data: "size=10%" },
  { source: "tmpfs", target: "/run", type: "tmpfs", flags: noSuid | noDev, data: "mode=755,size=10%" },
  { source: "tmpfs", target: "/tmp", type: "tmpfs", flags: noSuid | noDev, data: "mode=1777,size=25%" },
  { source: "cgroup2", target: "/sys/fs/cgroup", type: "cgroup2", flags: noSuid | noDev | noExec },
];

/** Mounts what is not there; answers what failed. A kernel without cgroups is a kernel. */
export function mountAll(sys: Sys): string[] {
  return mounts.flatMap((mount) => {
    try {
      mkdirSync(mount.target, { recursive: true });
      sys.mount(mount);
      return [];
    } catch (error) {
      if (error instanceof SysError && error.errno === "EBUSY") return [];
      return [error instanceof Error ? error.message : String(error)];
    }
  });
}

/** Of ext4(5) and vfat the label; enough to find a disk by its name. */
const EXT_SUPERBLOCK = 1024;
const EXT_MAGIC_OFFSET = 56;
const EXT_MAGIC = 0xef53;
const EXT_LABEL_OFFSET = 120;
const EXT_LABEL_BYTES = 16;

/** Label of an ext2, 3 or 4 file system by its first 1,280 bytes; undefined for others. */
export function extLabel(start: Uint8Array): string | undefined {
  if (start.length < EXT_SUPERBLOCK + EXT_LABEL_OFFSET + EXT_LABEL_BYTES) return undefined;
  const view = new DataView(start.buffer, start.byteOffset + EXT_SUPERBLOCK);
  if (view.getUint16(EXT_MAGIC_OFFSET, true) !== EXT_MAGIC) return undefined;
  const label = start.subarray(EXT_SUPERBLOCK + EXT_LABEL_OFFSET).subarray(0, EXT_LABEL_BYTES);
  const end = label.indexOf(0);
  return new TextDecoder().decode(end < 0 ? label : label.subarray(0, end));
}

/** The device of `/dev/...` or `LABEL=...`; undefined: not there yet. */
export function findDevice(state: string): string | undefined {
  if (!state.startsWith("LABEL=")) return existsSync(state) ? state : undefined;
  const wanted = state.slice("LABEL=".length);
  const names = existsSync("/sys/class/block") ? readdirSync("/sys/class/block").sort() : [];
  return names
    .filter((name) => !/^(?:loop|ram|zram|sr|fd)\d/.test(name))
    .map((name) => `/dev/${name}`)
    .find((device) => labelOf(device) === wanted);
}

function labelOf(device: string): string | undefined {
  const start = new Uint8Array(EXT_SUPERBLOCK + 256);
  try {
    const descriptor = openSync(device, "r");
    try {
      return readSync(descriptor, start, 0, start.length, 0) === start.length ? extLabel(start) : undefined;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
}

/** In turn: the first that the kernel takes. Throws the first refusal. */
const STATE_TYPES = ["ext4", "vfat"] as const;

export function mountState(sys: Sys, device: string, target: string): void {
  mkdirSync(target, { recursive: true });
  let first: unknown;
  for (const type of STATE_TYPES) {
    try {
      return sys.mount({ source: device, target, type, flags: noSuid | noDev | noAtime });
    } catch (error) {
      first ??= error;
    }
  }
  throw first;
}

/** Without a disk: in memory, with a bound, because the root itself may have none (rootfstype=ramfs). */
export function mountMemoryState(sys: Sys, target: string): void {
  mkdirSync(target, { recursive: true });
  sys.mount({
    source: "tmpfs",
    target,
    type: "tmpfs",
    flags: noSuid | noDev,
    data: "mode=700,size=40%",
  });
}
