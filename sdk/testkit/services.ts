/**
 * Services between plugins under test, in memory: hosts that are given the same `FakeServices` see each other's offers. Bounds,
 * copies, errors and endings are those of the node; it knows no permissions and no rate.
 */
import {
  GodwitError,
  type OfferedService,
  SERVICE_LIMITS,
  type ServiceCallOptions,
  type ServiceChannel,
  type ServiceChannelHandlers,
  type ServiceMessage,
  type ServiceSending,
  type Services,
  type UsedService,
} from "../src/index.ts";

interface Sealed {
  readonly text: string;
  readonly bytes: Uint8Array;
}

interface Offer {
  readonly source: string;
  readonly service: OfferedService;
  readonly endings: Set<(error: GodwitError) => void>;
}

const fail = (
  code: string,
  message: string,
  kind: "plugin" | "capacity" | "protocol" | "transport" = "plugin",
) => new GodwitError(code, message, { kind, retry: "later" });

function seal({ json = null, bytes = new Uint8Array(0) }: ServiceSending): Sealed {
  const text = JSON.stringify(json) ?? "null";
  const size = Buffer.byteLength(text);
  if (size > SERVICE_LIMITS.jsonBytes || size + bytes.length > SERVICE_LIMITS.messageBytes)
    throw fail("GODWIT_TOO_BIG", "a message beyond its bound", "capacity");
  return { text, bytes: bytes.slice() };
}
const unseal = ({ text, bytes }: Sealed): ServiceMessage => ({ json: JSON.parse(text) as unknown, bytes });

export class FakeServices {
  readonly #offers = new Map<string, Offer>();
  readonly #watchers = new Map<string, Set<() => void>>();
  /** Channels that are open. */
  channelCount = 0;
  /** Requests that no provider has settled. */
  requestCount = 0;
  /** Messages that were refused because a window was full. */
  refusedCount = 0;
  /** Refused again before `drain`, although nothing had changed: a plugin that does not wait. */
  impatientCount = 0;
  /** What handlers of channels threw: each ended its channel. */
  readonly handlerErrors: unknown[] = [];

  get offered(): readonly string[] {
    return [...this.#offers.keys()];
  }

  /** `ctx.services` of one plugin; `stopped` aborts with it. */
  door(source: string, stopped: AbortSignal): Services {
    const check = () => {
      if (stopped.aborted) throw fail("GODWIT_STOPPED", "the plugin has stopped", "transport");
    };
    return {
      offer: (name, service) => {
        check();
        const before = this.#offers.get(name);
        if (before !== undefined && before.source !== source)
          throw fail("GODWIT_SERVICE_TAKEN", `"${name}" is offered by ${before.source} already`);
        if (before !== undefined) this.#withdraw(name, before);
        const offer: Offer = { source, service, endings: new Set() };
        this.#offers.set(name, offer);
        stopped.addEventListener("abort", () => this.#withdraw(name, offer), { once: true });
        this.#tell(name);
      },
      use: (name) => (check(), this.#use(name, source, stopped, check)),
    };
  }

  #use(name: string, source: string, stopped: AbortSignal, check: () => void): UsedService {
    const offers = this.#offers;
    const isThere = () => !stopped.aborted && offers.has(name);
    const theOffer = (): Offer => {
      check();
      const offer = offers.get(name);
      if (offer === undefined) throw fail("GODWIT_SERVICE_ABSENT", `nobody offers "${name}" now`);
      return offer;
    };
    return {
      name,
      get isThere() {
        return isThere();
      },
      onChange: (fn) => {
        check();
        const stop = this.#watch(name, fn);
        stopped.addEventListener("abort", stop, { once: true });
      },
      whenThere: async (signal) => {
        check();
        if (isThere()) return;
        const { promise, resolve } = Promise.withResolvers<void>();
        const stop = this.#watch(name, () => isThere() && resolve());
        try {
          await orAborted(promise, [stopped, ...(signal === undefined ? [] : [signal])]);
        } finally {
          stop();
        }
      },
      request: async (ask, message = {}, options = {}) => {
        const sealed = seal(message);
        const offer = theOffer();
        const { request } = offer.service;
        if (request === undefined) throw fail("GODWIT_REQUEST_INVALID", "it takes no requests", "protocol");
        const answer = await this.#within(offer, stopped, options, async (signal) => {
          this.requestCount++;
          try {
            return await request.call(offer.service, { ask, consumer: source, ...unseal(sealed) }, signal);
          } finally {
            this.requestCount--;
          }
        });
        return unseal(seal(answer ?? {}));
      },
      openChannel: async (ask, message = {}, options = {}) => {
        const sealed = seal(message);
        const offer = theOffer();
        const { channel } = offer.service;
        if (channel === undefined) throw fail("GODWIT_REQUEST_INVALID", "it takes no channels", "protocol");
        const [near, far] = this.#pair(source, offer, stopped);
        try {
          await this.#within(offer, stopped, options, async () =>
            channel.call(offer.service, far, { ask, consumer: source, ...unseal(sealed) }),
          );
          return near;
        } catch (error) {
          near.end(error as GodwitError);
          far.end(error as GodwitError);
          throw error;
        }
      },
    };
  }

  #pair(consumer: string, offer: Offer, stopped: AbortSignal): [FakeChannel, FakeChannel] {
    let open = 2;
    const over = () => {
      if (--open > 0) return;
      this.channelCount--;
      offer.endings.delete(end);
      stopped.removeEventListener("abort", onStop);
    };
    const refused = (again: boolean) => {
      this.refusedCount++;
      if (again) this.impatientCount++;
    };
    const hooks = { over, refused, failed: (error: unknown) => void this.handlerErrors.push(error) };
    const near = new FakeChannel(offer.source, hooks);
    const far = new FakeChannel(consumer, hooks);
    near.other = far;
    far.other = near;
    const end = (error: GodwitError) => {
      near.end(error);
      far.end(error);
    };
    const onStop = () => end(fail("GODWIT_SERVICE_GONE", "the consumer stopped"));
    this.channelCount++;
    offer.endings.add(end);
    stopped.addEventListener("abort", onStop, { once: true });
    return [near, far];
  }

  async #within<T>(
    offer: Offer,
    stopped: AbortSignal,
    { signal }: ServiceCallOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const gone = new AbortController();
    const end = (error: GodwitError) => gone.abort(error);
    offer.endings.add(end);
    const signals = [gone.signal, stopped, ...(signal === undefined ? [] : [signal])];
    try {
      await Promise.resolve();
      return await orAborted(work(AbortSignal.any(signals)), signals);
    } catch (error) {
      const first = signals.find(({ aborted }) => aborted);
      if (first !== undefined) throw first.reason;
      if (error instanceof Error && "code" in error && "kind" in error) throw error;
      throw fail("GODWIT_PLUGIN_FAILED", error instanceof Error ? error.message : String(error));
    } finally {
      offer.endings.delete(end);
    }
  }

  #withdraw(name: string, offer: Offer): void {
    if (this.#offers.get(name) !== offer) return;
    this.#offers.delete(name);
    for (const end of [...offer.endings]) end(fail("GODWIT_SERVICE_GONE", `${offer.source} stopped`));
    this.#tell(name);
  }

  #watch(name: string, fn: () => void): () => void {
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(fn));
    return () => void watchers.delete(fn);
  }

  #tell(name: string): void {
    for (const fn of [...(this.#watchers.get(name) ?? [])]) queueMicrotask(fn);
  }
}

/** The promise, or the first of the reasons. */
async function orAborted<T>(promise: Promise<T>, signals: readonly AbortSignal[]): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const ends = signals.map((signal) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    return () => signal.removeEventListener("abort", onAbort);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    for (const end of ends) end();
  }
}

