/**
 * A real Avahi in a network namespace: with a bus of its own, and a /run of its own, because its lock and its socket have fixed places. Owns
 * both processes and their folder.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { NetHost } from "../../scripts/netlab-parts.ts";

const READY_MS = 15_000;
const LOG_CHARS_MAX = 200_000;

/** Why there is none here; undefined where there is. */
export function whyNoAvahi(): string | undefined {
  for (const program of ["avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon", "unshare"])
    if (Bun.which(program) === null)
      return `${program} is not installed (avahi-daemon, avahi-utils, dbus, util-linux)`;
  return undefined;
}

/** Anybody may say anything: it is a bus of one test. */
const busConfig = (
  socket: string,
): string => `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`;

export class Avahi {
  readonly #host: NetHost;
  readonly #folder: string;
  readonly #children: Subprocess[] = [];
  readonly #env: Record<string, string>;
  #daemon: Subprocess | undefined;
  #log = "";

  private constructor(host: NetHost) {
    this.#host = host;
    this.#folder = mkdtempSync(join(tmpdir(), "godwit-avahi-"));
    this.#env = {
      PATH: process.env["PATH"] ?? "",
      DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${join(this.#folder, "bus")}`,
    };
  }

  static async start(host: NetHost): Promise<Avahi> {
    const avahi = new Avahi(host);
    try {
      await avahi.#start();
    } catch (error) {
      await avahi.close();
      throw error;
    }
    return avahi;
  }

  async #start(): Promise<void> {
    const [bus, busFile, daemonFile] = ["bus", "bus.conf", "avahi.conf"].map((name) =>
      join(this.#folder, name),
    ) as [string, string, string];
    writeFileSync(busFile, busConfig(bus));
    writeFileSync(
      daemonFile,
      [
        "[server]",
        `host-name=${this.#host.name.toLowerCase()}-avahi`,
        "use-ipv4=yes",
        "use-ipv6=yes",
        "[publish]",
        "publish-workstation=no",
      ].join("\n"),
    );
    this.#spawn("dbus-daemon", `--config-file=${busFile}`, "--nofork", "--nopidfile");
    await until("its bus", () => existsSync(bus));
    // The words behind it: $0 and $1 of the shell.
    const inside =
      "mount -t tmpfs none /run && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f $0";
    this.#daemon = this.#spawn("unshare", "--mount", "sh", "-c", inside, daemonFile);
    await until("Avahi", () => this.#run("avahi-browse", "-a", "-t", "-p") !== undefined);
  }

  /** What it hears of a service type, resolved: one line a finding, as `avahi-browse -p` prints it. */
  browse(type: string): string[] {
    return (this.#run("avahi-browse", "-r", "-p", "-t", "-k", type) ?? "").split("\n").filter(Boolean);
  }

  /** What types it hears of. */
  types(): string[] {
    return (this.#run("avahi-browse", "-a", "-p", "-t", "-k") ?? "").split("\n").filter(Boolean);
  }

  /** Publishes a service until the end. */
  publish(name: string, type: string, port: number, ...text: readonly string[]): Subprocess {
    return this.#spawn("avahi-publish", "-s", name, type, String(port), ...text);
  }

  async close(): Promise<void> {
    for (const child of this.#children.toReversed()) {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await child.exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Waits until its cache holds all of these records, as it writes them on SIGUSR1. */
  async untilHeld(records: readonly string[]): Promise<void> {
    let asked = 0;
    await until(`Avahi to hold ${records.join(", ")}`, () => {
      if (records.every((record) => this.#log.includes(record))) return true;
      if (asked++ % 10 === 0) {
        this.#log = "";
        this.#daemon?.kill("SIGUSR1");
      }
      return false;
    });
  }

  async #read(output: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of output)
      this.#log = (this.#log + Buffer.from(chunk).toString()).slice(-LOG_CHARS_MAX);
  }

  #spawn(...words: readonly string[]): Subprocess<"ignore", "pipe", "pipe"> {
    const child = Bun.spawn([...this.#host.prefix, ...words], {
      env: this.#env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    for (const output of [child.stdout, child.stderr]) void this.#read(output);
    this.#children.push(child);
    return child;
  }

  /** Undefined: it failed. */
  #run(...words: readonly string[]): string | undefined {
    const { exitCode, stdout } = Bun.spawnSync([...this.#host.prefix, ...words], {
      env: this.#env,
      stdout: "pipe",
      stderr: "ignore",
      timeout: 10_000,
    });
    return exitCode === 0 ? stdout.toString() : undefined;
  }
}

async function until(what: string, check: () => boolean): Promise<void> {
  const endMs = performance.now() + READY_MS;
  while (!check()) {
    if (performance.now() > endMs) throw new Error(`waited for ${what}`);
    await Bun.sleep(20);
  }
}
