/**
 * The process of an untrusted plugin, before any of its code: takes every right that it does not need from itself, then starts
 * this program, or the plugin's own, in its place. What cannot be taken is named and, unless the operator accepted that, ends
 * it. Must never see the plugin's code before it is locked in. Specified by docs/plugins.md, "The sandbox".
 */
import { ptr } from "bun:ffi";
import { chownSync, lchownSync, lstatSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { encodeFrame, encodeParts, PluginFrame, wireErrorOf } from "../frames/frames.ts";
import { isCompiled } from "../../kernel/compiled.ts";
import { godwitError } from "../../kernel/errors.ts";
import {
  buildRuleset,
  type LandlockPlan,
  landlockVersion,
  type PathRight,
  restrictSelf,
} from "./landlock.ts";
import { cString, cStrings, syscall } from "./libc.ts";
import { type Arch, syscallNumber, type SyscallName } from "./numbers.ts";
import type { SandboxOrder } from "./order.ts";
import { compileLaunch, compileRunning, hasTcp, NICE, socketKindsOf } from "./policy.ts";
import { FOLDER_ENTRIES_MAX, type Protection, RLIMITS, uidOf } from "./protections.ts";

const CHANNEL_FD = 3;
const INSIDE = "inside";
const AT_FDCWD = -100;
const SIGKILL = 9;
/** prctl(2). */
const PR = { setPdeathsig: 1, capbsetDrop: 24, setSecurebits: 28, setNoNewPrivs: 38 } as const;
const SECCOMP = { setModeFilter: 1, getActionAvail: 2, flagTsync: 1 } as const;
/** SECBIT_NOROOT and its lock: uid 0 alone gives nothing. */
const SECUREBITS = 3;
const CLOSE_RANGE_CLOEXEC = 4;
const PRIO_PROCESS = 0;
/**
 * The whole environment: the engine reserves a gigabyte for its code otherwise, and does without when it may not. A mini VM lets
 * its heap grow later and drops unused code sooner.
 */
const ENGINE = [`BUN_JSC_jitMemoryReservationSize=${64 * 2 ** 20}`, "BUN_JSC_forceMiniVMMode=1"];
/** What name lookups read. */
const RESOLVER_FILES = [
  "/etc/resolv.conf",
  "/etc/hosts",
  "/etc/nsswitch.conf",
  "/etc/host.conf",
  "/etc/gai.conf",
  "/etc/services",
];
/** What programs of the system need to start. */
const SYSTEM_FOLDERS = [
  "/usr",
  "/lib",
  "/lib64",
  "/bin",
  "/etc/ld.so.cache",
  "/etc/localtime",
  "/etc/python3",
];
/** Of /proc: where the engine finds its stack, and what it counts its own memory by. Never the folder: its net/ and task/ show the machine. */
const OWN_PROC = ["/proc/self/maps", "/proc/self/statm"];
const DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/** `words` behind the hidden command: the order, or `inside`. */
export async function enterGuest(words: readonly string[]): Promise<never> {
  const arch = process.arch as Arch;
  if (words[0] === INSIDE) {
    // Not at the top: the first of the two starts needs nothing of it.
    const { runGuestProcess } = await import("../guest/process.ts");
    return await runGuestProcess(() => forbidPrograms(arch));
  }
  try {
    lockIn(arch, JSON.parse(words[0] ?? "") as SandboxOrder);
  } catch (error) {
    writeSync(CHANNEL_FD, encodeFrame(PluginFrame.failed, 0, encodeParts(wireErrorOf(error))));
  }
  process.exit(1);
}

function call(
  arch: Arch,
  name: SyscallName,
  ...args: Parameters<typeof syscall> extends [number, ...infer Rest] ? Rest : never
) {
  const number = syscallNumber(name, arch);
  return number === undefined ? { value: -1, errno: 38 } : syscall(number, ...args);
}

const refused = (what: string) => godwitError("GODWIT_PLUGIN_SANDBOX", what);

function must(what: string, { errno }: { readonly errno: number }): void {
  if (errno !== 0) throw refused(`the plugin cannot be locked in: ${what} failed with error ${errno}`);
}

/** Returns only by throwing. */
function lockIn(arch: Arch, order: SandboxOrder): never {
  const missing: Protection[] = [];
  const lacks = (protection: Protection, why: string) => {
    missing.push(protection);
    if (!order.acceptMissing.includes(protection))
      throw refused(
        `this kernel cannot protect against the plugin (${protection}): ${why}; accept_missing = ["${protection}"] in its table runs it all the same`,
      );
  };
  const sockets = socketKindsOf(order.granted);
  const ports = portsOf(order);
  const version = landlockVersion(arch);
  if (version === 0) lacks("landlock", "it has no Landlock, so that files of others stay open to it");
  // Without any grant the filter refuses the socket itself.
  else if (hasTcp(sockets) && ports !== undefined && version < 4)
    lacks("landlock-net", "its Landlock knows no ports, so that all TCP ports are open to it");
  const killAction = new Uint32Array([0x8000_0000]);
  const hasSeccomp = call(arch, "seccomp", SECCOMP.getActionAvail, 0, killAction).errno === 0;
  if (!hasSeccomp)
    lacks("seccomp", "it filters no system calls, so that sockets and other processes are open to it");

  must("setpgid", call(arch, "setpgid", 0, 0));
  // The uid may not reach it by its path.
  process.chdir(order.folder);
  const uid = process.getuid?.() === 0 ? uidOf(order.folder) : undefined;
  if (uid !== undefined) ownFolder(order.folder, uid);
  const ruleset = version === 0 ? undefined : buildRuleset(arch, version, landlockPlan(order, ports));
  must("close_range", call(arch, "close_range", CHANNEL_FD + 1, 0xffff_ffff, CLOSE_RANGE_CLOEXEC));
  // While the way to it is open.
  const [path = "", ...args] = order.exec === undefined ? selfWords() : [openProgram(arch, order.exec)];
  if (order.exec !== undefined) lowerPriority(arch);
  const { data, ...others } = RLIMITS;
  for (const [resource, limit] of Object.values(others))
    must(`limit ${resource}`, setLimit(arch, resource, limit));
  if (uid !== undefined && !changeUid(arch, uid)) {
    lacks(
      "uid",
      "it does not let the plugin be another user, so that only Landlock keeps it from files of this one",
    );
    dropCapabilities(arch);
  }
  must("no_new_privs", call(arch, "prctl", PR.setNoNewPrivs, 1, 0, 0, 0));
  if (ruleset !== undefined) restrictSelf(arch, ruleset);
  // After the uid, which clears it; whoever lost its node in between ends here.
  must("prctl", call(arch, "prctl", PR.setPdeathsig, SIGKILL, 0, 0, 0));
  if (process.ppid !== order.nodePid) throw refused("the node is gone");
  const facts = { landlock: version, seccomp: hasSeccomp, uid: uid ?? null, missing };
  writeSync(CHANNEL_FD, encodeFrame(PluginFrame.sandboxed, 0, encodeParts(facts)));
  if (hasSeccomp) setFilter(arch, compileLaunch(arch, process.pid, sockets), 0);
  const file = cString(path);
  const argv = cStrings([path, ...args]);
  const envp = cStrings(order.exec === undefined ? ENGINE : []);
  // Last: this process reserves more than that already, and could not go on for long.
  const limited = setLimit(arch, ...data);
  const { errno } = limited.errno === 0 ? call(arch, "execve", file, argv.pointers, envp.pointers) : limited;
  throw refused(
    `the plugin's process cannot start ${path}: error ${errno}${errno === 13 ? "; everybody must be able to read and execute it" : ""}`,
  );
}

/** By its descriptor, because the way to it is closed to another user; an interpreter reads a script the same way. */
function openProgram(arch: Arch, path: string): string {
  const opened = call(arch, "openat", AT_FDCWD, cString(path), 0, 0);
  must(`opening ${path}`, opened);
  return `/proc/self/fd/${opened.value}`;
}

function setLimit(arch: Arch, resource: number, limit: number) {
  return call(arch, "prlimit64", 0, resource, new BigUint64Array([BigInt(limit), BigInt(limit)]), 0);
}

const selfWords = (): string[] => [
  "/proc/self/exe",
  ...(isCompiled ? [] : [Bun.main]),
  "plugin-guest",
  INSIDE,
];

/** Undefined: no port was named, so none is bounded. */
function portsOf({ granted }: SandboxOrder): LandlockPlan["ports"] {
  const named = (kind: "net.tcp.connect" | "net.tcp.listen") =>
    granted.flatMap((one) => (one.kind === kind ? [one.port] : []));
  if (granted.some(({ kind }) => kind === "net.tcp")) return undefined;
  return { connect: named("net.tcp.connect"), listen: named("net.tcp.listen") };
}

function landlockPlan({ granted, exec }: SandboxOrder, ports: LandlockPlan["ports"]): LandlockPlan {
  const paths: { path: string; right: PathRight }[] = [
    { path: ".", right: "write" },
    ...[...OWN_PROC, ...DEVICES].map((path) => ({ path, right: "read" as const })),
    { path: "/dev/null", right: "write" },
    { path: "/sys/devices/system/cpu/online", right: "read" },
  ];
  if (exec === undefined) {
    for (const path of mappedFiles()) paths.push({ path, right: "run" });
    paths.push({ path: "/etc/ld.so.cache", right: "read" });
    // From source: what is not in the binary.
    if (!isCompiled) paths.push({ path: join(dirname(Bun.main), ".."), right: "read" });
  } else {
    paths.push({ path: exec, right: "run" });
    for (const path of SYSTEM_FOLDERS) paths.push({ path, right: "run" });
  }
  if (granted.some(({ kind }) => kind.startsWith("net.")))
    for (const path of [...RESOLVER_FILES, "/lib", "/usr/lib"]) paths.push({ path, right: "read" });
  for (const one of granted) {
    if (one.kind === "files.read") paths.push({ path: one.path, right: "read" });
    if (one.kind === "files.write") paths.push({ path: one.path, right: "write" });
  }
  return { paths, ports };
}

/** This program and its libraries, as they are mapped now. */
function mappedFiles(): string[] {
  const found = new Set<string>(["/proc/self/exe"]);
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const at = line.indexOf("/");
    if (at > 0 && !line.endsWith("(deleted)")) found.add(line.slice(at));
  }
  return [...found];
}

