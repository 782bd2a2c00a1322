/**
 * What an untrusted plugin's process may ask of the kernel: decided from its grants, pure, for both architectures. What is not
 * named here is refused. Must never allow a way to another process, to a new program, or to a socket that was not granted.
 * Specified by docs/plugins.md, "The sandbox".
 */
import type { Permission } from "../permissions.ts";
import { compileFilter, type Condition, deny, type Filter, type Rule } from "./bpf.ts";
import { type Arch, ERRNO, type SyscallName, syscallNumber } from "./numbers.ts";

/** Allowed with any arguments: memory, threads, time, and files, of which Landlock and the file modes decide. */
const ALLOWED: readonly SyscallName[] = [
  "read",
  "write",
  "readv",
  "writev",
  "pread64",
  "pwrite64",
  "preadv",
  "pwritev",
  "preadv2",
  "pwritev2",
  "close",
  "close_range",
  "lseek",
  "dup",
  "dup2",
  "dup3",
  "pipe",
  "pipe2",
  "sendfile",
  "copy_file_range",
  "fsync",
  "fdatasync",
  "ftruncate",
  "fallocate",
  "fadvise64",
  "readahead",
  "flock",
  "creat",
  "stat",
  "fstat",
  "lstat",
  "newfstatat",
  "statx",
  "statfs",
  "fstatfs",
  "access",
  "faccessat",
  "faccessat2",
  "readlink",
  "readlinkat",
  "getdents64",
  "getcwd",
  "chdir",
  "fchdir",
  "mkdir",
  "mkdirat",
  "rmdir",
  "unlink",
  "unlinkat",
  "rename",
  "renameat",
  "renameat2",
  "umask",
  "mprotect",
  "munmap",
  "mremap",
  "madvise",
  "brk",
  "msync",
  "mincore",
  "membarrier",
  "exit",
  "exit_group",
  "futex",
  "futex_waitv",
  "set_robust_list",
  "get_robust_list",
  "rseq",
  "set_tid_address",
  "gettid",
  "getpid",
  "getppid",
  "getuid",
  "geteuid",
  "getgid",
  "getegid",
  "getgroups",
  "getresuid",
  "getresgid",
  "getpgrp",
  "getpgid",
  "getsid",
  "getrlimit",
  "getrusage",
  "times",
  "uname",
  "sysinfo",
  "getcpu",
  "getpriority",
  "capget",
  "arch_prctl",
  "wait4",
  "waitid",
  "restart_syscall",
  "sched_yield",
  "sched_getaffinity",
  "sched_getparam",
  "sched_getscheduler",
  "sched_get_priority_max",
  "sched_get_priority_min",
  "rt_sigaction",
  "rt_sigprocmask",
  "rt_sigreturn",
  "rt_sigpending",
  "rt_sigtimedwait",
  "rt_sigsuspend",
  "sigaltstack",
  "pause",
  "signalfd4",
  "clock_gettime",
  "clock_getres",
  "clock_nanosleep",
  "nanosleep",
  "gettimeofday",
  "time",
  "timerfd_create",
  "timerfd_settime",
  "timerfd_gettime",
  "getitimer",
  "setitimer",
  "alarm",
  "epoll_create",
  "epoll_create1",
  "epoll_ctl",
  "epoll_wait",
  "epoll_pwait",
  "epoll_pwait2",
  "poll",
  "ppoll",
  "select",
  "pselect6",
  "eventfd",
  "eventfd2",
  "getrandom",
  "recvfrom",
  "recvmsg",
  "shutdown",
  "getsockopt",
  "getsockname",
  "getpeername",
];

/** A plugin's code runs below the node's own, so that the node never lacks the processor for what a plugin burns. */
export const NICE = 5;

/** Refused as if the kernel were too old, so that libc and Bun take the older way, which can be judged. */
const UNKNOWN: readonly SyscallName[] = ["clone3", "openat2", "memfd_create", "io_uring_setup"];

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
/** Of a socket's type, without SOCK_CLOEXEC and SOCK_NONBLOCK. */
const SOCK_TYPE_MASK = 0xf;
const PROTOCOLS = { tcp: [0, 6], udp: [0, 17] } as const;
/** Would connect past Landlock's rule for ports. */
const MSG_FASTOPEN = 0x2000_0000;

