/**
 * The store's worker as the main thread sees it: asks it for batches and gives each answer to who asked. Must never leave an ask without an
 * answer when the worker dies. Bounds nothing: whoever asks does.
 */
import { assert, asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import type { LogMark } from "./commit-log.ts";
import type {
  FromWorker,
  LogPlan,
  StoreNews,
  ToWorker,
  WireEntry,
  WireFailure,
  WireOp,
  WireValue,
} from "./sqlite-messages.ts";

export interface BatchAnswer {
  readonly failures: readonly WireFailure[];
  /** Of the reads, by index. */
  readonly values: ReadonlyMap<number, WireValue>;
  /** See `FromWorker`. */
  readonly grantBytes: number;
}

type Ask = PromiseWithResolvers<BatchAnswer>;

export interface ThreadListener {
  onNews(news: StoreNews): void;
  /** Before these go to the database, some of which write. */
  onWrite(entries: readonly WireEntry[]): void;
  /** Once, whatever the cause; asks without an answer are rejected after it. */
  onEnd(error: GodwitError, reason: string): void;
}

export class StoreThread {
  readonly #worker: Worker;
  readonly #listener: ThreadListener;
  readonly #asks: Ask[] = [];
  #end: GodwitError | undefined;
  readonly #opened = Promise.withResolvers<LogPlan | undefined>();
  readonly #closed = Promise.withResolvers<void>();

  constructor(worker: Worker, listener: ThreadListener) {
    this.#worker = worker;
    this.#listener = listener;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#onMessage(data);
    worker.onerror = (event) => this.#die(event.message);
    worker.addEventListener("close", () => this.#die("its thread ended"));
  }

  /** Rejects with what the worker refuses the file for. */
  open(path: string, bytesMax: number | undefined): Promise<LogPlan | undefined> {
    this.#post({ kind: "open", path, bytesMax });
    return this.#opened.promise;
  }

  /** One transaction; `pack` moves to the worker. */
  ask(entries: readonly WireEntry[], pack: Uint8Array = new Uint8Array(0)): Promise<BatchAnswer> {
    return this.#ask({ kind: "batch", entries, pack, mark: undefined, isFold: false });
  }

  /** Rows that are in the log, as one transaction; `pack` moves to the worker. */
  fold(ops: readonly WireOp[], pack: Uint8Array, mark: LogMark | undefined): Promise<BatchAnswer> {
    return this.#ask({ kind: "batch", entries: [{ kind: "commit", ops }], pack, mark, isFold: true });
  }

  #ask(batch: Extract<ToWorker, { kind: "batch" }>): Promise<BatchAnswer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    if (batch.entries.some(({ kind }) => kind === "commit" || kind === "restate"))
      this.#listener.onWrite(batch.entries);
    const ask = Promise.withResolvers<BatchAnswer>();
    this.#asks.push(ask);
    this.#post(batch, [batch.pack.buffer as ArrayBuffer]);
    return ask.promise;
  }

  /** Resolves as well when the worker is dead. */
  async close(): Promise<void> {
    if (this.#end === undefined) this.#post({ kind: "close" });
    await this.#closed.promise;
    this.#worker.terminate();
  }

  #onMessage(message: FromWorker): void {
    switch (message.kind) {
      case "opened":
        return this.#opened.resolve(message.log);
      case "refused":
        return this.#die(message.message, godwitError(message.code, message.message));
      case "news":
        return this.#listener.onNews(message);
      case "batch": {
        const ask = this.#asks.shift();
        assert(ask !== undefined, "the store's worker answered a batch that was not sent");
        const { failures, values, grantBytes } = message;
        return ask.resolve({ failures, values: new Map(values), grantBytes });
      }
      case "closed":
        this.#end = godwitError("GODWIT_STOPPED", "the store is closed; start the node again");
        return this.#closed.resolve();
    }
  }

  /** Whether commits under way became durable is unknown. */
  #die(
    reason: string,
    error = godwitError(
      "GODWIT_STORE_FAILED",
      `the store's worker ended (${reason}); nothing can be kept until the node restarts`,
    ),
  ): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#worker.terminate();
    this.#listener.onEnd(error, reason);
    this.#opened.reject(error);
    this.#closed.resolve();
    for (const ask of this.#asks.splice(0)) ask.reject(error);
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    try {
      this.#worker.postMessage(message, transfer);
    } catch (error) {
      this.#die(asGodwitError(error).message);
    }
  }
}
