/** The filter as the kernel would run it, on both architectures: what must pass passes, what must not does not. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Action, compileFilter, deny, interpretFilter } from "./bpf.ts";
import { handledAccess } from "./landlock.ts";
import {
  type Arch,
  AUDIT_ARCH,
  ERRNO,
  type SyscallName,
  syscallNumber,
  SYSCALLS,
  X32_BIT,
} from "./numbers.ts";
import { compileLaunch, compileRunning, NICE, type SocketKinds, socketKindsOf } from "./policy.ts";
import { uidOf } from "./protections.ts";

const PID = 4_242;
const none: SocketKinds = socketKindsOf([]);
const tcpOnly = socketKindsOf([{ kind: "net.tcp" }]);
const udpOnly = socketKindsOf([{ kind: "net.udp" }]);
const archs: readonly Arch[] = ["x64", "arm64"];
const foreign: Readonly<Record<Arch, number>> = { x64: AUDIT_ARCH.arm64, arm64: AUDIT_ARCH.x64 };

/** Undefined: the architecture has no such call. */
function ask(arch: Arch, sockets: SocketKinds, name: SyscallName, args: readonly number[] = []) {
  const number = syscallNumber(name, arch);
  if (number === undefined) return undefined;
  return interpretFilter(compileLaunch(arch, PID, sockets), { arch: AUDIT_ARCH[arch], number, args });
}
const EPERM = deny(ERRNO.EPERM);
const EACCES = deny(ERRNO.EACCES);
const ENOSYS = deny(ERRNO.ENOSYS);