/** What it wrote under another uid, or as the node, is its own again. Never through a link. */
function ownFolder(folder: string, uid: number): void {
  chownSync(folder, uid, uid);
  let left = FOLDER_ENTRIES_MAX * 2;
  const waiting = [folder];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop())
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (left-- === 0) return;
      const inner = join(path, entry.name);
      if (lstatSync(inner).uid !== uid) lchownSync(inner, uid, uid);
      if (entry.isDirectory()) waiting.push(inner);
    }
}

function changeUid(arch: Arch, uid: number): boolean {
  return (
    call(arch, "setgroups", 0, 0).errno === 0 &&
    call(arch, "setresgid", uid, uid, uid).errno === 0 &&
    call(arch, "setresuid", uid, uid, uid).errno === 0
  );
}

/** Root without a right of root: best where the uid cannot be changed. */
function dropCapabilities(arch: Arch): void {
  for (let capability = 0; capability < 64; capability++)
    if (call(arch, "prctl", PR.capbsetDrop, capability, 0, 0, 0).errno !== 0) break;
  call(arch, "prctl", PR.setSecurebits, SECUREBITS, 0, 0, 0);
  // _LINUX_CAPABILITY_VERSION_3, this process; three words each of the lower and the upper half.
  const head = new Uint32Array([0x2008_0522, 0]);
  must("capset", call(arch, "capset", head, new Uint32Array(6)));
}

function setFilter(arch: Arch, filter: Uint8Array, flags: number): void {
  const program = new BigUint64Array(2);
  new DataView(program.buffer).setUint16(0, filter.length / 8, true);
  program[1] = BigInt(ptr(filter));
  must("seccomp", call(arch, "seccomp", SECCOMP.setModeFilter, flags, program));
}

/** May fail where the node itself was started with a lower one. */
function lowerPriority(arch: Arch): void {
  call(arch, "setpriority", PRIO_PROCESS, 0, NICE);
}

/** From here on nothing is started any more, in none of the threads; the plugin's own begin where this one is. */
function forbidPrograms(arch: Arch): void {
  lowerPriority(arch);
  setFilter(arch, compileRunning(arch), SECCOMP.flagTsync);
}
