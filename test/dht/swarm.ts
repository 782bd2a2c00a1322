/**
 * Nodes of a DHT on addresses of loopback, each one its own, in this process but over the kernel's UDP; and libtorrent's, in processes of their
 * own. Owns them all, and gives them back.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { type Clock, itemMessage, itemSalt, type Log } from "@godwit/sdk";
import { generateIdentity, type Identity } from "../../runtime/identity/keys.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { DhtClient, type ClientDeps, type SignedItem } from "../../plugins/discovery-dht/client.ts";
import { PLUGIN } from "../../plugins/discovery-dht/keys.ts";
import { freePort } from "../../scripts/lab.ts";

export interface Place {
  readonly host: string;
  readonly port: number;
}

export const textOf = ({ host, port }: Place): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

let addresses = 0;
/** One that no other node of this process has: 127.x.y.z. */
export function freshAddress(): string {
  const n = ++addresses;
  return `127.${100 + (process.pid % 100)}.${n >> 8}.${n & 255}`;
}

export interface SwarmNode extends Place {
  readonly id: Uint8Array;
  readonly client: DhtClient;
  /** Datagrams by what they were. */
  readonly counts: Map<string, number>;
  /** Bytes of UDP payload, and 28 of headers for each datagram. */
  bytes: number;
}

export class Swarm implements AsyncDisposable {
  readonly nodes: SwarmNode[] = [];
  readonly #peers: LibtorrentPeer[] = [];
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(clock: Clock = systemClock, log: Log = silentLog) {
    this.#clock = clock;
    this.#log = log;
  }

  /** One more, which is told of the first, or of `first`. */
  async add(
    options: Partial<ClientDeps & Place> & { readonly first?: Place | null } = {},
  ): Promise<SwarmNode> {
    const { host = freshAddress(), port = 0, first = this.nodes[0], ...deps } = options;
    const { id = systemRandom.bytes(20) } = options;
    const counts = new Map<string, number>();
    const node = { id, host, port, counts, bytes: 0 } as unknown as SwarmNode & {
      client: DhtClient;
      port: number;
    };
    const client = new DhtClient({
      clock: this.#clock,
      random: systemRandom,
      log: this.#log,
      id,
      refusal: () => undefined,
      isOnLink: () => false,
      judge: () => undefined,
      onConnected: () => void client.populate(),
      counted: (outcome) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1),
      carried: (_direction, count) => void (node.bytes += count + 28),
      ...deps,
    });
    const failed = await client.listen([{ host, port, isIpv6Only: true }]);
    if (failed !== "") throw new Error(failed);
    client.open();
    Object.assign(node, { client, port: client.ports[0]!.port });
    this.nodes.push(node);
    if (first) client.meet(first.host, first.port);
    return node;
  }

  async grow(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await this.add();
    await until("every node knows others", () =>
      this.nodes.every(({ client }) => client.nodeCount >= Math.min(6, this.nodes.length - 1)),
    );
  }

  async remove(node: SwarmNode): Promise<void> {
    this.nodes.splice(this.nodes.indexOf(node), 1);
    await node.client.close();
  }

  /** A libtorrent in a process of its own, told of the first. */
  async libtorrent(): Promise<LibtorrentPeer> {
    const peer = await LibtorrentPeer.start(freshAddress(), this.nodes.slice(0, 3));
    this.#peers.push(peer);
    return peer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.stop()));
    await Promise.all(this.nodes.splice(0).map(({ client }) => client.close()));
  }
}

const PYTHON = "/usr/bin/python3";

/** Undefined: it is there. */
export function whyNoLibtorrent(): string | undefined {
  if (!existsSync(PYTHON)) return `${PYTHON} is not installed`;
  const { exitCode } = Bun.spawnSync([PYTHON, "-c", "import libtorrent"], { stderr: "ignore" });
  return exitCode === 0 ? undefined : "libtorrent is not installed (python3-libtorrent)";
}

export class LibtorrentPeer implements Place {
  readonly host: string;
  readonly port: number;
  readonly #process: Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    place: Place,
    child: Subprocess<"pipe", "pipe", "inherit">,
    lines: AsyncIterator<string>,
  ) {
    this.host = place.host;
    this.port = place.port;
    this.#process = child;
    this.#lines = lines;
  }

  static async start(host: string, bootstrap: readonly Place[]): Promise<LibtorrentPeer> {
    const port = freePort();
    const child = Bun.spawn(
      [PYTHON, join(import.meta.dir, "libtorrent-peer.py"), host, String(port), ...bootstrap.map(textOf)],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    const lines = linesOf(child.stdout);
    if ((await lines.next()).done === true) throw new Error(`libtorrent ended with ${await child.exited}`);
    return new LibtorrentPeer({ host, port }, child, lines);
  }

  async ask(question: Readonly<Record<string, string>>): Promise<unknown> {
    void this.#process.stdin.write(`${JSON.stringify(question)}\n`);
    await this.#process.stdin.flush();
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("libtorrent ended");
    const answer = JSON.parse(value) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of stream) {
    text += Buffer.from(chunk).toString();
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n")) {
      yield text.slice(0, at);
      text = text.slice(at + 1);
    }
  }
}

export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`waited for: ${what}`);
    await Bun.sleep(10);
  }
}

export const newIdentity = (): Identity => generateIdentity(systemRandom);

/** An item of that node under this plugin's salt. */
export function signItem(identity: Identity, label: Uint8Array, seq: number, value: Uint8Array): SignedItem {
  const salt = itemSalt(PLUGIN, label);
  const signature = identity.sign(itemMessage(salt, seq, value));
  return { key: identity.publicKey, salt, seq, value, signature };
}

/** As libtorrent wants a private key: SHA-512 of the seed, clamped (RFC 8032 section 5.1.5). */
export function expandedKey({ seed }: Identity): Buffer {
  const expanded = createHash("sha512").update(seed).digest();
  expanded[0]! &= 248;
  expanded[31]! &= 63;
  expanded[31]! |= 64;
  return expanded;
}

export const percentile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))]!;
