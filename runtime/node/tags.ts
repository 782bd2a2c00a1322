/**
 * What a node says of its machine in its record: the words of the configuration, and for `auto` what is found here. Classes
 * rather than figures: enough to choose a node by, too little to know a machine again. Reads /sys and /dev, nothing else.
 */
import { existsSync, readdirSync } from "node:fs";
import { arch, availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { CAPABILITIES_MAX, PROTOCOL_CAPABILITIES } from "../identity/record.ts";

/** Stands for what is found. */
const AUTO = "auto";
/** A record holds some more, which are the protocol's own. */
export const TAGS_MAX = CAPABILITIES_MAX - PROTOCOL_CAPABILITIES.length;

export interface Machine {
  readonly arch: string;
  readonly cores: number;
  readonly memoryBytes: number;
  /** Below which /sys and /dev are. */
  readonly root: string;
}

const thisMachine = (): Machine => ({
  arch: arch(),
  cores: availableParallelism(),
  memoryBytes: totalmem(),
  root: "/",
});

/** In the order of the configuration, each once, at most TAGS_MAX. */
export function tagsOf(words: readonly string[], machine: () => Machine = thisMachine): string[] {
  const all = words.flatMap((word) => (word === AUTO ? found(machine()) : word));
  return [...new Set(all)].filter((word) => !PROTOCOL_CAPABILITIES.includes(word)).slice(0, TAGS_MAX);
}

function found({ arch: architecture, cores, memoryBytes, root }: Machine): string[] {
  const gibibytes = memoryBytes / 2 ** 30;
  return [
    `arch-${architecture.toLowerCase()}`,
    `cores-${classOf(cores)}`,
    gibibytes < 1 ? "memory-below-1g" : `memory-${classOf(gibibytes)}g`,
    ...(isAny(join(root, "sys/class/net"), (device) =>
      existsSync(join(root, "sys/class/net", device, "wireless")),
    )
      ? ["radio-wifi"]
      : []),
    ...(isAny(join(root, "sys/class/bluetooth")) ? ["radio-bluetooth"] : []),
    // A render node or a device of the vendor: a screen's console alone has neither.
    ...(isAny(join(root, "dev/dri"), (name) => name.startsWith("renderD")) ||
    existsSync(join(root, "dev/nvidia0"))
      ? ["gpu"]
      : []),
  ];
}

/** The power of two that it has: 3 is 2, 64 is 64; memory that the firmware keeps some of rounds up to what was bought. */
const classOf = (amount: number): number => 2 ** Math.max(0, Math.floor(Math.log2(amount * 1.1)));

function isAny(folder: string, isOne: (name: string) => boolean = () => true): boolean {
  try {
    return readdirSync(folder).some(isOne);
  } catch {
    return false;
  }
}
