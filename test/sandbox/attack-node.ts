/**
 * A real node with a hostile plugin, and what came of it. Needs nothing but the binary and the package, so that it runs in a
 * guest of QEMU as well; test/sandbox/attack-run.ts is the command for that.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodePackage } from "../../runtime/plugin/package/package.ts";

export type Trust = "trusted" | "contained" | "untrusted";

export interface AttackOptions {
  readonly godwit: string;
  /** The bytes of the package. */
  readonly plugin: Uint8Array;
  readonly trust: Trust;
  readonly control?: boolean;
  /** More lines of each table; may name the node's folder and its port. */
  readonly extra?: string | ((dir: string, apiPort: number) => string);
  readonly env?: Readonly<Record<string, string>>;
}

/** What an ending attack may take until the node has noticed. */
const NOTICE_MS = 40_000;

interface LogLine {
  readonly event: string;
  readonly name?: string;
  readonly result?: string;
  readonly reason?: string;
  readonly pid?: number;
  readonly uid?: number;
  readonly text?: string;
}

export class AttackNode {
  readonly dir: string;
  readonly options: AttackOptions;
  readonly lines: LogLine[] = [];
  #child: Bun.Subprocess<"ignore", "ignore", "pipe"> | undefined;

  private constructor(dir: string, options: AttackOptions) {
    this.dir = dir;
    this.options = options;
  }

  /** `attacks` are started in the order of the lists, each list in an instance of its own. */
  static async start(
    options: AttackOptions,
    instances: Readonly<Record<string, readonly string[]>>,
  ): Promise<AttackNode> {
    const dir = await mkdtemp(join(process.env["GODWIT_ATTACK_DIR"] ?? tmpdir(), "godwit-attack-"));
    await chmod(dir, 0o755);
    const node = new AttackNode(dir, options);
    await node.#prepare(instances);
    await node.#run();
    return node;
  }

  get pid(): number {
    return this.#child!.pid;
  }

  get isAlive(): boolean {
    return this.#child!.exitCode === null && this.#child!.signalCode === null;
  }

  get stateDir(): string {
    return join(this.dir, "state");
  }

  find(test: (line: LogLine) => boolean): LogLine | undefined {
    return this.lines.find(test);
  }

  async until(what: string, test: (line: LogLine) => boolean, timeoutMs = NOTICE_MS): Promise<LogLine> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const found = this.find(test);
      if (found !== undefined) return found;
      if (performance.now() > endMs || !this.isAlive)
        throw new Error(
          `waited for ${what}${this.isAlive ? "" : `; the node ended with ${this.#child!.signalCode ?? this.#child!.exitCode}`}\n${this.lines
            .slice(-30)
            .map((line) => JSON.stringify(line))
            .join("\n")}`,
        );
      await Bun.sleep(10);
    }
  }

  async health(): Promise<{ readonly status: string; readonly text: string }> {
    const response = await fetch("http://godwit/health", {
      unix: join(this.stateDir, "godwit.sock"),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await response.text();
    return { status: (JSON.parse(text) as { status: string }).status, text };
  }

  async api(path: string, init: RequestInit = {}): Promise<string> {
    const response = await fetch(`http://godwit${path}`, {
      ...init,
      unix: join(this.stateDir, "godwit.sock"),
      signal: AbortSignal.timeout(20_000),
    });
    return await response.text();
  }

  async write(instances: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const tables = Object.entries(instances).map(
      ([name, attacks]) => `[services.${name}]
type = "attacks"
trust = "${this.options.trust}"
attacks = ${JSON.stringify(attacks)}
secret = ${JSON.stringify(join(this.dir, "secret"))}
open_folder = ${JSON.stringify(join(this.dir, "open"))}
state_dir = ${JSON.stringify(this.stateDir)}
api_port = ${this.#apiPort}
control = ${this.options.control === true}
${typeof this.options.extra === "function" ? this.options.extra(this.dir, this.#apiPort) : (this.options.extra ?? "")}`,
    );
    await writeFile(
      join(this.dir, "godwit.toml"),
      `[node]
callsign = "ATT-A"
state_dir = ${JSON.stringify(this.stateDir)}
log_format = "json"
log_level = "debug"

[transports.lan]
type = "tcp"
listen = []

[api]
listen = "127.0.0.1:${this.#apiPort}"

${tables.join("\n\n")}
`,
    );
  }

  async stop(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
    await rm(this.dir, { recursive: true, force: true });
  }

  /** Politely; resolves with its exit code. */
  async end(): Promise<number> {
    this.#child!.kill("SIGTERM");
    return await this.#child!.exited;
  }

  kill(): void {
    this.#child!.kill("SIGKILL");
  }

  #apiPort = 0;

  async #prepare(instances: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const { manifest, publisher } = decodePackage(this.options.plugin);
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    this.#apiPort = listener.port;
    listener.stop(true);
    const folder = join(this.stateDir, "plugins", manifest.id, manifest.version);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(this.stateDir, 0o700);
    await writeFile(join(folder, "package.gwp"), this.options.plugin, { mode: 0o600 });
    await writeFile(join(this.stateDir, "plugins", "publishers"), `${publisher}\n`);
    // By its mode anybody may: what keeps the plugin out is the sandbox alone.
    await writeFile(join(this.dir, "secret"), "the secret");
    await chmod(join(this.dir, "secret"), 0o666);
    await mkdir(join(this.dir, "open"));
    await chmod(join(this.dir, "open"), 0o777);
    for (const name of ["removable", "victim"]) {
      await writeFile(join(this.dir, "open", name), "untouched");
      await chmod(join(this.dir, "open", name), 0o666);
    }
    await this.write(instances);
  }

  async #run(): Promise<void> {
    const child = Bun.spawn([this.options.godwit, "run", "--config", join(this.dir, "godwit.toml")], {
      env: { PATH: process.env["PATH"] ?? "", SECRET_OF_THE_NODE: "1", ...this.options.env },
      cwd: this.dir,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    this.#child = child;
    void this.#read(child);
    await this.until("the node", ({ event }) => event === "node started", 20_000);
  }

  async #read(child: Bun.Subprocess<"ignore", "ignore", "pipe">): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of child.stderr) {
      const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = parts.pop()!;
      for (const part of parts) {
        if (this.lines.length > 20_000) continue;
        try {
          this.lines.push(JSON.parse(part) as LogLine);
        } catch {
          this.lines.push({ event: part });
        }
      }
    }
  }
}

/** What each of the attacks that say what came of them said. */
export async function tryAll(options: AttackOptions): Promise<ReadonlyMap<string, string>> {
  const node = await AttackNode.start(options, { hostile: ["all"] });
  try {
    await node.until("all attacks", ({ event }) => event === "attacks done");
    const results = new Map<string, string>();
    for (const { event, name, result } of node.lines)
      if (event === "attack" && name !== undefined && result !== undefined) results.set(name, result);
    return results;
  } finally {
    await node.stop();
  }
}
