/** A mesh, a clock and a socket that are only memory, for tests of the telex port. */
import type { Clock, IncomingMessage, Mesh, OutgoingMessage, SentMessage } from "@godwit/sdk";
import { GodwitError } from "@godwit/sdk";
import type { TelexConfig } from "./config.ts";
import { Connection, TURN_MS, type Wire } from "./connection.ts";
import type { Arrival } from "./session.ts";

export class FakeClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<{ atMs: number; fn: () => void }>();

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_800_000_000_000 + this.#nowMs;
  }

  after(delayMs: number, fn: () => void) {
    const timer = { atMs: this.#nowMs + delayMs, fn };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  get pending(): number {
    return this.#timers.size;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const timer of [...this.#timers].sort((x, y) => x.atMs - y.atMs)) {
      if (timer.atMs > this.#nowMs || !this.#timers.delete(timer)) continue;
      timer.fn();
    }
  }
}

/** Takes `room` bytes and then none, until there is room again. */
export class FakeWire implements Wire {
  room = Number.POSITIVE_INFINITY;
  written = "";
  bytes: number[] = [];
  isPaused = false;
  isGone = false;
  end_: "open" | "ended" | "terminated" = "open";

  write(bytes: Uint8Array): number {
    if (this.isGone) return -1;
    const taken = Math.min(bytes.length, this.room);
    this.room -= taken;
    this.written += new TextDecoder().decode(bytes.subarray(0, taken));
    this.bytes.push(...bytes.subarray(0, Math.min(taken, 4_096)));
    return taken;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.end_ = "ended";
  }

  terminate(): void {
    this.end_ = "terminated";
  }

  /** What was written since the last call. */
  take(): string {
    const { written } = this;
    this.written = "";
    return written;
  }
}

export class FakeMesh implements Mesh {
  readonly self = {
    id: "a".repeat(52),
    callsign: "DUN-A",
    location: "DUN",
    network: "test",
    version: "0.0.0",
  };
  readonly outgoing: OutgoingMessage[] = [];
  readonly messages = new Map<string, IncomingMessage>();
  readonly bodies = new Map<string, Uint8Array>();
  readonly states = new Map<string, SentMessage>();
  /** The next send fails so. */
  failure: GodwitError | undefined;
  readonly #keys = new Map<string, string>();

  stations() {
    const via = { id: "b".repeat(52), callsign: "LON-B" };
    return [
      { ...via, isReachable: true, costMs: 0.5, via },
      { id: "c".repeat(52), callsign: "NYC-C", isReachable: true, costMs: 1.25, via },
      { id: "d".repeat(52), callsign: undefined, isReachable: false, costMs: undefined, via: undefined },
    ];
  }

  async send(message: OutgoingMessage) {
    if (this.failure !== undefined) throw this.failure;
    const known = message.idempotencyKey === undefined ? undefined : this.#keys.get(message.idempotencyKey);
    if (known !== undefined) return { id: known };
    this.outgoing.push(message);
    const id = this.outgoing.length.toString(16).padStart(32, "0");
    if (message.idempotencyKey !== undefined) this.#keys.set(message.idempotencyKey, id);
    return { id };
  }

  async sent(id: string) {
    return this.states.get(id);
  }

  onMessage(): void {}
  openStream(): Promise<never> {
    return Promise.reject(new Error("telex opens no streams"));
  }
  onStream(): void {}
  onSent(): void {}

  readonly inbox = {
    count: 0,
    list: async ({ order, limit, after }: { order: string; limit: number; after?: string }) => {
      const all = [...this.messages.values()];
      if (order === "newest-first") all.reverse();
      const start = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
      return all.slice(start, start + limit);
    },
    get: async (id: string) => this.messages.get(id),
    body: async (id: string) => this.bodies.get(id) ?? unknown(id),
    remove: async (id: string) => {
      if (!this.messages.delete(id)) unknown(id);
      this.inbox.count = this.messages.size;
    },
  };

  receive(body: string | Uint8Array, more: Partial<IncomingMessage> = {}): Arrival {
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
    const message: IncomingMessage = {
      id: (this.messages.size + 0xf000).toString(16).padStart(32, "0"),
      from: "c".repeat(52),
      fromCallsign: "NYC-C",
      to: "DUN-A",
      subject: "",
      contentType: "text/plain",
      priority: 2,
      size: bytes.length,
      createdAtMs: 1_800_000_000_000,
      deliveredAtMs: 1_800_000_001_000,
      trace: [{ id: "c".repeat(52), callsign: "NYC-C", atMs: 1_800_000_000_000 }],
      hopsUntraced: 0,
      ...more,
    };
    this.messages.set(message.id, message);
    this.bodies.set(message.id, bytes);
    this.inbox.count = this.messages.size;
    return { message, text: typeof body === "string" ? body : undefined };
  }
}

function unknown(id: string): never {
  throw new GodwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id}`, { kind: "protocol" });
}

export const testConfig: TelexConfig = {
  listen: { host: "127.0.0.1", port: 0 },
  max_connections: 4,
  message_max: 1_024,
  idle_timeout: 600_000,
  greeting_delay: 1_000,
};

export function openLine(config: Partial<TelexConfig> = {}) {
  const clock = new FakeClock();
  const wire = new FakeWire();
  const mesh = new FakeMesh();
  const seen = { closed: 0, wrong: 0, accepted: 0, refused: 0 };
  const connection = new Connection({
    wire,
    clock,
    config: { ...testConfig, ...config },
    sessions: { mesh, clock, messageMax: config.message_max ?? 1_024, count: (result) => seen[result]++ },
    onClosed: () => seen.closed++,
    onSpoken() {},
    onWrongPassword: () => seen.wrong++,
  });
  return {
    clock,
    wire,
    mesh,
    seen,
    connection,
    /** Says it and answers what was written back, once all of it is handled. */
    async say(text: string | Uint8Array): Promise<string> {
      connection.onData(typeof text === "string" ? new TextEncoder().encode(text) : text);
      await handled(connection, clock);
      return wire.take();
    },
  };
}

/** Everything that was said is handled, turns of others included. */
export async function handled(connection: Connection, clock: FakeClock): Promise<void> {
  await settled();
  while (connection.isYielding) {
    clock.advance(TURN_MS);
    await settled();
  }
}

/** Everything that needs no clock has happened. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
export const telegram = (n: number, body = "HELLO") =>
  `${JSON.stringify({ message_id: uuid(n), routing: { destination: "NYCC" }, content: { body } })}\n`;