interface FakeChannelHooks {
  over(): void;
  /** `again`: it was told so before, and no drain came since. */
  refused(again: boolean): void;
  failed(error: unknown): void;
}

class FakeChannel implements ServiceChannel {
  readonly peer: string;
  other: FakeChannel | undefined;
  readonly #hooks: FakeChannelHooks;
  #handlers: ServiceChannelHandlers | undefined;
  readonly #queue: Sealed[] = [];
  #bytes = 0;
  #isPaused = false;
  #owesDrain = false;
  #isEnding = false;
  #isOver = false;
  #isTold = false;
  #error: GodwitError | undefined;

  constructor(peer: string, hooks: FakeChannelHooks) {
    this.peer = peer;
    this.#hooks = hooks;
  }

  open(handlers: ServiceChannelHandlers): void {
    this.#handlers = handlers;
    this.#wake();
  }

  send(message: ServiceSending): boolean {
    const sealed = seal(message);
    const { other } = this;
    if (this.#isOver || this.#isEnding || other === undefined) return true;
    const size = sealed.text.length + sealed.bytes.length;
    const isFull =
      other.#queue.length >= SERVICE_LIMITS.windowMessages ||
      other.#bytes + size > SERVICE_LIMITS.windowBytes;
    if (isFull) {
      this.#hooks.refused(other.#owesDrain);
      other.#owesDrain = true;
      return false;
    }
    other.#queue.push(sealed);
    other.#bytes += size;
    other.#wake();
    return true;
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    this.#wake();
  }

  close(): void {
    if (this.#isOver) return;
    const { other } = this;
    this.end(undefined);
    if (other === undefined) return;
    other.#isEnding = true;
    other.#wake();
  }

  end(error: GodwitError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#queue.length = 0;
    this.#hooks.over();
    this.#wake();
  }

  #wake(): void {
    queueMicrotask(() => this.#deliver());
  }

  #deliver(): void {
    if (this.#handlers === undefined) return;
    while (!this.#isPaused && !this.#isOver) {
      const sealed = this.#queue.shift();
      if (sealed === undefined) break;
      this.#bytes -= sealed.text.length + sealed.bytes.length;
      try {
        this.#handlers.message(unseal(sealed));
      } catch (error) {
        this.#hooks.failed(error);
        const broken = fail("GODWIT_PLUGIN_FAILED", "the other plugin failed at a message");
        this.other?.end(broken);
        this.end(broken);
      }
    }
    if (this.#isEnding && this.#queue.length === 0) this.end(undefined);
    const hasRoom =
      this.#queue.length * 2 <= SERVICE_LIMITS.windowMessages &&
      this.#bytes * 2 <= SERVICE_LIMITS.windowBytes;
    if (this.#owesDrain && hasRoom && !this.#isOver) {
      this.#owesDrain = false;
      const { other } = this;
      queueMicrotask(() => other !== undefined && !other.#isOver && other.#handlers?.drain());
    }
    if (!this.#isOver || this.#isTold) return;
    this.#isTold = true;
    this.#handlers.closed(this.#error);
  }
}
