/** Streams that a plugin opens and takes, in memory: the far ends are the test's. Rejects like the real ones, and can be told to. */
import {
  ENGINE_STREAM_LIMITS,
  type EngineStreams,
  GodwitError,
  type IncomingMeshStream,
  type MeshStream,
  type StreamOptions,
} from "../src/index.ts";
import { type FakeStream, fakeStreamPair } from "./streams.ts";

const NODE = /^(?:[a-z2-7]{52}|[a-z0-9]{1,16}(?:-[a-z0-9]{1,16})?)$/i;

const fail = (code: string, message: string) => new GodwitError(code, message, { kind: "protocol" });

export class FakeStreams implements EngineStreams {
  /** The plugin's ends of what it opened, and who answers them: by default nobody takes one. */
  readonly openedStreams: FakeStream[] = [];
  answerStream: (far: FakeStream) => void = (far) => far.reset();
  /** What handlers threw, which a host logs. */
  readonly failures: unknown[] = [];
  readonly #self: string;
  readonly #streamsMax: number;
  readonly #handlers = new Map<string, (stream: IncomingMeshStream) => void>();
  /** The plugin's ends, of those that are not over. */
  readonly #streams = new Set<FakeStream>();
  #isStopped = false;

  constructor(self = "a".repeat(52), streamsMax: number = ENGINE_STREAM_LIMITS.streams) {
    this.#self = self;
    this.#streamsMax = streamsMax;
  }

  /** Handlers and streams that are there. */
  get openCount(): number {
    return this.#handlers.size + this.openStreams.length;
  }

  /** The plugin's ends of all that are not over. */
  get openStreams(): readonly FakeStream[] {
    for (const stream of this.#streams) if (stream.isClosed) this.#streams.delete(stream);
    return [...this.#streams];
  }

  /** Names on which the plugin takes streams. */
  get channels(): readonly string[] {
    return [...this.#handlers.keys()];
  }

  async openStream(to: string, service: string, options: StreamOptions = {}): Promise<MeshStream> {
    this.#check();
    if (!NODE.test(to)) throw fail("GODWIT_NAME_UNKNOWN", `no node called ${to}`);
    options.signal?.throwIfAborted();
    if (this.openStreams.length >= this.#streamsMax)
      throw fail("GODWIT_STREAM_LIMIT", `a plugin has at most ${this.#streamsMax} streams at once`);
    const metadata = options.metadata && new Uint8Array(options.metadata);
    const { near, far } = fakeStreamPair({ opener: this.#self, handler: to }, service, metadata);
    this.openedStreams.push(near);
    this.#streams.add(near);
    const decided = far.decided();
    queueMicrotask(() => this.answerStream(far));
    await decided;
    return near;
  }

  onStream(service: string, handler: (stream: IncomingMeshStream) => void): void {
    this.#check();
    if (this.#handlers.has(service))
      throw fail("GODWIT_REQUEST_INVALID", `the service "${service}" has a handler already`);
    this.#handlers.set(service, handler);
  }

  /** Another node opens a stream to the plugin. Rejects with GODWIT_STREAM_REFUSED when it is not taken. */
  async receiveStream(service: string, from: string, metadata?: Uint8Array): Promise<FakeStream> {
    const { near, far } = fakeStreamPair({ opener: from, handler: this.#self }, service, metadata);
    const handler = this.openStreams.length < this.#streamsMax ? this.#handlers.get(service) : undefined;
    this.#streams.add(far);
    const decided = far.decided();
    try {
      if (handler === undefined) far.reset();
      else handler(far);
    } catch (error) {
      this.failures.push(error);
      far.reset();
    }
    await decided;
    return near;
  }

  stop(): void {
    this.#isStopped = true;
    this.#handlers.clear();
    for (const stream of this.#streams) stream.reset();
  }

  #check(): void {
    if (this.#isStopped) throw fail("GODWIT_STOPPED", "the plugin has stopped");
  }
}
