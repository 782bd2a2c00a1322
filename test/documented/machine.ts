/**
 * A machine for a page: what is installed here with a root of its own that nobody keeps, one shell in which the page's blocks follow
 * each other, and a place on the network of a lab. Needs root and overlayfs. Everything in it ends with it; nothing of the real
 * /etc, /var, /root, /tmp or of this clone is written.
 */
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { root as project } from "../../scripts/lib.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";

const READY_MS = 30_000;
const BLOCK_MS = 60_000;
/** Of what is told of a failure. */
const OUTPUT_CHARS_MAX = 6_000;

/** Where a reader has a clone, and where they are after logging in. */
export const CLONE = "/root/godwit";
export const HOME = "/root";

const ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME,
  LANG: "C.UTF-8",
  TERM: "dumb",
  NO_COLOR: "1",
};

/**
 * Process 1 of the machine; its end is the machine's, and it ends with our end of its input. Folders that pages write to are laid over the
 * real ones. $1 is an empty folder, then come the clone, the binary, Bun, and pairs "FOLDER MOUNTPOINT" of what a clone has elsewhere.
 */
const holder = `
set -e
new=$1 clone=$2 binary=$3 bun=$4
shift 4
mount --make-rprivate /
mount -t tmpfs tmpfs "$new"
cd "$new"
mkdir proc sys dev tmp run root layers
chmod 700 root
chmod 1777 tmp
over() { # FOLDER MOUNTPOINT
  layer=layers/$(echo "$2" | tr / _)
  mkdir -p "$2" "$layer/upper" "$layer/work"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$2"
}
for name in usr etc var; do over "/$name" "$name"; done
for name in bin sbin lib lib32 lib64 libx32; do [ ! -L "/$name" ] || cp -P "/$name" .; done
# State of the real machine is none of this one.
rm -rf etc/godwit var/lib/godwit
over "$clone" root/godwit
rm -rf root/godwit/.cache
while [ $# -gt 0 ]; do
  rm -rf "root/godwit/$2"
  over "$1" "root/godwit/$2"
  shift 2
done
mkdir opt
for program in godwit bun; do : > "opt/$program"; ln -sf "/opt/$program" "usr/local/bin/$program"; done
mount --bind "$binary" opt/godwit
mount --bind "$bun" opt/bun
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mkdir run/page old
pivot_root . old
umount -l /old
rmdir /old
echo ready
exec cat
`;

/** What every block finds: a command that stays is begun, and the block goes on when it is of use. */
const prelude = `
set -eE -o pipefail
trap 'echo "[ended with $?] $BASH_COMMAND" >&2' ERR
# As root nothing needs it; a machine of tests may be without.
command -v sudo > /dev/null || sudo() { "$@"; }
stay() { # LOG READY COMMAND
  env --default-signal=INT bash -c "exec $3" > "$1" 2>&1 < /dev/null &
  local pid=$! LOG=$1
  echo "$pid" > "$1.pid"
  for try in $(seq 300); do
    if (eval "$2") > /dev/null 2>&1; then return 0; fi
    if ! kill -0 "$pid" 2> /dev/null; then break; fi
    sleep 0.1
  done
  echo "[it ended, or is of no use after 30 s]" >&2
  cat "$1" >&2
  return 1
}
quit() { # LOG: as Ctrl-C does
  local pid=$(cat "$1.pid")
  rm "$1.pid"
  kill -INT "$pid"
  for try in $(seq 150); do
    if ! kill -0 "$pid" 2> /dev/null; then
      local code=0
      wait "$pid" || code=$?
      if [ "$code" = 0 ] || [ "$code" = 130 ]; then return 0; fi
      echo "[ended with $code at Ctrl-C]" >&2
      cat "$1" >&2
      return 1
    fi
    sleep 0.1
  done
  echo "[runs on after Ctrl-C]" >&2
  cat "$1" >&2
  return 1
}
`;

export interface RunOptions {
  /** What is typed into the commands. */
  readonly typed?: string;
  /** Commands that stay until Ctrl-C, by how they begin, with the shell command that says they are of use; $LOG is what one prints. */
  readonly stays?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

export class PageMachine {
  readonly host: NetHost;
  readonly address: string;
  readonly #holder: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #inside: number;
  #shell: Bun.Subprocess<"pipe", "pipe", "ignore"> | undefined;
  #blocks = 0;
  /** Logs of commands that stay. */
  readonly #staying: string[] = [];

  private constructor(
    host: NetHost,
    address: string,
    process_: Bun.Subprocess<"pipe", "pipe", "pipe">,
    inside: number,
  ) {
    this.host = host;
    this.address = address;
    this.#holder = process_;
    this.#inside = inside;
  }

  /** `folder` is an empty one that the caller removes; `address` is one of the host's. */
  static async start(host: NetHost, address: string, folder: string): Promise<PageMachine> {
    const elsewhere = ["node_modules", ".cache/bun"].flatMap((name) => {
      try {
        return [realpathSync(join(project, name)), name];
      } catch {
        return [];
      }
    });
    const child = Bun.spawn(
      [
        ...host.prefix,
        ...["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", holder, "machine"],
        ...[folder, project, binaryPath, realpathSync(process.execPath), ...elsewhere],
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: { PATH: ENV.PATH } },
    );
    const said = new TextDecoder().decode((await child.stdout.getReader().read()).value);
    if (!said.startsWith("ready")) {
      child.kill("SIGKILL");
      throw new Error(`no machine: ${said}${await new Response(child.stderr).text()}`);
    }
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    return new PageMachine(host, address, child, Number(children.trim().split(" ")[0]));
  }

