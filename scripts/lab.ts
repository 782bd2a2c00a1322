/**
 * Real nodes on this machine: processes of the compiled binary, each with a folder, ports that the kernel chose and the
 * unix socket as its control. The demo, the chaos suite and the benchmarks share it. Leaves no process and no file.
 */
import { rmSync } from "node:fs";
import { mkdtemp, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";

export const binaryPath = join(import.meta.dir, "..", "dist", "godwit");

let ofThisProcess = binaryPath;

/** The binary of nodes whose options name none, for those that are started from now on: a release before is measured in turns with this one. */
export function useBinary(path: string): void {
  ofThisProcess = path;
}

/** A call without an answer for this long fails, so that nobody waits for a node that hangs. */
const API_TIMEOUT_MS = 30_000;

/** Below the range from which the kernel takes ports for outgoing connections, which would steal one while its node is down. */
const PORTS = { from: 12_000, to: 32_000 } as const;

const ERROR_LINES_MAX = 1_000;

/**
 * A TCP port of loopback that is free now, and given to nobody else until this process ends, whichever process asks: what
 * has it may be down just now. The claim is an abstract unix socket, which goes with its process.
 */
export function freePort(): number {
  for (let tries = 0; ; tries++) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    try {
      const claim = Bun.listen({ unix: `\0godwit-port-${port}`, socket: { data() {} } });
      claim.unref();
      Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } }).stop(true);
      return port;
    } catch (error) {
      if (tries > 100) throw error;
    }
  }
}

export interface LabNodeOptions {
  readonly callsign: string;
  /** Name of its folder, where two nodes have one callsign. */
  readonly folder?: string;
  readonly peers?: readonly string[];
  /** More lines of TOML, behind what the lab writes. */
  readonly extra?: string;
  readonly network?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** More lines of the `[node]` table. */
  readonly nodeExtra?: string;
  /** What others are told to dial; with [] only those come who were told otherwise, through a proxy for instance. */
  readonly advertise?: readonly string[];
  /** Instead of the compiled binary: the words before `run`. */
  readonly command?: readonly string[];
  /** Links that the node seeks of its own accord; 0, so that the topology is what the test says. Null: no such line. */
  readonly linksWanted?: number | null;
  /** Instead of a folder of the lab; the caller removes it. */
  readonly stateDir?: string;
  /** The network namespace it runs in (scripts/netlab.ts); its API is still there over the unix socket. */
  readonly namespace?: string;
  /** Where its TCP transport listens, instead of a port of loopback. */
  readonly listen?: readonly string[];
  /** Where its API listens beside the port that the lab talks to. */
  readonly apiListen?: readonly string[];
}

export class Lab {
  readonly dir: string;
  readonly nodes: LabNode[] = [];
  #isClosed = false;
  readonly #onExit = () => this.#abandon();

