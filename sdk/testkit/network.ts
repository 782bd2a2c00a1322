/**
 * A mesh that is only memory: stations that a test sets, an inbox that hands every message at least once, a record of
 * what was sent. Rejects like the real one, and can be told to.
 */
import {
  type ErrorKind,
  GodwitError,
  type IncomingMeshStream,
  type IncomingMessage,
  type Mesh,
  type MeshInbox,
  type MeshStation,
  type MeshStream,
  type OutgoingMessage,
  type SentMessage,
  type StreamOptions,
} from "../src/index.ts";
import type { ManualClock } from "./clock.ts";
import { FakeStreams } from "./engine-streams.ts";
import type { FakeStream } from "./streams.ts";

/** A handler that rejected is asked again after so long, doubled each time up to the cap. */
const RETRY_FIRST_MS = 1_000;
const RETRY_CAP_MS = 300_000;
const BODY_BYTES_MAX = 16 * 1024 * 1024;
const SUBJECT_BYTES_MAX = 1_024;
const ADDRESS = /^(?:[a-z2-7]{52}|[a-z0-9]{1,16}(?:-[a-z0-9]{1,16})?)$/i;

interface Feed {
  readonly handler: (message: IncomingMessage) => void | Promise<void>;
  readonly waiting: Set<string>;
  readonly attempts: Map<string, number>;
  readonly timers: Set<{ cancel(): void }>;
  isBusy: boolean;
}

const fail = (code: string, message: string, kind: ErrorKind = "protocol") =>
  new GodwitError(code, message, { kind });

export class FakeMesh implements Mesh {
  readonly self = {
    id: "a".repeat(52),
    callsign: "DUN-A",
    location: "DUN",
    network: "test",
    version: "0.0.0",
  };
  readonly inbox: MeshInbox;
  /** What was accepted by `send`, in order, each with its id. */
  readonly outgoing: (OutgoingMessage & { readonly id: string })[] = [];
  /** Ids in the order in which their handlers were called, and how often each was refused. */
  readonly offered: string[] = [];
  readonly refused = new Map<string, number>();
  /** Names of methods that were called after the plugin had stopped. */
  readonly callsAfterStop: string[] = [];
  /** The next `send` or `body` rejects so, once. */
  failure: GodwitError | undefined;
  /** While set, bodies are read only when it resolves. */
  gate: Promise<void> | undefined;
  #stations: readonly MeshStation[] = [];
  readonly #clock: ManualClock;
  readonly #messages = new Map<string, { readonly message: IncomingMessage; readonly body: Uint8Array }>();
  readonly #states = new Map<string, SentMessage>();
  readonly #keys = new Map<string, { readonly id: string; readonly content: string }>();
  readonly #feeds: Feed[] = [];
  #onSent: ((message: SentMessage) => void)[] = [];
  readonly #streams = new FakeStreams(this.self.id, Number.POSITIVE_INFINITY);
  #made = 0;
  #isStopped = false;

  constructor(clock: ManualClock) {
    this.#clock = clock;
    this.inbox = this.#openInbox();
  }

  get openHandlers(): number {
    return this.#feeds.length + this.#onSent.length + this.#streams.openCount;
  }

  /** Streams that the plugin opened. */
  get openedStreams(): readonly FakeStream[] {
    return this.#streams.openedStreams;
  }

  /** Who answers them: by default nobody takes one. */
  get answerStream(): (far: FakeStream) => void {
    return this.#streams.answerStream;
  }
  set answerStream(answer: (far: FakeStream) => void) {
    this.#streams.answerStream = answer;
  }

  setStations(stations: readonly MeshStation[]): void {
    this.#stations = stations;
  }

  stations(): readonly MeshStation[] {
    this.#check("stations");
    return this.#stations;
  }

