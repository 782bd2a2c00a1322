/**
 * `ctx.mesh`: the node's mesh as handed to one service. Owns what ends with the plugin: its handlers, the messages that
 * wait for them, its right to call at all. Never knows routes or the store; the node gives it a `MeshBackend`.
 */
import type { Clock, IncomingMessage, Log, Mesh, SentMessage, Timer } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import { openStreamsDoor, type StreamsBackend } from "./streams-door.ts";

/** What a handler refused comes again after so long, doubled each time. */
const RETRY_FIRST_MS = 1_000;
const RETRY_CAP_MS = 300_000;
/** Ids that wait for a handler are pruned to those still in the inbox when they outnumber it by this. */
const STALE_IDS_MAX = 1_024;
const PAGE = 500;

/** The node as services see it; `view/mesh-for-plugins.ts` implements it over the living mesh. */
export interface MeshBackend
  extends Omit<Mesh, "onMessage" | "onSent" | "onStream" | "openStream">, StreamsBackend {
  /** Calls synchronously for each message after it is durably in the inbox. Answers how to stop. */
  onArrival(handler: (id: string) => void): () => void;
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
      list: (page) => (check(), inbox.list(page)),
      get: (id) => (check(), inbox.get(id)),
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
  readonly #waiting = new Set<string>();
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
    this.#unsubscribe = backend.onArrival((id) => this.#add(id));
    for (let after: string | undefined; ;) {
      const page = backend.inbox.list({
        order: "oldest-first",
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      for (const { id } of page) this.#waiting.add(id);
      after = page.at(-1)?.id;
      if (page.length < PAGE) break;
    }
    this.#wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#unsubscribe();
    for (const { timer } of this.#retries.values()) timer.cancel();
    this.#retries.clear();
    this.#waiting.clear();
  }

  #add(id: string): void {
    this.#waiting.add(id);
    // A handler that hangs while messages come and go must not make a list of all that ever were.
    if (this.#waiting.size > this.#backend.inbox.count + STALE_IDS_MAX) {
      for (const waiting of this.#waiting)
        if (this.#backend.inbox.get(waiting) === undefined) this.#waiting.delete(waiting);
    }
    this.#wake();
  }

  #wake(): void {
    if (this.#isBusy || this.#isStopped || this.#waiting.size === 0) return;
    this.#isBusy = true;
    // Not within the call that delivered the message: a service must not hold up the mesh.
    queueMicrotask(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    for (const id of this.#waiting) {
      if (this.#isStopped) return;
      this.#waiting.delete(id);
      const message = this.#backend.inbox.get(id);
      if (message === undefined) {
        this.#forget(id);
        continue;
      }
      try {
        await this.#handler(message);
        this.#forget(id);
      } catch (error) {
        this.#retry(id, error);
      }
    }
    this.#isBusy = false;
    this.#wake();
  }

  #retry(id: string, error: unknown): void {
    if (this.#isStopped) return;
    const attempts = (this.#retries.get(id)?.attempts ?? 0) + 1;
    if (attempts === 1)
      this.#log.warn("message handler failed, it is asked again", { error: asGodwitError(error) });
    const delayMs = Math.min(RETRY_FIRST_MS * 2 ** (attempts - 1), RETRY_CAP_MS);
    this.#retries.set(id, { attempts, timer: this.#clock.after(delayMs, () => this.#add(id)) });
  }

  #forget(id: string): void {
    this.#retries.get(id)?.timer.cancel();
    this.#retries.delete(id);
  }
}