  /** A file of the machine, as it is called from here. */
  path(inside: string): string {
    return `/proc/${this.#inside}/root${inside}`;
  }

  write(inside: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.path(inside)), { recursive: true });
    writeFileSync(this.path(inside), text, { mode });
  }

  read(inside: string): string {
    return readFileSync(this.path(inside), "utf8");
  }

  /**
   * Runs a script in the machine's shell, which keeps folder and variables for the next one; answers what was printed. Commands that stay
   * go on when they are of use, and so does the script. Throws with the output when a command fails.
   */
  async run(script: string, options: RunOptions = {}): Promise<string> {
    const { typed = "", timeoutMs = BLOCK_MS } = options;
    const name = `/run/page/${++this.#blocks}`;
    const isProgram = script.startsWith("#!");
    this.write(`${name}.sh`, isProgram ? script : this.#withStays(script, name, options.stays ?? {}), 0o755);
    this.write(`${name}.in`, typed);
    const call = isProgram ? `${name}.sh` : `. ${name}.sh`;
    const isFine = await this.#tell(`${call} < ${name}.in > ${name}.out 2>&1`, timeoutMs, `${name}.out`);
    const output = this.read(`${name}.out`);
    if (!isFine) throw new Error(output.slice(-OUTPUT_CHARS_MAX).trim() || "it failed and printed nothing");
    return output;
  }

  /** Polls a command until it succeeds. */
  async until(command: string, timeoutMs = READY_MS): Promise<void> {
    const tries = Math.ceil(timeoutMs / 200);
    await this.run(
      `for try in $(seq ${tries}); do if (${command}) > /run/page/look 2>&1; then break; fi; sleep 0.2; done
if [ "$try" = ${tries} ]; then echo ${JSON.stringify(`waited for: ${command}`).replaceAll("$", "\\$")}; cat /run/page/look; false; fi`,
      { timeoutMs: 2 * timeoutMs },
    );
  }

  /** Ends what stays, the last first, as Ctrl-C does; of it those whose command begins so. Throws when one does not end, or not well. */
  async quit(start = ""): Promise<void> {
    for (const log of this.#staying.toReversed()) {
      if (!this.read(`${log}.command`).startsWith(start)) continue;
      this.#staying.splice(this.#staying.indexOf(log), 1);
      await this.run(`quit ${log}`);
    }
  }

  /** What a command that stays has printed; of the last that begins so. */
  logOf(start: string): string {
    const log = this.#staying.findLast((one) => this.read(`${one}.command`).startsWith(start));
    if (log === undefined) throw new Error(`nothing that stays begins with ${start}`);
    return this.read(log);
  }

  async close(): Promise<void> {
    this.#shell?.kill("SIGKILL");
    this.#holder.kill("SIGKILL");
    await Promise.all([this.#shell?.exited, this.#holder.exited]);
  }

  /** A node stays until Ctrl-C, whatever the page. */
  #withStays(script: string, name: string, stays: Readonly<Record<string, string>>): string {
    let count = 0;
    return script
      .split("\n")
      .map((line) => {
        const command = line.replace(/\s+#\s.*$/, "").trim();
        const ready = /^(?:\S*\/)?godwit run\b/.test(command)
          ? command.replace(/godwit run\b/, "godwit status")
          : Object.entries(stays).find(([start]) => command.startsWith(start))?.[1];
        if (ready === undefined) return line;
        const log = `${name}.stay-${++count}`;
        this.#staying.push(log);
        this.write(`${log}.command`, command);
        return `stay ${log} ${quoted(ready)} ${quoted(command)}`;
      })
      .join("\n");
  }

  /** False when a command failed, with which the shell ends: whoever looks for the reason gets another. */
  async #tell(line: string, timeoutMs: number, output: string): Promise<boolean> {
    this.#shell ??= this.#openShell();
    const shell = this.#shell;
    let late: string | undefined;
    const timer = setTimeout(() => {
      late = this.read(output);
      // The machine goes with all that hangs in it: to kill what led into it would end nothing inside.
      this.#holder.kill("SIGKILL");
    }, timeoutMs);
    const reader = shell.stdout.getReader();
    let said = "";
    try {
      void shell.stdin.write(`${line}\necho done\n`);
      void shell.stdin.flush();
      while (!said.endsWith("done\n")) {
        const { value, done } = await reader.read();
        if (done) break;
        said += new TextDecoder().decode(value);
      }
    } finally {
      clearTimeout(timer);
      reader.releaseLock();
    }
    if (late !== undefined)
      throw new Error(`${late}\nstill runs after ${timeoutMs / 1_000} s; is it one that stays?\n${line}`);
    if (said.endsWith("done\n")) return true;
    this.#shell = undefined;
    return false;
  }

  #openShell(): Bun.Subprocess<"pipe", "pipe", "ignore"> {
    const inside = ["--mount", "--pid", "--net", "--root", `--wd=${this.path(HOME)}`];
    const shell = Bun.spawn(
      ["nsenter", `--target=${this.#inside}`, ...inside, "bash", "--noprofile", "--norc"],
      { stdin: "pipe", stdout: "pipe", stderr: "ignore", env: ENV },
    );
    void shell.stdin.write(prelude);
    return shell;
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
