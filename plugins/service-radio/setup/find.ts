/** Where a radio may be on this machine: serial ports by what the system says of them, and who has one open. Opens none. */
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { join } from "node:path";
import type { PluginSerial } from "@godwit/sdk";

/** By whose chips boards with LoRa are joined to USB: these are asked what they are, others only when they are named. */
const VENDORS: Readonly<Record<string, string>> = {
  "10c4": "Silicon Labs",
  "1a86": "WCH",
  "303a": "Espressif",
  "239a": "Adafruit and RAK",
  "2886": "Seeed",
  "2e8a": "Raspberry Pi",
  "0403": "FTDI",
};

export interface FoundPort {
  /** Stays the same for the same device where the system gives such a name. */
  readonly path: string;
  /** What the system calls it now: /dev/ttyUSB0. */
  readonly now: string;
  /** As its maker names it; empty: nothing is said. */
  readonly product: string;
  readonly isLikely: boolean;
}

/** Likely ones first. Never rejects. */
export async function findPorts(serial: Pick<PluginSerial, "list">): Promise<FoundPort[]> {
  const found = (await serial.list()).map(
    ({ path, stablePath, manufacturer, product, vendorId }): FoundPort => ({
      path: stablePath ?? path,
      now: path,
      product: [manufacturer, product].filter((word) => word !== undefined).join(" "),
      isLikely: vendorId !== undefined && VENDORS[vendorId] !== undefined,
    }),
  );
  return found.sort((a, b) => Number(b.isLikely) - Number(a.isLikely));
}

/** Names of others' programs that have it open, of those that this user may look at. Never rejects. */
export async function holdersOf(path: string, proc = "/proc"): Promise<string[]> {
  const target = await realpath(path).catch(() => path);
  // The far end of a pseudo-terminal is a program as well.
  if (target.startsWith("/dev/pts/")) return [];
  const processes = (await readdir(proc).catch(() => [])).filter((name) => /^\d+$/.test(name));
  const holders: string[] = [];
  for (const id of processes) {
    if (Number(id) === process.pid) continue;
    const folder = join(proc, id, "fd");
    const open = await Promise.all(
      (await readdir(folder).catch(() => [])).map((fd) => readlink(join(folder, fd)).catch(() => "")),
    );
    if (!open.includes(target)) continue;
    const name = await readFile(join(proc, id, "comm"), "utf8").catch(() => "");
    holders.push(`${name.trim() || "a program"} (process ${id})`);
  }
  return holders;
}
