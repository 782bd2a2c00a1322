/**
 * Landlock: which files and TCP ports a process may use from now on, for itself and all that it becomes. Source:
 * Documentation/userspace-api/landlock.rst, <linux/landlock.h>; the numbers of versions are those of its "ABI".
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { type Arch, syscallNumber } from "./numbers.ts";
import { syscall } from "./libc.ts";

/** LANDLOCK_ACCESS_FS_, in the order of their bits. */
const Access = {
  execute: 1 << 0,
  writeFile: 1 << 1,
  readFile: 1 << 2,
  readDir: 1 << 3,
  removeDir: 1 << 4,
  removeFile: 1 << 5,
  makeDir: 1 << 7,
  makeReg: 1 << 8,
  makeSym: 1 << 12,
  refer: 1 << 13,
  truncate: 1 << 14,
  ioctlDev: 1 << 15,
} as const;
/** What applies to a file that is no folder. */
const FILE_ACCESS = Access.execute | Access.writeFile | Access.readFile | Access.truncate | Access.ioctlDev;
const NET = { bindTcp: 1, connectTcp: 2 } as const;
/** Abstract unix sockets and signals of processes outside. */
const SCOPED = 3;
const CREATE_RULESET_VERSION = 1;
const RULE_PATH_BENEATH = 1;
const RULE_NET_PORT = 2;
/** O_PATH, O_CLOEXEC. */
const O_PATH = 0o10_000_000 | 0o2_000_000;

export type PathRight = "run" | "read" | "write";
const rightsOf: Readonly<Record<PathRight, number>> = {
  run: Access.execute | Access.readFile | Access.readDir,
  read: Access.readFile | Access.readDir,
  write:
    Access.readFile |
    Access.readDir |
    Access.writeFile |
    Access.removeDir |
    Access.removeFile |
    Access.makeDir |
    Access.makeReg |
    Access.refer |
    Access.truncate,
};

export interface LandlockPlan {
  /** Paths that are not there are left out. */
  readonly paths: readonly { readonly path: string; readonly right: PathRight }[];
  /** Undefined: TCP is not Landlock's to bound. */
  readonly ports: { readonly connect: readonly number[]; readonly listen: readonly number[] } | undefined;
}

/** Version of Landlock here; 0: none. */
export function landlockVersion(arch: Arch): number {
  const { value, errno } = syscall(
    syscallNumber("landlock_create_ruleset", arch)!,
    0,
    0,
    CREATE_RULESET_VERSION,
  );
  return errno === 0 ? value : 0;
}

/** Every access that a version knows is handled, so that what is not allowed here is refused. Answers the ruleset's descriptor. Throws. */
export function buildRuleset(arch: Arch, version: number, plan: LandlockPlan): number {
  const handled = handledAccess(version);
  const attributes = new BigUint64Array(3);
  attributes[0] = BigInt(handled);
  if (version >= 4) attributes[1] = BigInt(plan.ports === undefined ? 0 : NET.bindTcp | NET.connectTcp);
  if (version >= 6) attributes[2] = BigInt(SCOPED);
  const size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  const ruleset = syscall(syscallNumber("landlock_create_ruleset", arch)!, attributes, size, 0);
  if (ruleset.errno !== 0) throw new Error(`landlock_create_ruleset failed with ${ruleset.errno}`);
  const addRule = (type: number, rule: Uint8Array) => {
    const { errno } = syscall(syscallNumber("landlock_add_rule", arch)!, ruleset.value, type, rule, 0);
    if (errno !== 0) throw new Error(`landlock_add_rule failed with ${errno}`);
  };
  for (const { path, right } of plan.paths) {
    let descriptor: number;
    try {
      descriptor = openSync(path, O_PATH);
    } catch {
      continue;
    }
    try {
      const isFolder = fstatSync(descriptor).isDirectory();
      const access = rightsOf[right] & handled & (isFolder ? ~0 : FILE_ACCESS);
      const rule = new Uint8Array(12);
      new DataView(rule.buffer).setBigUint64(0, BigInt(access), true);
      new DataView(rule.buffer).setInt32(8, descriptor, true);
      addRule(RULE_PATH_BENEATH, rule);
    } finally {
      closeSync(descriptor);
    }
  }
  if (version >= 4 && plan.ports !== undefined)
    for (const [access, ports] of [
      [NET.connectTcp, plan.ports.connect],
      [NET.bindTcp, plan.ports.listen],
    ] as const)
      for (const port of ports) {
        const rule = new BigUint64Array([BigInt(access), BigInt(port)]);
        addRule(RULE_NET_PORT, new Uint8Array(rule.buffer));
      }
  return ruleset.value;
}

/** Needs no_new_privs. Throws. */
export function restrictSelf(arch: Arch, ruleset: number): void {
  const { errno } = syscall(syscallNumber("landlock_restrict_self", arch)!, ruleset, 0);
  if (errno !== 0) throw new Error(`landlock_restrict_self failed with ${errno}`);
}

/** Bits of LANDLOCK_ACCESS_FS_ that a version knows: 13 in the first, then moving, truncating, ioctl on devices. */
export const handledAccess = (version: number): number =>
  (1 << (version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13)) - 1;