const CLONE_VM_AND_THREAD = 0x0001_0100;
const MAP_SHARED_ANONYMOUS = 0x21;
const O_ACCMODE_AND_TRUNC = 0o1003;
const O_TRUNC = 0o1000;
const PRCTLS = {
  getDumpable: 3,
  setName: 15,
  getName: 16,
  getSeccomp: 21,
  capbsetRead: 23,
  getSecurebits: 27,
  setNoNewPrivs: 38,
  getNoNewPrivs: 39,
  getThpDisable: 42,
  setVma: 0x53_56_4d_41,
} as const;
/** F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ and the open-file locks. */
const FCNTLS = [0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1_030, 1_032] as const;
/** TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. */
const IOCTLS = [0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451] as const;
/** SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFINDEX: which interface a multicast group is joined on. */
const NET_IOCTLS = [0x8910, 0x8912, 0x8913, 0x8915, 0x8933] as const;

/**
 * Options that a plugin may set, by level: what Bun and programs set of their own accord, and multicast groups. Not those that lead past
 * a grant or around the machine's routes: SO_BINDTODEVICE, SO_MARK, SO_PRIORITY, IP_OPTIONS, IP_FREEBIND, IP_TRANSPARENT, IP_UNICAST_IF,
 * TCP_FASTOPEN_CONNECT, TCP_REPAIR, TCP_ULP, TCP_CONGESTION and filters. <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>, <linux/tcp.h>.
 */
const SOCKET_OPTIONS: readonly (readonly [level: number, names: readonly number[]])[] = [
  // SOL_SOCKET: REUSEADDR, BROADCAST, SNDBUF, RCVBUF, KEEPALIVE, LINGER, REUSEPORT, RCVTIMEO, SNDTIMEO.
  [1, [2, 6, 7, 8, 9, 13, 15, 20, 21]],
  // IPPROTO_TCP: NODELAY, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, DEFER_ACCEPT, QUICKACK, USER_TIMEOUT, NOTSENT_LOWAT.
  [6, [1, 3, 4, 5, 6, 9, 12, 18, 25]],
  // IPPROTO_IP: TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, MULTICAST_IF to DROP_MEMBERSHIP, ADD_ and DROP_SOURCE_MEMBERSHIP, MCAST_ groups.
  [0, [1, 2, 8, 10, 11, 32, 33, 34, 35, 36, 39, 40, 42, 45, 46, 47]],
  // IPPROTO_IPV6: UNICAST_HOPS to DROP_MEMBERSHIP, MTU_DISCOVER, RECVERR, V6ONLY, MCAST_ groups, RECVPKTINFO, TCLASS.
  [41, [16, 17, 18, 19, 20, 21, 23, 25, 26, 42, 45, 46, 47, 49, 67]],
];

/** `launch` may still start one program in its place; `running` may not. */
export type Phase = "launch" | "running";

export interface SocketKinds {
  /** What TCP sockets may do; both false: there are none. */
  readonly tcp: { readonly connect: boolean; readonly listen: boolean };
  readonly udp: boolean;
}

export function socketKindsOf(granted: readonly Permission[]): SocketKinds {
  const has = (...kinds: readonly Permission["kind"][]) => granted.some(({ kind }) => kinds.includes(kind));
  return {
    tcp: { connect: has("net.tcp", "net.tcp.connect"), listen: has("net.tcp", "net.tcp.listen") },
    udp: has("net.udp"),
  };
}

export const hasTcp = ({ tcp }: SocketKinds): boolean => tcp.connect || tcp.listen;

