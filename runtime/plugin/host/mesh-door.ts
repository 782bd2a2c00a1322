/**
 * `ctx.mesh`: the node's mesh as handed to one service. Owns what ends with the plugin: its handlers, the messages that
 * wait for them, its right to call at all. Never knows routes or the store; the node gives it a `MeshBackend`.
 */
import type { Clock, IncomingMessage, Log, Mesh, MeshInbox, SentMessage, Timer } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import { openStreamsDoor, type StreamsBackend } from "./streams-door.ts";

/** What a handler refused comes again after so long, doubled each time. */
const RETRY_FIRST_MS = 1_000;
const RETRY_CAP_MS = 300_000;
/** Messages that a handler refused; with so many it gets none that is new until one of them is done with. */
const RETRIES_MAX = 1_024;

/** A message and its place in the order of arrival, whole numbers from 1 on. */
export interface PlacedMessage {
  readonly place: number;
  readonly message: IncomingMessage;
}

/** The node as services see it; `view/mesh-for-plugins.ts` implements it over the living mesh. */
export interface MeshBackend
  extends Omit<Mesh, "inbox" | "onMessage" | "onSent" | "onStream" | "openStream">, StreamsBackend {
  readonly inbox: MeshInbox & {
    /** What came behind a place, oldest first; 0: all of it. */
    since(place: number, limit: number): Promise<readonly PlacedMessage[]>;
  };
  /** Calls synchronously for each message after it is durably in the inbox. Answers how to stop. */
  onArrival(handler: () => void): () => void;
  onChanged(handler: (message: SentMessage) => void): () => void;
}

export interface DoorDeps {
  readonly backend: MeshBackend;
  readonly scope: Scope;
  readonly clock: Clock;
  readonly log: Log;
}

export function openMeshDoor({ backend, scope, clock, log }: DoorDeps): Mesh {
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const { inbox } = backend;
  return {
    ...openStreamsDoor({ backend, scope, log }),
    self: backend.self,
    stations: () => (check(), backend.stations()),
    send: async (message) => (check(), await backend.send(message)),
    sent: async (id) => (check(), await backend.sent(id)),
    onMessage(handler) {
      check();
      const feed = new Feed(backend, handler, clock, log);
      scope.own(() => feed.stop());
    },
    onSent(handler) {
      check();
      scope.own(
        backend.onChanged((message) => {
          try {
            handler(message);
          } catch (error) {
            log.error("onSent handler failed", { error: asGodwitError(error) });
          }
        }),
      );
    },
    inbox: {
      get count() {
        return inbox.count;
      },
      list: async (page) => (check(), await inbox.list(page)),
      get: async (id) => (check(), await inbox.get(id)),
      body: async (id) => (check(), await inbox.body(id)),
      remove: async (id) => (check(), await inbox.remove(id)),
    },
  };
}

/** One handler's messages: those of the inbox, then what comes, one at a time, again while it rejects. */
class Feed {
  readonly #backend: MeshBackend;
  readonly #handler: (message: IncomingMessage) => void | Promise<void>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #unsubscribe: () => void;
  /** Of the last one that was handed over. */
  #place = 0;
  /** Something may have come behind it. */
  #hasMore = true;
  readonly #due = new Set<string>();
  readonly #retries = new Map<string, { attempts: number; timer: Timer }>();
  #isBusy = false;
  #isStopped = false;

  constructor(
    backend: MeshBackend,
    handler: (message: IncomingMessage) => void | Promise<void>,
    clock: Clock,
    log: Log,
  ) {
    this.#backend = backend;
    this.#handler = handler;
    this.#clock = clock;
    this.#log = log;
    this.#unsubscribe = backend.onArrival(() => {
      this.#hasMore = true;
      this.#wake();
    });
    this.#wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#unsubscribe();
    for (const { timer } of this.#retries.values()) timer.cancel();
    this.#retries.clear();
    this.#due.clear();
  }

  #wake(): void {
    if (this.#isBusy || this.#isStopped) return;
    this.#isBusy = true;
    // Not within the call that delivered the message: a service must not hold up the mesh.
    queueMicrotask(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    try {
      while (!this.#isStopped && ((await this.#handNext()) || (await this.#handDue())));
      this.#isBusy = false;
      if (this.#mayHandNext || this.#due.size > 0) this.#wake();
    } catch (error) {
      // The store could not be read: again with the next one that comes.
      this.#isBusy = false;
      this.#hasMore = true;
      this.#log.warn("inbox not read", { error: asGodwitError(error) });
    }
  }

  get #mayHandNext(): boolean {
    return this.#hasMore && this.#retries.size < RETRIES_MAX;
  }

  /** False: there is none, or too many wait for another try. */
  async #handNext(): Promise<boolean> {
    if (!this.#mayHandNext) return false;
    this.#hasMore = false;
    const [next] = await this.#backend.inbox.since(this.#place, 1);
    if (next === undefined) return this.#hasMore;
    this.#hasMore = true;
    this.#place = next.place;
    await this.#hand(next.message);
    return true;
  }

  async #handDue(): Promise<boolean> {
    const [id] = this.#due;
    if (id === undefined) return false;
    this.#due.delete(id);
    const message = await this.#backend.inbox.get(id);
    if (message === undefined) this.#forget(id);
    else await this.#hand(message);
    return true;
  }

  async #hand(message: IncomingMessage): Promise<void> {
    if (this.#isStopped) return;
    try {
      await this.#handler(message);
      this.#forget(message.id);
    } catch (error) {
      this.#retry(message.id, error);
    }
  }

  #retry(id: string, error: unknown): void {
    if (this.#isStopped) return;
    const attempts = (this.#retries.get(id)?.attempts ?? 0) + 1;
    if (attempts === 1)
      this.#log.warn("message handler failed, it is asked again", { error: asGodwitError(error) });
    const delayMs = Math.min(RETRY_FIRST_MS * 2 ** (attempts - 1), RETRY_CAP_MS);
    const timer = this.#clock.after(delayMs, () => {
      this.#due.add(id);
      this.#wake();
    });
    this.#retries.set(id, { attempts, timer });
  }

  #forget(id: string): void {
    this.#retries.get(id)?.timer.cancel();
    this.#retries.delete(id);
  }
}
