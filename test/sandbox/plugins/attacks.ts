/**
 * A hostile service: tries what its table names, and says in the node's log what came of it. `worked` means that it got what it
 * must not have.
 */
import { dlopen, ptr, read } from "bun:ffi";
import * as fs from "node:fs";
import { definePlugin, type EngineContext, type HealContext, type PluginContext } from "@godwit/sdk";

interface Table {
  readonly attacks: readonly string[];
  /** Readable for everybody by its mode; nothing of the plugin's. */
  readonly secret: string;
  /** A folder that everybody may write to by its mode. */
  readonly open_folder: string;
  readonly state_dir: string;
  readonly api_port: number;
  /** Harmless forms only, to show that they work where nothing stops them. */
  readonly control?: boolean;
}

const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};

const libc = dlopen("libc.so.6", {
  syscall: { args: ["i64", "u64", "u64", "u64", "u64", "u64", "u64"], returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

const isArm = process.arch === "arm64";
/** [x64, arm64] */
const NR = {
  socket: [41, 198],
  connect: [42, 203],
  bind: [49, 200],
  listen: [50, 201],
  setsockopt: [54, 208],
  fork: [57, -1],
  vfork: [58, -1],
  clone: [56, 220],
  clone3: [435, 435],
  execve: [59, 221],
  kill: [62, 129],
  tgkill: [234, 131],
  tkill: [200, 130],
  sigqueue: [129, 138],
  ptrace: [101, 117],
  vmRead: [310, 270],
  vmWrite: [311, 271],
  pidfdOpen: [434, 434],
  mount: [165, 40],
  unshare: [272, 97],
  chroot: [161, 51],
  bpf: [321, 280],
  perf: [298, 241],
  keyctl: [250, 219],
  ioUring: [425, 425],
  userfaultfd: [323, 282],
  memfd: [319, 279],
  setuid: [105, 146],
  setns: [308, 268],
  mmap: [9, 222],
  prctl: [157, 167],
  fcntl: [72, 25],
  truncate: [76, 45],
  openat: [257, 56],
  linkat: [265, 37],
  symlinkat: [266, 36],
  fchmodat: [268, 53],
  seccomp: [317, 277],
  initModule: [175, 105],
  setpgid: [109, 154],
  shmget: [29, 194],
  mqOpen: [240, 180],
  prlimit: [302, 261],
} as const;

function call(name: keyof typeof NR, ...args: readonly (number | bigint | Uint8Array)[]): number {
  const number = NR[name][isArm ? 1 : 0];
  if (number < 0) return -38;
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args.map((arg) =>
    typeof arg === "object" ? ptr(arg) : arg,
  );
  const value = Number(libc.syscall(number, a, b, c, d, e, f));
  return value === -1 ? -read.i32(libc.__errno_location()!, 0) : value;
}
const text = (value: string) => new TextEncoder().encode(`${value}\0`);
const worked = (value: number): string => (value >= 0 ? `worked: ${value}` : `failed: ${-value}`);
/** A child that a fork made must not go on as a second plugin. */
const forked = (value: number): string => {
  if (value === 0) for (;;) call("kill", process.pid, 9);
  return worked(value);
};
const socket =
  (family: number, type: number, protocol = 0) =>
  () =>
    worked(call("socket", family, type, protocol));

type Attack = (table: Table, ctx: PluginContext) => string | Promise<string>;
const parent = process.ppid;

const attacks: Readonly<Record<string, Attack>> = {
  read_shadow: () => `worked: ${fs.readFileSync("/etc/shadow").length}`,
  read_passwd: () => `worked: ${fs.readFileSync("/etc/passwd").length}`,
  read_node_key: ({ state_dir }) => `worked: ${fs.readFileSync(`${state_dir}/identity.key`).length}`,
  read_node_store: ({ state_dir }) => `worked: ${fs.readFileSync(`${state_dir}/godwit.db`).length}`,
  read_secret: ({ secret }) => `worked: ${fs.readFileSync(secret, "utf8")}`,
  read_secret_by_proc: ({ secret }) => `worked: ${fs.readFileSync(`/proc/self/root${secret}`, "utf8")}`,
  read_folder: ({ open_folder }) => `worked: ${fs.readdirSync(open_folder).length}`,
  read_root: () => `worked: ${fs.readdirSync("/").length}`,
  write_outside: ({ open_folder }) => {
    fs.writeFileSync(`${open_folder}/written`, "x");
    return "worked";
  },
  make_folder_outside: ({ open_folder }) => {
    fs.mkdirSync(`${open_folder}/made`);
    return "worked";
  },
  remove_outside: ({ open_folder }) => {
    fs.unlinkSync(`${open_folder}/removable`);
    return "worked";
  },
  truncate_outside: ({ open_folder }) => worked(call("truncate", text(`${open_folder}/victim`), 0)),
  empty_by_reading: ({ open_folder }) =>
    worked(call("openat", -100, text(`${open_folder}/victim`), 0o1000, 0)),
  chmod_outside: ({ open_folder }) => worked(call("fchmodat", -100, text(`${open_folder}/victim`), 0o777, 0)),
  link_in: ({ secret }) => worked(call("linkat", -100, text(secret), -100, text("stolen"), 0)),
  symlink_in: async ({ secret }, ctx) => {
    const folder = await ctx.folder();
    fs.symlinkSync(secret, `${folder}/stolen-${process.pid}`);
    return `worked: ${fs.readFileSync(`${folder}/stolen-${process.pid}`, "utf8")}`;
  },
  device_mem: () => `worked: ${fs.openSync("/dev/mem", "r")}`,
  device_kmsg: () => `worked: ${fs.openSync("/dev/kmsg", "r")}`,
  proc_net_tcp: () => `worked: ${fs.readFileSync("/proc/self/net/tcp").length}`,
  proc_net_of_thread: () => `worked: ${fs.readFileSync("/proc/thread-self/net/tcp").length}`,
  proc_net_of_task: () => `worked: ${fs.readFileSync(`/proc/self/task/${process.pid}/net/tcp`).length}`,
  proc_net_route: () => `worked: ${fs.readFileSync("/proc/net/route").length}`,
  proc_mounts: () => `worked: ${fs.readFileSync("/proc/self/mountinfo").length}`,
  proc_cgroup: () => `worked: ${fs.readFileSync("/proc/self/cgroup").length}`,
  proc_list: () => `worked: ${fs.readdirSync("/proc/self").length}`,
  proc_sys: () => `worked: ${fs.readFileSync("/proc/sys/kernel/hostname").length}`,

  tcp_socket: socket(2, 1),
  tcp6_socket: socket(10, 1),
  udp_socket: socket(2, 2),
  udp6_socket: socket(10, 2),
  raw_socket: socket(2, 3, 1),
  packet_socket: socket(17, 3, 0x300),
  netlink_socket: socket(16, 3, 0),
  unix_socket: socket(1, 1),
  vsock_socket: socket(40, 1),
  mptcp_socket: socket(2, 1, 262),
  tcp_connect: async ({ api_port }) => {
    const one = await Bun.connect({ hostname: "127.0.0.1", port: api_port, socket: { data() {} } });
    one.terminate();
    return "worked";
  },
  tcp_listen: () => {
    const one = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    one.stop(true);
    return "worked";
  },
  // Without a bind of its own: the kernel gives it a port that no rule of Landlock is asked about.
  tcp_listen_anywhere: () => {
    const descriptor = call("socket", 2, 1, 0);
    return descriptor < 0 ? worked(descriptor) : worked(call("listen", descriptor, 1));
  },
  // Port 0: any that is free.
  tcp_bind: () => {
    const descriptor = call("socket", 2, 1, 0);
    const address = new Uint8Array(16);
    address[0] = 2;
    return descriptor < 0 ? worked(descriptor) : worked(call("bind", descriptor, address, 16));
  },
  // SO_BINDTODEVICE: around the machine's routes.
  bind_to_device: () => {
    const tcp = call("socket", 2, 1, 0);
    const descriptor = tcp < 0 ? call("socket", 2, 2, 0) : tcp;
    return descriptor < 0 ? worked(descriptor) : worked(call("setsockopt", descriptor, 1, 25, text("lo"), 3));
  },
  udp_bind: async () => {
    const one = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    one.close();
    return "worked";
  },
  node_api: async ({ state_dir }) => {
    const one = await Bun.connect({ unix: `${state_dir}/godwit.sock`, socket: { data() {} } });
    one.terminate();
    return "worked";
  },
  broker_connect: async ({ api_port }, ctx) => {
    const stream = await ctx.net.connect("127.0.0.1", api_port);
    stream.reset();
    return "worked";
  },
  broker_listen: async (_table, ctx) => {
    const listener = await ctx.net.listen("127.0.0.1", 0, (stream) => stream.reset());
    listener.close();
    return "worked";
  },
  broker_udp: async (_table, ctx) => {
    const one = await ctx.net.datagrams("127.0.0.1", 0, () => {});
    one.close();
    return "worked";
  },

  register_engine: (_table, ctx) => {
    const engine = {
      guarantee: "eventual" as const,
      get: async () => undefined,
      put: async (_key: string, value: Uint8Array) => ({ value, revision: "1" }),
      delete: async () => {},
      watch: () => () => {},
    };
    (ctx as EngineContext).engine.register(engine);
    return "worked";
  },
  register_heal_action: (_table, ctx) => {
    const action = { name: "mend", summary: "mends", plan: async () => [], run: async () => [] };
    (ctx as HealContext).heal.register(action);
    return "worked";
  },

  spawn: async () => `worked: ${await Bun.spawn(["/bin/true"]).exited}`,
  // In the node itself half a process would be left, with the engine's locks held by threads that are not there.
  fork: ({ control }) => (control === true ? "failed: not tried" : forked(call("fork"))),
  vfork: ({ control }) => (control === true ? "failed: not tried" : forked(call("vfork"))),
  clone_process: ({ control }) =>
    control === true ? "failed: not tried" : forked(call("clone", 17, 0, 0, 0, 0)),
  clone3: ({ control }) => {
    if (control === true) return "failed: not tried";
    const args = new BigUint64Array(11);
    args[4] = 17n;
    return forked(call("clone3", new Uint8Array(args.buffer), 88));
  },
  execve: ({ control }) =>
    control === true ? "failed: not tried" : worked(call("execve", text("/bin/true"), 0, 0)),
  execve_self: ({ control }) =>
    control === true ? "failed: not tried" : worked(call("execve", text("/proc/self/exe"), 0, 0)),

  // Where it works the parent stops, and the parent of a trusted one is the test.
  ptrace_parent: ({ control }) =>
    control === true ? "failed: not tried" : worked(call("ptrace", 16, parent, 0, 0)),
  read_parent_memory: () => {
    const target = new BigUint64Array([BigInt(ptr(new Uint8Array(8))), 8n]);
    const bytes = new Uint8Array(target.buffer);
    const value = call("vmRead", parent, bytes, 1, bytes, 1, 0);
    // Without the right of tracing nothing is said of the address.
    return value === -14 ? "worked: the address was judged" : worked(value);
  },
  parent_mem: () => `worked: ${fs.openSync(`/proc/${parent}/mem`, "r")}`,
  parent_environ: () => `worked: ${fs.readFileSync(`/proc/${parent}/environ`).length}`,
  parent_cmdline: () => `worked: ${fs.readFileSync(`/proc/${parent}/cmdline`).length}`,
  parent_fds: () => `worked: ${fs.readdirSync(`/proc/${parent}/fd`).length}`,
  parent_root: ({ secret }) => `worked: ${fs.readFileSync(`/proc/${parent}/root${secret}`).length}`,
  pidfd: () => worked(call("pidfdOpen", parent, 0)),
  own_environment: () => {
    const names = Object.keys(process.env).filter((name) => !name.startsWith("BUN_JSC_"));
    return names.length === 0 ? "failed: empty" : `worked: ${names.join()}`;
  },

  signal_parent: () => worked(call("kill", parent, 0)),
  kill_parent: ({ control }) => (control === true ? "failed: not tried" : worked(call("kill", parent, 9))),
  kill_all: ({ control }) => (control === true ? "failed: not tried" : worked(call("kill", -1, 9))),
  kill_group: ({ control }) => (control === true ? "failed: not tried" : worked(call("kill", 0, 9))),
  tgkill_parent: () => worked(call("tgkill", parent, parent, 0)),
  tkill_parent: () => worked(call("tkill", parent, 0)),
  sigqueue_parent: () => worked(call("sigqueue", parent, 0, new Uint8Array(128))),
  // F_SETOWN on its channel, whose other end could then be made to signal.
  own_signals: () => worked(call("fcntl", 3, 8, BigInt(parent))),
  outlive_parent: () => worked(call("prctl", 1, 0, 0, 0, 0)),
  limits_of_parent: () => worked(call("prlimit", parent, 7, 0, new Uint8Array(16))),

  mount: () => worked(call("mount", text("none"), text("/mnt"), text("tmpfs"), 0, 0)),
  unshare: ({ control }) => (control === true ? "failed: not tried" : worked(call("unshare", 0x1000_0000))),
  chroot: ({ control }) => (control === true ? "failed: not tried" : worked(call("chroot", text(".")))),
  setuid_root: ({ control }) => (control === true ? "failed: not tried" : worked(call("setuid", 0))),
  setns: () => worked(call("setns", 3, 0)),
  bpf: () => worked(call("bpf", 0, new Uint8Array(128), 128)),
  perf: () => worked(call("perf", new Uint8Array(128), 0, -1, -1, 0)),
  keyctl: () => worked(call("keyctl", 0, -3, 1)),
  io_uring: () => worked(call("ioUring", 4, new Uint8Array(128))),
  userfaultfd: () => worked(call("userfaultfd", 1)),
  memfd: () => worked(call("memfd", text("x"), 0)),
  shared_memory: () => worked(call("shmget", 0, 4_096, 0o1600)),
  message_queue: () => worked(call("mqOpen", text("x"), 0o102, 0o600, 0)),
  load_module: ({ control }) =>
    control === true ? "failed: not tried" : worked(call("initModule", new Uint8Array(16), 16, text(""))),
  another_filter: ({ control }) =>
    control === true ? "failed: not tried" : worked(call("seccomp", 1, 0, new Uint8Array(16))),

  // What the kernel must bound; each says how far it came.
  shared_anonymous_memory: () => worked(call("mmap", 0, 4_096, 3, 0x21, -1, 0) > 0 ? 1 : -1),
  descriptors: () => {
    const held: number[] = [];
    try {
      for (; held.length < 5_000;) held.push(fs.openSync("/dev/null", "r"));
      return `worked: ${held.length}`;
    } catch {
      return `failed: after ${held.length}`;
    } finally {
      for (const one of held) fs.closeSync(one);
    }
  },
  large_file: async (_table, ctx) => {
    const path = `${await ctx.folder()}/large`;
    const piece = new Uint8Array(2 ** 20);
    const file = fs.openSync(path, "w");
    try {
      for (let i = 0; i < 65; i++)
        if (fs.writeSync(file, piece) < piece.length) return `failed: after ${i} MiB`;
      return "worked";
    } finally {
      fs.closeSync(file);
      fs.unlinkSync(path);
    }
  },
};

/** Those that end the plugin, or are meant to; each in an instance of its own. */
const endings: Readonly<Record<string, (table: Table, ctx: PluginContext) => void | Promise<void>>> = {
  x32: () => void Number(libc.syscall(0x4000_0000 + 39, 0, 0, 0, 0, 0, 0)),
  memory: () => {
    const held: Uint8Array[] = [];
    for (;;) held.push(new Uint8Array(2 ** 24).fill(held.length + 1));
  },
  native_memory: () => {
    for (;;) {
      const at = libc.syscall(NR.mmap[isArm ? 1 : 0], 0, 2 ** 24, 3, 0x8022, -1, 0);
      if (at === -1n) throw new Error("no more");
    }
  },
  disk: async (_table, ctx) => {
    const folder = await ctx.folder();
    for (let i = 0; ; i++) {
      fs.writeFileSync(`${folder}/fill-${i}`, new Uint8Array(2 ** 23));
      // The node looks once a second, and what a small machine has in memory must last until then.
      await new Promise((resolve) => ctx.clock.after(100, () => resolve(undefined)));
    }
  },
  spin: () => {
    for (;;);
  },
  threads: () => {
    const code = URL.createObjectURL(new Blob(["for (;;);"], { type: "text/javascript" }));
    for (let i = 0; i < 1_000; i++) new Worker(code);
  },
  // What a service has no business with; the node hears of it by frames without an answer.
  offer_transport: (_table, ctx) =>
    ctx.transport.register({ schemes: ["tcp"], dial: () => Promise.reject(new Error("no")) }),
  publish_endpoint: (_table, ctx) => ctx.transport.listening(["tcp://192.0.2.66:6666"]),
  name_place: ({ api_port }, ctx) =>
    ctx.discovery.hint({ endpoint: `tcp://127.0.0.1:${api_port}`, permanent: true }),
  claim_overlay: (_table, ctx) =>
    ctx.transport.overlay({ address: "200::66", subnet: "300:66::/64", peers: [] }),
  hand_over_pipe: () =>
    void fs.writeSync(
      3,
      frame(
        0x10,
        1,
        '{"what":"pipe","pipe":{"kind":"stream","remote":"x://a","local":"x://b","linkClass":"fast","rateBitsPerSecond":1,"mtu":0}}',
      ),
    ),
  forge_garbage: () => void fs.writeSync(3, new Uint8Array(64).fill(0xff)),
  forge_answer: () => void fs.writeSync(3, frame(0x0d, 4_000_000, '{"value":1}')),
  forge_open: () => void fs.writeSync(3, frame(0x10, 2, '{"what":"pipe","pipe":{}}')),
  forge_json: () => void fs.writeSync(3, frame(0x0e, 0, '{"event":"hint","endpoint":7}')),
  forge_hello: () => void fs.writeSync(3, frame(0x01, 0, '{"protocol":1}')),
  /** Never looks at its channel again, so that it cannot hear that the node is gone. */
  outlive: async (_table, ctx) => {
    ctx.log.info("surviving", { pid: process.pid });
    await new Promise((resolve) => ctx.clock.after(50, () => resolve(undefined)));
    for (;;);
  },
  survive: async (_table, ctx) => {
    for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => {});
    ctx.own(() => new Promise(() => {}));
    ctx.log.info("surviving", { pid: process.pid });
    ctx.signal.addEventListener("abort", () => {
      for (;;);
    });
  },
};

function frame(type: number, id: number, json: string): Uint8Array {
  const body = Buffer.from(json);
  const out = Buffer.alloc(13 + body.length);
  out.writeUInt32BE(9 + body.length, 0);
  out[4] = type;
  out.writeUInt32BE(id, 5);
  out.writeUInt32BE(body.length, 9);
  body.copy(out, 13);
  return out;
}

export default definePlugin({
  id: "attacks",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: [],
  config,
  start(ctx, table) {
    ctx.log.info("attacker", { pid: process.pid, uid: process.getuid?.() ?? -1 });
    ctx.spawn("attacks", async () => {
      const names = table.attacks[0] === "all" ? Object.keys(attacks) : table.attacks;
      for (const name of names) {
        const ending = endings[name];
        // After the node knows that the plugin has started.
        await new Promise((resolve) =>
          ctx.clock.after(ending === undefined ? 0 : 50, () => resolve(undefined)),
        );
        if (ending !== undefined) {
          ctx.log.info("attacking", { name });
          await new Promise((resolve) => ctx.clock.after(20, () => resolve(undefined)));
          await ending(table, ctx);
          continue;
        }
        let result: string;
        try {
          result = await attacks[name]!(table, ctx);
        } catch (error) {
          result = `failed: ${String(error).slice(0, 200)}`;
        }
        ctx.log.info("attack", { name, result });
      }
      ctx.log.info("attacks done");
    });
  },
});
