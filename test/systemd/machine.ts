/**
 * A machine that really runs systemd: a Debian root made by mmdebstrap (once, into .cache), booted by systemd-nspawn with
 * a network of its own. Needs root. Leaves no process, control group or file; the wrapper gives nspawn what it misses
 * where it is started from no service: a terminal, and a unified control group that is its own.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { root as project, run } from "../../scripts/lib.ts";
import { scratchFolder } from "../../scripts/scratch.ts";

const PACKAGES = "systemd,systemd-sysv,dbus,libnss-systemd";
const SUITE = "bookworm";
const MAKE_TIMEOUT_MS = 300_000;
const BOOT_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 60_000;
const programs = ["mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "script", "tar"];

/** In CI a machine that cannot is a failure. */
const mayBeMissing = process.env["CI"] !== "true";

/** Why there can be no machine here; undefined when there can. */
export const missing: string | undefined = !mayBeMissing
  ? undefined
  : process.getuid?.() !== 0
    ? "needs root"
    : (programs.filter((name) => Bun.which(name) === null).map((name) => `needs ${name}`)[0] ??
      (existsSync(binaryPath) ? undefined : "needs dist/godwit: bun run build"));

export interface CallResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A root of Debian's packages as a tar, from the cache or newly made. */
export async function rootArchive(variant = "minbase", packages = PACKAGES): Promise<string> {
  const hash = Bun.hash(`${variant} ${packages}`).toString(36);
  const path = join(project, ".cache", "systemd", `${SUITE}-${hash}.tar`);
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  const making = `${path}.${process.pid}`;
  try {
    const made = await run(
      [
        "mmdebstrap",
        "--quiet",
        `--variant=${variant}`,
        "--format=tar",
        `--include=${packages}`,
        SUITE,
        making,
      ],
      { timeoutMs: MAKE_TIMEOUT_MS },
    );
    if (made.code !== 0) throw new Error(`mmdebstrap failed with ${made.code}\n${made.output}`);
    renameSync(making, path);
  } finally {
    rmSync(making, { force: true });
  }
  return path;
}

const wrapper = (root: string, group: string) => `
set -e
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/${group}
echo $$ > /sys/fs/cgroup/${group}/cgroup.procs
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec script -qefc "systemd-nspawn -q -D ${root} -b --register=no --keep-unit --private-network" /dev/null
`;

/** Removes its control groups, which takes until the last process is gone, and those that killed runs left. */
const unwrapper = (group: string) => `
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
cd /sys/fs/cgroup
clear() { [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }
for old in godwit-*; do
  pid=\${old#godwit-}
  [ -d "/proc/\${pid%%-*}" ] || clear "$old"
done
for try in $(seq 100); do
  clear ${group}
  [ -d ${group} ] || exit 0
  sleep 0.05
done
exit 1
`;

const inMounts = (script: string) => ["unshare", "--mount", "sh", "-c", script];

export class Machine {
  readonly dir: string;
  /** Its file system, as seen from here. */
  readonly root: string;
  readonly #group: string;
  #leader = 0;
  #console = "";
  #child: ReturnType<typeof Bun.spawn> | undefined;
  readonly #onExit = () => this.#abandon();

