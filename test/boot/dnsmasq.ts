/** dnsmasq as a DHCP server in a network namespace, and programs whose lines are waited for. */
import { whyNoNetLab } from "../../scripts/netlab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";

export const HEAR_MS = 60_000;
/** The shortest that dnsmasq gives. */
export const LEASE_MS = 120_000;

/** Why there can be none here; undefined where there can, and in CI, where there must. */
export const whyNoDnsmasq = (): string | undefined =>
  process.env["CI"] === "true"
    ? undefined
    : (whyNoNetLab() ?? (Bun.which("dnsmasq") === null ? "dnsmasq is not installed" : undefined));

export interface DhcpServer {
  readonly host: NetHost;
  readonly device: string;
  /** File of its leases. */
  readonly leases: string;
  /** `first,last,mask`. */
  readonly range: string;
  readonly more?: readonly string[];
}

/** Resolves when it serves. It refuses addresses that are not of its range. */
export async function serveDhcp({ host, device, leases, range, more = [] }: DhcpServer): Promise<Talker> {
  const server = new Talker([
    ...[...host.prefix, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"],
    ...["--port=0", "--log-facility=-", "--no-ping", "--dhcp-authoritative", "--pid-file="],
    ...[`--dhcp-leasefile=${leases}`, `--interface=${device}`, "--bind-interfaces"],
    ...[`--dhcp-range=${range},${LEASE_MS / 1_000}`, ...more],
  ]);
  await server.hear(/DHCP, IP range/);
  return server;
}

/** A program whose lines are waited for; ended with the test. */
export class Talker implements AsyncDisposable {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  text = "";
  #at = 0;

  constructor(words: readonly string[]) {
    this.#process = Bun.spawn([...words], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    void this.#collect(this.#process.stdout);
    void this.#collect(this.#process.stderr);
  }

  async hear(pattern: RegExp): Promise<RegExpExecArray> {
    for (const untilMs = performance.now() + HEAR_MS; ;) {
      const match = pattern.exec(this.text.slice(this.#at));
      if (match !== null) {
        this.#at += match.index + match[0].length;
        return match;
      }
      if (performance.now() > untilMs || this.#process.exitCode !== null)
        throw new Error(`${pattern} was not said (exit ${this.#process.exitCode}):\n${this.text}`);
      await Bun.sleep(10);
    }
  }

  /** Types a line; resolves with what was said until it was done. What `hear` looks at stays as it is. */
  async tell(line: string): Promise<string> {
    const from = this.text.length;
    void this.#process.stdin.write(`${line}\n`);
    void this.#process.stdin.flush();
    for (const untilMs = performance.now() + HEAR_MS; !this.text.includes(`did ${line}\n`, from);) {
      if (performance.now() > untilMs || this.#process.exitCode !== null)
        throw new Error(`"${line}" was not done (exit ${this.#process.exitCode}):\n${this.text}`);
      await Bun.sleep(10);
    }
    return this.text.slice(from);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.text += decoder.decode(chunk, { stream: true });
  }
}