  private constructor(dir: string) {
    this.dir = dir;
    process.once("exit", this.#onExit);
  }

  static async create(): Promise<Lab> {
    return new Lab(await mkdtemp(join(tmpdir(), "godwit-lab-")));
  }

  /** Writes the node's configuration; it is not started yet. */
  async add(options: LabNodeOptions): Promise<LabNode> {
    const node = new LabNode(
      join(this.dir, options.folder ?? options.callsign.toLowerCase()),
      options,
      () => this.#isClosed,
    );
    await node.configure();
    this.nodes.push(node);
    return node;
  }

  /** Kills what still runs and removes the folder. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    process.off("exit", this.#onExit);
    await Promise.all(this.nodes.map((node) => node.kill("SIGKILL")));
    await rm(this.dir, { recursive: true, force: true });
  }

  /** The caller exits without having closed the lab. */
  #abandon(): void {
    for (const node of this.nodes) node.signal("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export class LabNode {
  readonly callsign: string;
  readonly dir: string;
  readonly linkPort = freePort();
  readonly apiPort = freePort();
  readonly #isClosed: () => boolean;
  #options: LabNodeOptions;
  #peers: readonly string[];
  #process: Subprocess<"ignore", "ignore", "pipe"> | undefined;
  #log: string[] = [];
  readonly #errors: string[] = [];

  constructor(dir: string, options: LabNodeOptions, isClosed: () => boolean) {
    this.dir = dir;
    this.#isClosed = isClosed;
    this.callsign = options.callsign;
    this.#options = options;
    this.#peers = options.peers ?? [];
  }

  get endpoint(): string {
    return `tcp://127.0.0.1:${this.linkPort}`;
  }

  get apiUrl(): string {
    return `http://127.0.0.1:${this.apiPort}`;
  }

  get socketPath(): string {
    return join(this.stateDir, "godwit.sock");
  }

  get stateDir(): string {
    return this.#options.stateDir ?? join(this.dir, "state");
  }

  get configPath(): string {
    return join(this.dir, "godwit.toml");
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  get isRunning(): boolean {
    return (
      this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
    );
  }

  /** What it logged of level error, over all its lives; the first thousand lines. */
  get errorLines(): readonly string[] {
    return this.#errors;
  }

  /** The last lines that the node logged. */
  get logTail(): string {
    return this.#log.slice(-40).join("\n");
  }

  /** The last 1,000 to 2,000 lines that it logged, over all its lives. */
  get logLines(): readonly string[] {
    return this.#log;
  }

  async configure(peers: readonly string[] = this.#peers): Promise<void> {
    this.#peers = peers;
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    await writeFile(
      this.configPath,
      `[node]
callsign = "${this.callsign}"
network = "${this.#options.network ?? "lab"}"
state_dir = "${this.stateDir}"
log_format = "json"
${this.#options.nodeExtra ?? ""}

[transports.lan]
type = "tcp"
listen = ${JSON.stringify(this.#options.listen ?? [`127.0.0.1:${this.linkPort}`])}
${this.#options.advertise === undefined ? "" : `advertise = ${JSON.stringify(this.#options.advertise)}`}

[discovery.neighbours]
type = "static"
peers = ${JSON.stringify(peers)}

[api]
listen = ${JSON.stringify([`127.0.0.1:${this.apiPort}`, ...(this.#options.apiListen ?? [])])}

${this.#options.linksWanted === null ? "" : `[peers]\nlinks_wanted = ${this.#options.linksWanted ?? 0}`}

${this.#options.extra ?? ""}
`,
    );
  }

  /** Starts the binary; resolves when its API answers. */
  async start(timeoutMs = 15_000): Promise<void> {
    if (this.isRunning) return;
    if (this.#isClosed()) throw new Error(`${this.callsign} is not started: the lab is closed`);
    const { namespace, command = [ofThisProcess] } = this.#options;
    // `ip` becomes the node, which therefore has the pid that is killed.
    const inside = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
    const child = Bun.spawn([...inside, ...command, "run", "--config", this.configPath], {
      // A clean environment: nothing of the caller's may configure the node.
      env: { PATH: process.env["PATH"] ?? "", NO_COLOR: "1", ...this.#options.env },
      cwd: this.dir,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    this.#process = child;
    void this.#readLog(child);
    await this.until("its API to answer", async () => (await this.api("/health")).status !== 0, timeoutMs, 5);
  }

  /** Sends a signal and waits for the end. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    if (this.isRunning) child.kill(signal);
    await child.exited;
    this.#process = undefined;
  }

  /** Resolves when the process has ended by itself: with its exit code, or the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    await this.#process?.exited;
    return this.#process?.signalCode ?? this.#process?.exitCode ?? null;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#process!.kill(signal);
  }

  /** The disk dies while the node is off; its identity lies elsewhere and survives. */
  async destroyStore(): Promise<void> {
    for (const name of await readdir(this.stateDir))
      if (name.startsWith("godwit.db")) await rm(join(this.stateDir, name), { recursive: true });
  }

  /** Everything goes, the identity too: the node comes back as a stranger. */
  async destroyState(): Promise<void> {
    for (const name of await readdir(this.stateDir)) await rm(join(this.stateDir, name), { recursive: true });
  }

  /** Changes options from the next start on. */
  async reconfigure(
    change: Pick<LabNodeOptions, "extra" | "nodeExtra" | "env" | "command" | "linksWanted">,
  ): Promise<void> {
    this.#options = { ...this.#options, ...change };
    await this.configure();
  }

  /** A call of the API over the unix socket. */
  api(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://godwit${path}`, {
      signal: AbortSignal.timeout(API_TIMEOUT_MS),
      ...init,
      unix: this.socketPath,
    });
  }

  /** The JSON of a call that must succeed. */
  async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    const response = await this.api(path, init);
    if (!response.ok)
      throw new Error(`${this.callsign} ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** Accepts a message; answers its id. */
  async send(message: Readonly<Record<string, unknown>>): Promise<string> {
    const { id } = await this.json<{ id: string }>("/messages", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(message),
    });
    return id;
  }

  /** Accepts a message whose body is bytes, at most 16 MiB; `fields` are those of POST /messages. Answers its id. */
  async sendBytes(
    body: Uint8Array,
    fields: Readonly<Record<string, string | number | boolean>>,
    signal?: AbortSignal,
  ): Promise<string> {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(fields)) query.set(key, String(value));
    const { id } = await this.json<{ id: string }>(`/messages?${query.toString()}`, {
      method: "POST",
      headers: { "content-type": "application/octet-stream" },
      body: body as Uint8Array<ArrayBuffer>,
      ...(signal === undefined ? {} : { signal }),
    });
    return id;
  }

  /** Every message of a box, newest first. */
  async box<T>(box: "inbox" | "outbox" | "transit"): Promise<T[]> {
    const all: T[] = [];
    let after: string | null = null;
    do {
      const page: { messages: T[]; next: string | null } = await this.json(
        `/messages?box=${box}&limit=500${after === null ? "" : `&after=${after}`}`,
      );
      all.push(...page.messages);
      after = page.next;
    } while (after !== null);
    return all;
  }

  /** Polls until `check` answers true; its errors count as not yet. Says what was waited for and shows the log. */
  async until(what: string, check: () => Promise<boolean>, timeoutMs: number, everyMs = 20): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    let last: unknown;
    while (performance.now() < endMs) {
      try {
        if (await check()) return;
      } catch (error) {
        last = error;
      }
      if (this.#process !== undefined && !this.isRunning) break;
      await Bun.sleep(everyMs);
    }
    const ended = this.isRunning
      ? ""
      : ` (it ended with ${this.#process?.exitCode ?? this.#process?.signalCode ?? "nothing"})`;
    const why = last instanceof Error ? `: ${last.message}` : "";
    throw new Error(`${this.callsign} was waited for: ${what}${ended}${why}\n${this.logTail}`);
  }

  async #readLog(child: Subprocess<"ignore", "ignore", "pipe">): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of child.stderr) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      this.#log.push(...lines);
      const errors = lines.filter((line) => line.includes('"level":"error"'));
      this.#errors.push(...errors.slice(0, ERROR_LINES_MAX - this.#errors.length));
      if (this.#log.length > 2_000) this.#log = this.#log.slice(-1_000);
    }
    if (rest !== "") this.#log.push(rest);
  }
}