  async send(message: OutgoingMessage): Promise<{ readonly id: string }> {
    this.#check("send");
    const { to, body, subject = "", idempotencyKey } = message;
    if (!ADDRESS.test(to)) throw fail("GODWIT_ADDRESS_INVALID", `"${to}" is no address`);
    if (body.length > BODY_BYTES_MAX || Buffer.byteLength(subject) > SUBJECT_BYTES_MAX)
      throw fail("GODWIT_TOO_BIG", "the message is too big", "capacity");
    // Copied before anything waits, as the interface promises.
    const copy = { ...message, body: new Uint8Array(body) };
    this.#failOnce();
    if (message.transient === true) return this.#sendNow(copy);
    const content = `${to.toLowerCase()}\n${subject}\n${Buffer.from(copy.body).toString("hex")}`;
    const known = idempotencyKey === undefined ? undefined : this.#keys.get(idempotencyKey);
    if (known !== undefined) {
      if (known.content === content) return { id: known.id };
      throw fail("GODWIT_IDEMPOTENCY_CONFLICT", "the key stands for another message");
    }
    const id = this.#newId();
    if (idempotencyKey !== undefined) this.#keys.set(idempotencyKey, { id, content });
    this.outgoing.push({ ...copy, id });
    this.#states.set(id, {
      id,
      to,
      state: "queued",
      reason: undefined,
      createdAtMs: this.#clock.wallMs(),
      receipt: undefined,
    });
    return { id };
  }

  /** Kept only in `outgoing`: a transient message has no state. */
  #sendNow(message: OutgoingMessage): { readonly id: string } {
    const { to } = message;
    const station = this.#stations.find(
      ({ id, callsign }) => id === to.toLowerCase() || callsign === to.toUpperCase(),
    );
    if (station === undefined && to.length !== this.self.id.length)
      throw fail("GODWIT_NAME_UNKNOWN", `no node called ${to} has been heard of`);
    if (station?.isReachable !== true) throw fail("GODWIT_NO_ROUTE", "no route there now", "transport");
    const id = this.#newId();
    this.outgoing.push({ ...message, id });
    return { id };
  }

  async sent(id: string): Promise<SentMessage | undefined> {
    this.#check("sent");
    return this.#states.get(id);
  }

  onMessage(handler: (message: IncomingMessage) => void | Promise<void>): void {
    this.#check("onMessage");
    const feed: Feed = {
      handler,
      waiting: new Set(this.#messages.keys()),
      attempts: new Map(),
      timers: new Set(),
      isBusy: false,
    };
    this.#feeds.push(feed);
    this.#wake(feed);
  }

  onSent(handler: (message: SentMessage) => void): void {
    this.#check("onSent");
    this.#onSent.push(handler);
  }

  /** A message arrives in the inbox. Answers its id. */
  receive(body: string | Uint8Array, more: Partial<IncomingMessage> = {}): string {
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body);
    const id = more.id ?? this.#newId();
    const from = more.from ?? "c".repeat(52);
    const nowMs = this.#clock.wallMs();
    const message: IncomingMessage = {
      id,
      from,
      fromCallsign: "NYC-C",
      to: this.self.callsign,
      subject: "",
      contentType: "text/plain",
      priority: 2,
      size: bytes.length,
      createdAtMs: nowMs,
      deliveredAtMs: nowMs,
      trace: [{ id: from, callsign: "NYC-C", atMs: nowMs }],
      hopsUntraced: 0,
      ...more,
    };
    this.#messages.set(id, { message, body: bytes });
    this.redeliver(id);
    return id;
  }

  /** Offers a message of the inbox once more: at least once may well be twice. */
  redeliver(id: string): void {
    for (const feed of this.#feeds) {
      feed.waiting.add(id);
      this.#wake(feed);
    }
  }

  /** What was sent changes its state; handlers hear of it. Throws for an id that was never sent. */
  setSent(id: string, change: Partial<SentMessage>): void {
    const before = this.#states.get(id);
    if (before === undefined) throw fail("GODWIT_MESSAGE_UNKNOWN", `no message ${id}`);
    const now = { ...before, ...change };
    this.#states.set(id, now);
    for (const handler of this.#onSent) handler(now);
  }

  /** The plugin stopped: handlers are forgotten and every method throws from now on. */
  async openStream(to: string, service: string, options: StreamOptions = {}): Promise<MeshStream> {
    this.#check("openStream");
    this.#failOnce();
    return await this.#streams.openStream(to, service, options);
  }

  onStream(service: string, handler: (stream: IncomingMeshStream) => void): void {
    this.#check("onStream");
    this.#streams.onStream(service, handler);
  }

  /** Another node opens a stream to the plugin. Rejects with GODWIT_STREAM_REFUSED when it is not taken. */
  receiveStream(service: string, from: string, metadata?: Uint8Array): Promise<FakeStream> {
    return this.#streams.receiveStream(service, from, metadata);
  }

  stop(): void {
    this.#isStopped = true;
    this.#streams.stop();
    for (const { timers } of this.#feeds) for (const timer of timers) timer.cancel();
    this.#feeds.length = 0;
    this.#onSent = [];
  }

  #newId(): string {
    return (++this.#made).toString(16).padStart(32, "0");
  }

  #check(method: string): void {
    if (!this.#isStopped) return;
    this.callsAfterStop.push(method);
    throw fail("GODWIT_STOPPED", "the plugin has stopped", "plugin");
  }

  #failOnce(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  #wake(feed: Feed): void {
    if (feed.isBusy || feed.waiting.size === 0) return;
    feed.isBusy = true;
    queueMicrotask(() => void this.#drain(feed));
  }

  async #drain(feed: Feed): Promise<void> {
    for (const id of feed.waiting) {
      if (this.#isStopped) return;
      feed.waiting.delete(id);
      const found = this.#messages.get(id);
      if (found === undefined) continue;
      this.offered.push(id);
      try {
        await feed.handler(found.message);
        feed.attempts.delete(id);
      } catch {
        this.#retry(feed, id);
      }
    }
    feed.isBusy = false;
    this.#wake(feed);
  }

  #retry(feed: Feed, id: string): void {
    if (this.#isStopped) return;
    this.refused.set(id, (this.refused.get(id) ?? 0) + 1);
    const attempts = (feed.attempts.get(id) ?? 0) + 1;
    feed.attempts.set(id, attempts);
    const timer = this.#clock.after(Math.min(RETRY_FIRST_MS * 2 ** (attempts - 1), RETRY_CAP_MS), () => {
      feed.timers.delete(timer);
      feed.waiting.add(id);
      this.#wake(feed);
    });
    feed.timers.add(timer);
  }

  #openInbox(): MeshInbox {
    const messages = this.#messages;
    const find = (id: string) => {
      const found = messages.get(id);
      if (found === undefined) throw fail("GODWIT_MESSAGE_UNKNOWN", `no message ${id}`);
      return found;
    };
    return {
      get count() {
        return messages.size;
      },
      list: async ({ order, limit, after }) => {
        this.#check("inbox.list");
        const all = [...messages.values()].map(({ message }) => message);
        if (order === "newest-first") all.reverse();
        if (after !== undefined) find(after);
        const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
        return all.slice(from, from + Math.min(limit, 500));
      },
      get: async (id) => {
        this.#check("inbox.get");
        return messages.get(id)?.message;
      },
      body: async (id) => {
        this.#check("inbox.body");
        this.#failOnce();
        await this.gate;
        return find(id).body.slice();
      },
      remove: async (id) => {
        this.#check("inbox.remove");
        find(id);
        messages.delete(id);
      },
    };
  }
}
