/**
 * A podman of one's own: storage, networks and processes in namespaces that end with it, so that nothing reaches the
 * machine's containers and nothing of ours stays. Needs root. What podman misses where it is started from no service
 * (a unified control group, limits it may set) is given or taken away here.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bunCache } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { scratchFolder } from "../../scripts/scratch.ts";

const CALL_TIMEOUT_MS = 120_000;
const programs = ["podman", "podman-compose", "crun", "unshare", "nsenter", "ip", "iptables"];
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** In CI a machine that cannot is a failure. */
const mayBeMissing = process.env["CI"] !== "true";

/** Why there can be no engine here; undefined when there can. */
export const missing: string | undefined = !mayBeMissing
  ? undefined
  : process.getuid?.() !== 0
    ? "needs root"
    : !existsSync(binaryPath)
      ? "needs dist/godwit: bun run build"
      : (programs.filter((name) => Bun.which(name, { PATH }) === null).map((name) => `needs ${name}`)[0] ??
        (existsSync("/usr/lib/podman/netavark") ? undefined : "needs netavark"));

const settings = `
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
`;

/** Process 1 of the namespaces: they end with it, and it ends with our end of the pipe. What is written into the clone $1 goes with it. */
const holder = `
set -e
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/clone/upper /run/clone/work
mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/clone/upper,workdir=/run/clone/work" "$1"
ip link set lo up
echo ready
exec cat
`;

/**
 * What podman-compose calls: our podman, without the health checks, for which podman wants systemd. Tests run their
 * commands by hand.
 */
const wrapped = (podman: readonly string[]) => `#!/bin/sh
count=$#
value=
for argument; do
  case $argument in
  --healthcheck-*) value=yes ;;
  *) if [ -n "$value" ]; then value=; else set -- "$@" "$argument"; fi ;;
  esac
done
shift "$count"
exec ${podman.join(" ")} "$@"
`;

export interface CallResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export class Engine {
  readonly dir: string;
  readonly #holder: ReturnType<typeof Bun.spawn>;
  #inside = 0;
  readonly #onExit = () => this.#abandon();