/** `pid` is the process's own, which stays the same over execve. */
export function planFilter(arch: Arch, pid: number, sockets: SocketKinds): Filter {
  const rules: Rule[] = [];
  const eperm = deny(ERRNO.EPERM);
  const add = (name: SyscallName, alternatives: readonly (readonly Condition[])[], otherwise = eperm) => {
    const number = syscallNumber(name, arch);
    if (number !== undefined) rules.push({ number, alternatives, otherwise });
  };
  const anyOf = (arg: Condition["arg"], values: readonly number[]) => values.map((is) => [{ arg, is }]);
  const hasNet = hasTcp(sockets) || sockets.udp;
  // Often called first: the kernel remembers only calls whose arguments do not matter.
  add("mmap", notAllBits(3, MAP_SHARED_ANONYMOUS));
  add("openat", openAlternatives(2));
  add("open", openAlternatives(1));
  add("sendto", hasNet ? [[{ arg: 3, mask: MSG_FASTOPEN, is: 0 }]] : [[{ arg: 4, is: 0 }]]);
  add("clone", [[{ arg: 0, mask: CLONE_VM_AND_THREAD, is: CLONE_VM_AND_THREAD }]]);
  add("fcntl", anyOf(1, FCNTLS));
  add("ioctl", anyOf(1, hasNet ? [...IOCTLS, ...NET_IOCTLS] : IOCTLS));
  add("prctl", anyOf(0, Object.values(PRCTLS)));
  // Signals reach this process alone.
  add("kill", [[{ arg: 0, is: pid }]]);
  add("tgkill", [[{ arg: 0, is: pid }]]);
  // Reads its own bounds; only the privileged can raise them.
  add("setpriority", [
    [
      { arg: 0, is: 0 },
      { arg: 1, is: 0 },
      { arg: 2, is: NICE },
    ],
  ]);
  add("prlimit64", [[{ arg: 0, is: 0 }], [{ arg: 0, is: pid }]]);
  add("socket", socketAlternatives(sockets), deny(ERRNO.EACCES));
  add(
    "setsockopt",
    SOCKET_OPTIONS.flatMap(([level, names]) =>
      names.map((is): Condition[] => [
        { arg: 1, is: level },
        { arg: 2, is },
      ]),
    ),
  );
  if (hasNet) {
    add("sendmsg", [[{ arg: 2, mask: MSG_FASTOPEN, is: 0 }]]);
    add("sendmmsg", [[{ arg: 3, mask: MSG_FASTOPEN, is: 0 }]]);
  }
  for (const name of UNKNOWN) add(name, [], deny(ERRNO.ENOSYS));
  // A TCP socket that was bound still cannot listen; nor can one that listens without, at a port that Landlock is not asked about.
  const { tcp, udp } = sockets;
  const net: readonly SyscallName[] = [
    ...(tcp.listen || udp ? (["bind"] as const) : []),
    ...(tcp.listen ? (["listen", "accept", "accept4"] as const) : []),
    ...(tcp.connect || udp ? (["connect"] as const) : []),
    ...(hasNet ? (["recvmmsg"] as const) : []),
  ];
  // Until this program has started itself, or another, under the filter; then `planRunning` takes these.
  const launch: readonly SyscallName[] = ["execve", "seccomp"];
  return {
    arch,
    rules,
    allowed: [...ALLOWED, ...net, ...launch]
      .map((name) => syscallNumber(name, arch))
      .filter((number) => number !== undefined),
    otherwise: eperm,
  };
}

/** The second filter, laid over the first when nothing of ours is left to start. Everything else is decided by the first. */
export function planRunning(arch: Arch): Rule[] {
  return (["execve", "execveat", "seccomp"] as const).flatMap((name) => {
    const number = syscallNumber(name, arch);
    return number === undefined ? [] : [{ number, alternatives: [], otherwise: deny(ERRNO.EPERM) }];
  });
}

export const compileLaunch = (arch: Arch, pid: number, sockets: SocketKinds): Uint8Array =>
  compileFilter(planFilter(arch, pid, sockets));

export const compileRunning = (arch: Arch): Uint8Array =>
  compileFilter({ arch, rules: planRunning(arch), allowed: [], otherwise: 0x7fff_0000 });

/** Not both bits: shared memory without a file counts against no limit of the process. */
const notAllBits = (arg: Condition["arg"], bits: number): Condition[][] => {
  const [low, high] = [bits & -bits, bits & (bits - 1)];
  return [[{ arg, mask: low, is: 0 }], [{ arg, mask: high, is: 0 }]];
};

/** Landlock before its third version does not see that opening for reading alone may empty a file. */
const openAlternatives = (arg: Condition["arg"]): Condition[][] => [
  [{ arg, mask: O_TRUNC, is: 0 }],
  [{ arg, mask: O_ACCMODE_AND_TRUNC, is: O_TRUNC | 1 }],
  [{ arg, mask: O_ACCMODE_AND_TRUNC, is: O_TRUNC | 2 }],
];

function socketAlternatives(sockets: SocketKinds): Condition[][] {
  const kinds: readonly (readonly [boolean, number, readonly number[]])[] = [
    [hasTcp(sockets), SOCK_STREAM, PROTOCOLS.tcp],
    [sockets.udp, SOCK_DGRAM, PROTOCOLS.udp],
  ];
  return kinds.flatMap(([isGranted, type, protocols]) =>
    !isGranted
      ? []
      : [AF_INET, AF_INET6].flatMap((family) =>
          protocols.map((protocol): Condition[] => [
            { arg: 0, is: family },
            { arg: 1, mask: SOCK_TYPE_MASK, is: type },
            { arg: 2, is: protocol },
          ]),
        ),
  );
}