/** Never, whatever the arguments are. */
const FORBIDDEN: readonly SyscallName[] = [
  ...(["fork", "vfork", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"] as const),
  ...([
    "tkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
  ] as const),
  ...([
    "mount",
    "umount2",
    "move_mount",
    "open_tree",
    "fsopen",
    "unshare",
    "setns",
    "pivot_root",
    "chroot",
  ] as const),
  ...([
    "bpf",
    "perf_event_open",
    "keyctl",
    "add_key",
    "request_key",
    "userfaultfd",
    "io_uring_enter",
  ] as const),
  ...([
    "init_module",
    "finit_module",
    "kexec_load",
    "swapon",
    "reboot",
    "iopl",
    "ioperm",
    "personality",
  ] as const),
  ...(["setuid", "setresuid", "setresgid", "setgroups", "capset", "setpgid", "setrlimit"] as const),
  ...([
    "truncate",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utimensat",
  ] as const),
  ...(["link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "setxattr", "inotify_init1"] as const),
  ...([
    "shmget",
    "shmat",
    "msgget",
    "semget",
    "mq_open",
    "mlock",
    "mlockall",
    "vmsplice",
    "process_madvise",
  ] as const),
  ...([
    "name_to_handle_at",
    "open_by_handle_at",
    "socketpair",
    "timer_create",
    "sync",
    "syslog",
    "quotactl",
  ] as const),
  ...([
    "acct",
    "settimeofday",
    "clock_settime",
    "sethostname",
    "landlock_create_ruleset",
    "sched_setaffinity",
  ] as const),
];
const ASK_NEWER: readonly SyscallName[] = ["clone3", "openat2", "memfd_create", "io_uring_setup"];

/** Old calls are not on every architecture. */
const FORBIDDEN_SHARE_MIN = 0.7;

for (const arch of archs)
  describe(arch, () => {
    const may = (name: SyscallName, args: readonly number[] = [], sockets = none) => {
      const answer = ask(arch, sockets, name, args);
      return answer === undefined || answer === Action.allow;
    };

    // Of those that this architecture has.
    const numbered = [...FORBIDDEN].flatMap((name) => {
      const number = syscallNumber(name, arch);
      return number === undefined ? [] : [[name, number] as const];
    });

    test("most of what is forbidden has a number here", () => {
      expect(numbered.length).toBeGreaterThan(FORBIDDEN_SHARE_MIN * [...FORBIDDEN].length);
    });

    test.each(numbered)("%s is refused whatever its arguments are", (_name, number) => {
      const filter = compileLaunch(arch, PID, { ...tcpOnly, udp: true });
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { minLength: 6, maxLength: 6 }),
          (args) => {
            expect(interpretFilter(filter, { arch: AUDIT_ARCH[arch], number, args })).toBe(EPERM);
          },
        ),
        { numRuns: 50 },
      );
    });

    test.each([...ASK_NEWER])("%s is unknown, so that libc takes the older way", (name) => {
      expect(ask(arch, none, name)).toBe(ENOSYS);
    });

    test("another architecture and x32 end the process", () => {
      const filter = compileLaunch(arch, PID, none);
      const read = syscallNumber("read", arch)!;
      expect(interpretFilter(filter, { arch: foreign[arch], number: read, args: [] })).toBe(
        Action.killProcess,
      );
      if (arch === "x64")
        for (const number of [X32_BIT, X32_BIT + 1, 0xffff_ffff])
          expect(interpretFilter(filter, { arch: AUDIT_ARCH.x64, number, args: [] })).toBe(
            Action.killProcess,
          );
    });

    test("a number that nobody knows is refused", () => {
      const known = new Set(Object.keys(SYSCALLS).map((name) => syscallNumber(name as SyscallName, arch)));
      const filter = compileLaunch(arch, PID, none);
      for (let number = 0; number < 600; number++)
        if (!known.has(number))
          expect(interpretFilter(filter, { arch: AUDIT_ARCH[arch], number, args: [] })).toBe(EPERM);
    });

    test("threads may be made, processes not", () => {
      // What glibc gives: CLONE_VM, FS, FILES, SIGHAND, THREAD and more.
      expect(may("clone", [0x003d_0f00])).toBe(true);
      for (const flags of [17, 0, 0x100, 0x1_0000, 0x4111, 0x1000_0000 | 17])
        expect(may("clone", [flags])).toBe(false);
    });

    test("signals reach the process itself and nobody else", () => {
      expect(may("tgkill", [PID, 99, 9])).toBe(true);
      expect(may("kill", [PID, 9])).toBe(true);
      for (const pid of [1, 0, -1, PID + 1, -PID]) {
        expect(may("kill", [pid, 0])).toBe(false);
        expect(may("tgkill", [pid, pid, 0])).toBe(false);
      }
    });

    test("without grants no socket of any kind, nor the calls that use one", () => {
      for (const family of [1, 2, 10, 16, 17, 38, 40])
        for (const type of [1, 2, 3, 5]) expect(ask(arch, none, "socket", [family, type, 0])).toBe(EACCES);
      for (const name of ["bind", "connect", "listen", "accept", "accept4", "sendmsg", "sendmmsg"] as const)
        expect(may(name, [5])).toBe(false);
      expect(may("sendto", [3, 0, 0, 0x4000, 0, 0])).toBe(true);
      expect(may("sendto", [3, 0, 0, 0, 0x1234, 16])).toBe(false);
    });

    test.each([
      ["tcp", tcpOnly, 1, 6],
      ["udp", udpOnly, 2, 17],
    ] as const)("granted %s opens that kind only", (_name, sockets, type, protocol) => {
      const flags = 0o2_004_000;
      for (const family of [2, 10])
        for (const given of [0, protocol]) {
          expect(may("socket", [family, type, given], sockets)).toBe(true);
          expect(may("socket", [family, type | flags, given], sockets)).toBe(true);
        }
      for (const [family, kind, number] of [
        [2, 3 - type, 0],
        [2, 3, 1],
        [2, type, 262],
        [2, type, 132],
        [1, type, 0],
        [16, 3, 0],
        [17, 3, 0],
        [2, type | 4, 0],
      ] as const)
        expect(ask(arch, sockets, "socket", [family, kind, number])).toBe(EACCES);
      expect(may("connect", [5], sockets)).toBe(true);
      // MSG_FASTOPEN would connect past Landlock's ports.
      expect(may("sendto", [5, 0, 0, 0x2000_0000, 1, 16], sockets)).toBe(false);
      expect(may("sendmsg", [5, 0, 0x2000_4000], sockets)).toBe(false);
      expect(may("sendmmsg", [5, 0, 1, 0x2000_0000], sockets)).toBe(false);
      expect(may("sendmsg", [5, 0, 0x4000], sockets)).toBe(true);
    });

    test.each([
      ["net.tcp", tcpOnly, ["bind", "connect", "listen", "accept", "accept4"]],
      ["net.udp", udpOnly, ["bind", "connect"]],
      ["net.tcp.connect", socketKindsOf([{ kind: "net.tcp.connect", port: 80 }]), ["connect"]],
      [
        "net.tcp.listen",
        socketKindsOf([{ kind: "net.tcp.listen", port: 80 }]),
        ["bind", "listen", "accept", "accept4"],
      ],
      [
        "net.udp and net.tcp.connect",
        socketKindsOf([{ kind: "net.udp" }, { kind: "net.tcp.connect", port: 80 }]),
        ["bind", "connect"],
      ],
    ] as const)("granted %s, exactly these calls of sockets pass", (_name, sockets, passing) => {
      const all = ["bind", "connect", "listen", "accept", "accept4"] as const;
      expect(all.filter((name) => may(name, [5], sockets))).toEqual([...passing]);
    });

    test("of socket options what is harmless passes, and nothing that leads past routes or grants", () => {
      const set = (level: number, name: number) => may("setsockopt", [5, level, name], tcpOnly);
      for (const [level, name] of [
        ...[2, 6, 7, 8, 9, 13, 15, 20, 21].map((one) => [1, one] as const),
        ...[1, 4, 5, 6, 12].map((one) => [6, one] as const),
        ...[10, 32, 33, 34, 35, 36, 42].map((one) => [0, one] as const),
        ...[17, 18, 19, 20, 21, 23, 26].map((one) => [41, one] as const),
      ])
        expect([level, name, set(level, name)]).toEqual([level, name, true]);
      for (const [level, name] of [
        // BINDTODEVICE, MARK, PRIORITY, ATTACH_FILTER, ATTACH_BPF, RCVBUFFORCE, BINDTOIFINDEX, TXTIME.
        ...[25, 36, 12, 26, 50, 33, 62, 61].map((one) => [1, one] as const),
        // CONGESTION, MD5SIG, REPAIR, FASTOPEN, FASTOPEN_CONNECT, ULP.
        ...[13, 14, 19, 23, 30, 31].map((one) => [6, one] as const),
        // OPTIONS, HDRINCL, FREEBIND, IPSEC_POLICY, TRANSPARENT, UNICAST_IF, LOCAL_PORT_RANGE, iptables.
        ...[4, 3, 15, 16, 19, 50, 51, 64].map((one) => [0, one] as const),
        // IPSEC_POLICY, HDRINCL, RTHDR, TRANSPARENT, FREEBIND, UNICAST_IF.
        ...[34, 36, 57, 75, 78, 76, 64].map((one) => [41, one] as const),
        [17, 1],
        [263, 1],
        [284, 1],
      ] as const)
        expect([level, name, set(level, name)]).toEqual([level, name, false]);
    });

    test("memory: private and of files, but none that is shared without a file", () => {
      expect(may("mmap", [0, 4_096, 3, 0x22])).toBe(true);
      expect(may("mmap", [0, 4_096, 1, 0x01])).toBe(true);
      for (const flags of [0x21, 0x23, 0x8021]) expect(may("mmap", [0, 4_096, 3, flags])).toBe(false);
    });

    test("opening for reading cannot empty a file", () => {
      expect(may("openat", [-100, 1, 0o2_000_000])).toBe(true);
      expect(may("openat", [-100, 1, 0o1101])).toBe(true);
      expect(may("openat", [-100, 1, 0o1102])).toBe(true);
      expect(may("openat", [-100, 1, 0o1000])).toBe(false);
      expect(may("openat", [-100, 1, 0o1003])).toBe(false);
    });

    test("descriptors cannot be made to signal others, nor processes to outlive the node", () => {
      for (const command of [8, 10, 15, 1_024, 1_026, 1_033]) expect(may("fcntl", [3, command])).toBe(false);
      for (const command of [1, 2, 3, 4, 1_030]) expect(may("fcntl", [3, command])).toBe(true);
      for (const option of [1, 4, 8, 22, 24, 28, 35, 47, 59]) expect(may("prctl", [option])).toBe(false);
      expect(may("prctl", [15])).toBe(true);
      for (const request of [0x5412, 0x540e, 0x8901, 0x8902]) expect(may("ioctl", [0, request])).toBe(false);
      expect(may("setpriority", [0, 0, NICE])).toBe(true);
      for (const args of [
        [0, 0, 0],
        [0, 0, -20],
        [0, 1, NICE],
        [1, 0, NICE],
        [2, 0, NICE],
      ])
        expect(may("setpriority", args)).toBe(false);
      expect(may("prlimit64", [0, 7])).toBe(true);
      expect(may("prlimit64", [1, 7])).toBe(false);
    });

    test("what every program needs passes", () => {
      for (const name of [
        ...(["read", "write", "close", "fstat", "munmap", "mprotect", "brk", "futex", "exit_group"] as const),
        ...([
          "rt_sigaction",
          "rt_sigreturn",
          "epoll_pwait",
          "clock_gettime",
          "getrandom",
          "set_robust_list",
        ] as const),
        ...([
          "execve",
          "seccomp",
          "getdents64",
          "unlinkat",
          "renameat2",
          "mkdirat",
          "ftruncate",
          "rseq",
        ] as const),
      ])
        expect([name, may(name)]).toEqual([name, true]);
    });

    test("the second filter takes the start of programs away, and nothing else", () => {
      const filter = compileRunning(arch);
      const at = (name: SyscallName) =>
        interpretFilter(filter, { arch: AUDIT_ARCH[arch], number: syscallNumber(name, arch)!, args: [] });
      expect([at("execve"), at("execveat"), at("seccomp")]).toEqual([EPERM, EPERM, EPERM]);
      expect([at("read"), at("clone"), at("socket")]).toEqual([Action.allow, Action.allow, Action.allow]);
    });
  });

test("numbers: no call has that of another", () => {
  for (const arch of archs) {
    const numbers = Object.keys(SYSCALLS)
      .map((name) => syscallNumber(name as SyscallName, arch))
      .filter((number) => number !== undefined);
    expect(new Set(numbers).size).toBe(numbers.length);
  }
});

test("property: a rule allows exactly what one of its alternatives describes", () => {
  const value = fc.integer({ min: 0, max: 0xffff_ffff });
  const condition = fc.record({
    arg: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const),
    mask: fc.option(fc.integer({ min: 0, max: 7 }), { nil: undefined }),
    is: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(
      fc.array(fc.array(condition, { minLength: 1, maxLength: 3 }), { maxLength: 4 }),
      fc.array(fc.oneof(fc.integer({ min: 0, max: 7 }), value), { minLength: 4, maxLength: 4 }),
      (alternatives, args) => {
        const shaped = alternatives.map((one) =>
          one.map(({ arg, mask, is }) => (mask === undefined ? { arg, is } : { arg, mask, is })),
        );
        const filter = compileFilter({
          arch: "x64",
          allowed: [],
          rules: [{ number: 7, alternatives: shaped, otherwise: EACCES }],
          otherwise: EPERM,
        });
        const holds = alternatives.some((one) =>
          one.every(({ arg, mask, is }) => (args[arg]! & (mask ?? -1)) >>> 0 === is),
        );
        const run = (number: number) => interpretFilter(filter, { arch: AUDIT_ARCH.x64, number, args });
        expect(run(7)).toBe(holds ? Action.allow : EACCES);
        expect(run(8)).toBe(EPERM);
      },
    ),
  );
});

test("Landlock: each version's accesses, as the kernel counts them", () => {
  // Bits 0 to 12; REFER came with 2, TRUNCATE with 3, IOCTL_DEV with 5.
  expect([1, 2, 3, 4, 5, 6, 7].map(handledAccess)).toEqual([
    0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff,
  ]);
});

test("a user of its own: the same for a folder, above all that others give out", () => {
  expect(uidOf("/a/b")).toBe(uidOf("/a/b"));
  expect(uidOf("/a/b")).not.toBe(uidOf("/a/c"));
  expect(uidOf("/a/b")).toBeGreaterThanOrEqual(0x7000_0000);
  expect(uidOf("/a/b")).toBeLessThan(0x8000_0000);
});
