/**
 * HTTP over many keep-alive connections to one unix socket, requests written by hand: a comfortable client would cost
 * more than the node that it measures. Run as a program it offers a fixed rate (see `offer`) and prints latencies.
 */
export interface Answered {
  /** Head and body. */
  readonly text: string;
  /** When it was asked for, and when a connection was free for it. */
  readonly askedMs: number;
  readonly sentMs: number;
  readonly answeredMs: number;
}

/** Each call takes an idle connection or waits for one. */
export class HttpClient {
  readonly #idle: Connection[] = [];
  readonly #all: Connection[] = [];
  readonly #waiting: ((connection: Connection) => void)[] = [];

  static async open(path: string, count: number): Promise<HttpClient> {
    const client = new HttpClient();
    for (let i = 0; i < count; i++) {
      const connection = await Connection.open(path);
      client.#all.push(connection);
      client.#idle.push(connection);
    }
    return client;
  }

  /** Sends a whole request. */
  async ask(request: Buffer): Promise<Answered> {
    const askedMs = performance.now();
    const connection =
      this.#idle.pop() ?? (await new Promise<Connection>((resolve) => this.#waiting.push(resolve)));
    try {
      const sentMs = performance.now();
      const text = await connection.ask(request);
      return { text, askedMs, sentMs, answeredMs: performance.now() };
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push(connection);
      else next(connection);
    }
  }

  close(): void {
    for (const connection of this.#all) connection.close();
  }
}

class Connection {
  #socket!: Awaited<ReturnType<typeof Bun.connect>>;
  #answer: ((text: string) => void) | undefined;

  static async open(path: string): Promise<Connection> {
    const connection = new Connection();
    connection.#socket = await Bun.connect({
      unix: path,
      socket: {
        // Answers of some hundred bytes come in one piece over a unix socket.
        data: (_socket, bytes) => connection.#answer?.(bytes.toString("latin1")),
        close: () => connection.#answer?.("closed"),
      },
    });
    return connection;
  }

  ask(request: Buffer): Promise<string> {
    return new Promise((resolve) => {
      this.#answer = (text) => {
        this.#answer = undefined;
        resolve(text);
      };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#socket.end();
  }
}

const CONNECTIONS = 64;
const TURN_MS = 1;

/** What the program prints. */
export interface Offered {
  /** From when the request was due, not from when it could be sent: a stall counts for all that it held up. */
  readonly latenciesMs: readonly number[];
  readonly failures: number;
  readonly seconds: number;
}

/** Asks for `path` at a fixed rate whatever the answers do. */
async function offer(socketPath: string, path: string, perSecond: number, seconds: number): Promise<Offered> {
  const client = await HttpClient.open(socketPath, CONNECTIONS);
  const request = Buffer.from(`GET ${path} HTTP/1.1\r\nhost: godwit\r\n\r\n`);
  const total = perSecond * seconds;
  const latenciesMs: number[] = [];
  const asked: Promise<void>[] = [];
  let failures = 0;
  const startMs = performance.now();
  const ask = async (dueMs: number) => {
    const { text, answeredMs } = await client.ask(request);
    if (!text.startsWith("HTTP/1.1 200")) failures++;
    latenciesMs.push(answeredMs - dueMs);
  };
  while (asked.length < total) {
    const due = Math.min(total, ((performance.now() - startMs) / 1_000) * perSecond);
    while (asked.length < due) asked.push(ask(startMs + (asked.length / perSecond) * 1_000));
    await Bun.sleep(TURN_MS);
  }
  await Promise.all(asked);
  client.close();
  return { latenciesMs, failures, seconds: (performance.now() - startMs) / 1_000 };
}

if (import.meta.main) {
  const [socketPath, path, perSecond, seconds] = process.argv.slice(2) as [string, string, string, string];
  console.log(JSON.stringify(await offer(socketPath, path, Number(perSecond), Number(seconds))));
  process.exit(0);
}