  private constructor(dir: string) {
    this.dir = dir;
    writeFileSync(join(dir, "containers.conf"), settings);
    mkdirSync(join(dir, "volumes"));
    this.#holder = Bun.spawn(
      [
        ...["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
        ...["sh", "-c", holder, "holder", root],
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit", env: { PATH } },
    );
    process.once("exit", this.#onExit);
  }

  static async start(): Promise<Engine> {
    const engine = new Engine(await scratchFolder("podman"));
    try {
      const reader = (engine.#holder.stdout as ReadableStream<Uint8Array>).getReader();
      const said = new TextDecoder().decode((await reader.read()).value);
      if (!said.startsWith("ready")) throw new Error(`no namespaces: ${said}`);
      const pid = engine.#holder.pid;
      const children = await Bun.file(`/proc/${pid}/task/${pid}/children`).text();
      engine.#inside = Number(children.trim().split(" ")[0]);
      return engine;
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  get #podman(): string[] {
    return [
      "podman",
      ...["--root", join(this.dir, "storage"), "--runroot", join(this.dir, "run")],
      ...["--tmpdir", join(this.dir, "tmp"), "--volumepath", join(this.dir, "volumes")],
      ...["--storage-driver", "overlay", "--network-config-dir", join(this.dir, "networks")],
    ];
  }

  async podman(...words: string[]): Promise<CallResult> {
    return await this.#enter(["--mount", "--net", "--pid"], [...this.#podman, ...words]);
  }

  /** podman-compose itself, which ends with 0 even where a container did not start. Containers are called `<project>_<service>_1`. */
  async compose(
    project: string,
    files: readonly string[],
    variables: Readonly<Record<string, string>>,
    ...words: string[]
  ): Promise<string> {
    const podman = join(this.dir, "podman-for-compose");
    writeFileSync(podman, wrapped(this.#podman), { mode: 0o755 });
    const { code, out, err } = await this.#enter(
      ["--mount", "--net", "--pid"],
      [
        ...["podman-compose", "--project-name", project, "--podman-path", podman],
        "--podman-run-args=--cgroups=disabled --no-healthcheck",
        ...files.flatMap((file) => ["--file", file]),
        ...words,
      ],
      variables,
    );
    if (code !== 0) throw new Error(`podman-compose ${words.join(" ")} ended with ${code}\n${out}${err}`);
    return `${out}${err}`;
  }

  /**
   * A script of bash in the clone, as one reads it in a page, with what is typed into it; what it writes there goes with the engine. Answers
   * what it printed.
   */
  async shell(script: string, typed = ""): Promise<string> {
    const [folder, wrapper] = [this.dir, join(this.dir, "podman-for-compose")];
    writeFileSync(wrapper, wrapped(this.#podman), { mode: 0o755 });
    writeFileSync(join(folder, "typed"), typed);
    // The folder anew: the one that a shell comes in with lies below what is laid over it.
    const prelude = `set -e
cd ${root}
ours() { command ${this.#podman.join(" ")} "$@"; }
podman() {
  case $1 in
  run) shift && ours run --cgroups=disabled --no-healthcheck "$@" ;;
  # People are slower than a node that starts.
  exec) for try in $(seq 100); do if ours "$@"; then return; fi; sleep 0.2; done; false ;;
  *) ours "$@" ;;
  esac
}
podman-compose() {
  command podman-compose --podman-path ${wrapper} '--podman-run-args=--cgroups=disabled --no-healthcheck' "$@"
}
# Where <NAME> is typed, what stands in the file NAME is.
telnet() { sed "s|^<\\(.*\\)>$|cat '\\1'|e" | socat -t 10 - "TCP:$1:$2,retry=50,interval=0.2"; }
`;
    const { code, out, err } = await this.#enter(
      ["--mount", "--net", "--pid"],
      ["bash", "-c", `exec < ${folder}/typed\n${prelude}${script}`],
      // There is no network: the builds before have left what Bun fetches.
      { BUN_INSTALL_CACHE_DIR: bunCache() },
    );
    if (code !== 0) throw new Error(`the shell ended with ${code}\n${out}${err}`);
    return out;
  }

  /** The same, which must succeed; answers what it printed, without the white space around it. */
  async must(...words: string[]): Promise<string> {
    const { code, out, err } = await this.podman(...words);
    if (code !== 0) throw new Error(`podman ${words.join(" ")} ended with ${code}\n${out}${err}`);
    return out.trim();
  }

  /** /proc/PID/status and /proc/PID/cmdline of a container's first process, by the kernel's word and not podman's. */
  async processOf(container: string): Promise<{ status: string; command: string }> {
    const pid = await this.must("inspect", "--format", "{{.State.Pid}}", container);
    const read = async (file: string) =>
      (await this.#enter(["--mount", "--pid"], ["cat", `/proc/${pid}/${file}`])).out;
    return { status: await read("status"), command: (await read("cmdline")).replaceAll("\0", " ").trim() };
  }

  /** `bun FILE ARGUMENTS` where published ports are. */
  async bun(file: string, ...words: string[]): Promise<string> {
    return await this.outside(process.execPath, file, ...words);
  }

  /** A program of the machine where published ports are; it must succeed. Answers what it printed. */
  async outside(...command: string[]): Promise<string> {
    const { code, out, err } = await this.#enter(["--net"], command);
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}\n${out}${err}`);
    return out.trim();
  }

  /** A program of the machine in a container's network; it must succeed. Answers what it printed. */
  async inNetOf(container: string, ...command: string[]): Promise<string> {
    const pid = await this.must("inspect", "--format", "{{.State.Pid}}", container);
    const { code, out, err } = await this.#enter(
      ["--mount", "--pid"],
      ["nsenter", `--target=${pid}`, "--net", "--", ...command],
    );
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}\n${out}${err}`);
    return out.trim();
  }

  /** Before a command that is to run there. */
  get netPrefix(): readonly string[] {
    return ["nsenter", `--target=${this.#inside}`, "--net", "--"];
  }

  /** Ends every container and removes everything. Idempotent. */
  async close(): Promise<void> {
    process.off("exit", this.#onExit);
    this.#holder.kill("SIGKILL");
    await this.#holder.exited;
    // Mounts went with their namespace, a moment after its last process.
    for (let tries = 0; existsSync(this.dir); tries++) {
      await rm(this.dir, { recursive: true, force: true }).catch((error: unknown) => {
        if (tries > 50) throw error;
      });
      if (existsSync(this.dir)) await Bun.sleep(100);
    }
  }

  async #enter(
    namespaces: readonly string[],
    command: readonly string[],
    variables: Readonly<Record<string, string>> = {},
  ): Promise<CallResult> {
    const child = Bun.spawn(["nsenter", `--target=${this.#inside}`, ...namespaces, "--", ...command], {
      cwd: root,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...variables, PATH, HOME: this.dir, CONTAINERS_CONF: join(this.dir, "containers.conf") },
      timeout: CALL_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, out, err };
  }

  /** The caller exits without having closed it. */
  #abandon(): void {
    this.#holder.kill("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