  private constructor(dir: string) {
    this.dir = dir;
    this.root = join(dir, "root");
    this.#group = `godwit-${process.pid}-${dir.slice(-6)}`;
    process.once("exit", this.#onExit);
  }

  /** With the binary in /root/godwit, and nothing installed but what `prepare` puts into the tree. */
  static async boot(prepare?: (machine: Machine) => Promise<void>): Promise<Machine> {
    const archive = await rootArchive();
    const machine = new Machine(await scratchFolder("systemd"));
    try {
      mkdirSync(machine.root);
      const unpacked = await run(["tar", "-C", machine.root, "-xf", archive], { timeoutMs: 60_000 });
      if (unpacked.code !== 0) throw new Error(`tar failed: ${unpacked.output}`);
      const copied = await run(["cp", binaryPath, machine.path("/root/godwit")]);
      if (copied.code !== 0) throw new Error(`cp failed: ${copied.output}`);
      await prepare?.(machine);
      await machine.#start();
      return machine;
    } catch (error) {
      await machine.close();
      throw error;
    }
  }

  /** A file of the machine, as it is called from here. */
  path(inside: string): string {
    return join(this.root, inside);
  }

  write(inside: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.path(inside)), { recursive: true });
    writeFileSync(this.path(inside), text, { mode });
  }

  /** Runs a command inside to its end. */
  async call(...words: string[]): Promise<CallResult> {
    return await collect(["nsenter", `--target=${this.#leader}`, "--all", "--", ...words]);
  }

  /** The same, which must succeed; answers what it printed. */
  async must(...words: string[]): Promise<string> {
    const { code, out, err } = await this.call(...words);
    if (code !== 0) throw new Error(`${words.join(" ")} ended with ${code}\n${out}${err}`);
    return out;
  }

  /** A script of this Bun on the network of the machine, and on nothing else of it. */
  async fromItsNetwork(script: string): Promise<string> {
    const { code, out, err } = await collect([
      ...["nsenter", `--target=${this.#leader}`, "--net", "--"],
      ...[process.execPath, "-e", script],
    ]);
    if (code !== 0) throw new Error(`the script ended with ${code}\n${out}${err}`);
    return out;
  }

  /** Properties of a unit, by `systemctl show`. */
  async show(unit: string, ...names: string[]): Promise<Record<string, string>> {
    const text = await this.must("systemctl", "show", unit, `--property=${names.join(",")}`);
    return Object.fromEntries(
      text
        .split("\n")
        .filter((line) => line.includes("="))
        .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
    );
  }

  /** Polls until `check` answers something; says what was waited for, with the end of the journal. */
  async until<T>(what: string, check: () => Promise<T | undefined | false>, timeoutMs = 30_000): Promise<T> {
    const endMs = performance.now() + timeoutMs;
    let last: unknown;
    while (performance.now() < endMs) {
      try {
        const found = await check();
        if (found !== undefined && found !== false) return found;
      } catch (error) {
        last = error;
      }
      await Bun.sleep(50);
    }
    const journal = (await this.call("journalctl", "--no-pager", "-n", "40", "-o", "cat")).out;
    const why = last instanceof Error ? `: ${last.message}` : "";
    throw new Error(`waited for ${what}${why}\n${journal}`);
  }

  /** Powers nothing down: it is cut off, and everything of it is removed. Idempotent. */
  async close(): Promise<void> {
    process.off("exit", this.#onExit);
    this.#kill();
    await this.#child?.exited;
    const cleared = await run(inMounts(unwrapper(this.#group)), { timeoutMs: 30_000 });
    await rm(this.dir, { recursive: true, force: true });
    if (cleared.code !== 0) throw new Error(`control groups are left: ${cleared.output}`);
  }

  async #start(): Promise<void> {
    // In a process namespace that ends with us, however we end.
    const dying = [
      "setpriv",
      "--pdeathsig",
      "KILL",
      "unshare",
      "--pid",
      "--fork",
      "--kill-child",
      "--mount-proc",
    ];
    const child = Bun.spawn([...dying, "sh", "-c", wrapper(this.root, this.#group)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: process.env["PATH"] ?? "", TERM: "dumb" },
      detached: true,
    });
    this.#child = child;
    const keep = async (stream: ReadableStream<Uint8Array>) => {
      const decoder = new TextDecoder();
      for await (const chunk of stream)
        this.#console = (this.#console + decoder.decode(chunk, { stream: true })).slice(-16_384);
    };
    void keep(child.stdout);
    void keep(child.stderr);
    const endMs = performance.now() + BOOT_TIMEOUT_MS;
    while (performance.now() < endMs && child.exitCode === null) {
      this.#leader ||= leaderBelow(child.pid) ?? 0;
      if (this.#leader !== 0) {
        const { out } = await this.call("systemctl", "is-system-running");
        if (/^(running|degraded)/.test(out)) return;
      }
      await Bun.sleep(100);
    }
    throw new Error(`the machine did not come up\n${this.#console}`);
  }

  #kill(): void {
    for (const pid of [this.#leader, -(this.#child?.pid ?? 0)]) {
      try {
        if (pid !== 0) process.kill(pid, "SIGKILL");
      } catch {
        // Gone already.
      }
    }
    this.#leader = 0;
  }

  /** The caller exits without having closed it. */
  #abandon(): void {
    this.#kill();
    Bun.spawnSync(inMounts(unwrapper(this.#group)));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function collect(command: readonly string[]): Promise<CallResult> {
  const child = Bun.spawn([...command], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TERM: "dumb" },
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

/** The machine's first process: it calls itself systemd, and is process 1 in a namespace of its own. */
function leaderBelow(pid: number): number | undefined {
  const pending = [pid];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    try {
      const status = readFileSync(`/proc/${next}/status`, "utf8");
      if (/^Name:\tsystemd$/m.test(status) && /^NSpid:.*\t1$/m.test(status)) return next;
      const children = readFileSync(`/proc/${next}/task/${next}/children`, "utf8").trim();
      if (children !== "") pending.push(...children.split(" ").map(Number));
    } catch {
      // Gone meanwhile.
    }
  }
  return undefined;
}
