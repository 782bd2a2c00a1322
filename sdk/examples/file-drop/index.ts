/**
 * file-drop: links over a folder that is carried from node to node: a USB stick, a disk in a bus, a phone that syncs. No two
 * nodes are ever connected. `folder` is a folder on the stick that an operator made; where it is not there, no stick is in.
 */
import { definePlugin, GodwitError, type Pipe, type PluginContext, z } from "@godwit/sdk";
import { decodeLetter, encodeLetter, type Letter } from "./letter.ts";
import { DropPipe } from "./pipe.ts";
import * as stick from "./stick.ts";

/** Written before a close, and no stick in: given up after this, ms. */
const FLUSH_MS = 1_000;
const CONNECTIONS_MAX = 64;
const CONNECTIONS_PER_STATION_MAX = 8;
/** Connections that are over, so that an old stick does not open them again. */
const REMEMBERED_MAX = 1_024;
const HOUR_MS = 3_600_000;
const SCHEME = "drop://";

const config = z.strictObject({
  /** On the stick, made by the operator: absolute. */
  folder: z.string().startsWith("/"),
  /** Of this station on the stick: others dial `drop://NAME`. */
  name: z.string().regex(stick.NAME),
  /** How often to look whether a stick is in. */
  poll_seconds: z.number().min(0.02).max(3_600).default(2),
  /** How long an answer may take: the round of the stick, generously. */
  answer_hours: z.number().positive().max(720).default(168),
});

export default definePlugin({
  id: "file-drop",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["files.write:*"],
  config,
  start(ctx, options) {
    const station = new Station(ctx, options);
    ctx.transport.register({
      schemes: ["drop"],
      dialTimeoutMs: options.answer_hours * HOUR_MS,
      dial: (endpoint, signal) => station.dial(endpoint, signal),
    });
    ctx.transport.listening([SCHEME + options.name]);
    ctx.spawn("visits", (signal) => station.run(signal));
    ctx.own(() => station.stop());
  },
});

interface Connection {
  readonly name: stick.LetterName;
  readonly pipe: DropPipe;
  /** What has to be told is not on the stick that is in. */
  isDirty: boolean;
  closingAtMs: number | undefined;
  /** Its last letter lies on a stick. */
  hasSaidAll: boolean;
}

/** A dial that waits for a stick; judged at each look, and never between two. */
interface Waiting {
  readonly station: string;
  readonly untilMs: number;
  found(): void;
  failed(): void;
}

class Station {
  readonly #ctx: PluginContext;
  readonly #options: z.output<typeof config>;
  readonly #connections = new Map<string, Connection>();
  /** True: its last letter was written, so that the far end still has to read it. */
  readonly #over = new Map<string, boolean>();
  readonly #waiting = new Set<Waiting>();
  readonly #letters;
  #isIn = false;
  #isFirst = true;
  #isStopped = false;

  constructor(ctx: PluginContext, options: z.output<typeof config>) {
    this.#ctx = ctx;
    this.#options = options;
    this.#letters = ctx.counter("letters", "letters of others read and own ones written", ["way"]);
  }

  /** Visits the stick again and again, if one is in. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#visit();
      await this.#pause(this.#options.poll_seconds * 1_000, signal);
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { pipe } of this.#connections.values()) pipe.close();
    await this.#tell().catch(() => {});
    for (const { pipe } of this.#connections.values()) pipe.closed();
    await stick.takeNote(this.#options.folder, this.#options.name).catch(() => {});
  }

  /** Waits for a stick with a note of that station. */
  async dial(endpoint: string, signal: AbortSignal): Promise<Pipe> {
    const to = endpoint.startsWith(SCHEME) ? endpoint.slice(SCHEME.length) : "";
    if (!stick.NAME.test(to))
      throw new GodwitError("GODWIT_ENDPOINT_INVALID", `"${endpoint}" is not drop://name`, {
        kind: "config",
      });
    signal.throwIfAborted();
    await this.#untilPresent(to, endpoint, signal);
    if (this.#connections.size >= CONNECTIONS_MAX)
      throw new GodwitError("GODWIT_DIAL_FAILED", "too many connections over sticks", { kind: "transport" });
    const connection = Buffer.from(this.#ctx.random.bytes(8)).toString("hex");
    return this.#add({ from: this.#options.name, to, connection }, "outbound").pipe;
  }

  #untilPresent(to: string, endpoint: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#waiting.delete(waiting);
        for (const one of [signal, this.#ctx.signal]) one.removeEventListener("abort", onAbort);
      };
      const onAbort = () => {
        settle();
        reject((signal.aborted ? signal : this.#ctx.signal).reason as Error);
      };
      const waiting: Waiting = {
        station: to,
        untilMs: this.#ctx.clock.monotonicMs() + this.#options.answer_hours * HOUR_MS,
        found() {
          settle();
          resolve();
        },
        failed() {
          settle();
          reject(
            new GodwitError("GODWIT_DIAL_FAILED", `no stick with a note of ${endpoint} came`, {
              kind: "transport",
              retry: "later",
            }),
          );
        },
      };
      for (const one of [signal, this.#ctx.signal]) one.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #add(name: stick.LetterName, direction: "inbound" | "outbound"): Connection {
    const { answer_hours: hours } = this.#options;
    const far = direction === "outbound" ? name.to : name.from;
    const pipe: DropPipe = new DropPipe({
      direction,
      local: SCHEME + this.#options.name,
      remote: SCHEME + far,
      patienceMs: hours * HOUR_MS,
      onChange: () => (connection.isDirty = true),
    });
    const connection: Connection = {
      name: { from: this.#options.name, to: far, connection: name.connection },
      pipe,
      isDirty: true,
      closingAtMs: undefined,
      hasSaidAll: false,
    };
    this.#connections.set(keyOf(far, name.connection), connection);
    return connection;
  }

  /** One look at the stick: what is new is read, what is due is written. A stick that goes meanwhile ends it. */
  async #visit(): Promise<void> {
    const { folder, name } = this.#options;
    // Only dials that were there before the look: the note of a moment ago may be gone.
    const waiting = [...this.#waiting];
    try {
      const wasIn = this.#isIn;
      const present = await stick.stationsOn(folder);
      this.#isIn = true;
      if (!present.has(name)) await stick.leaveNote(folder, name);
      if (this.#isFirst)
        for (const old of await stick.lettersFrom(folder, name)) await stick.removeLetter(folder, old);
      this.#isFirst = false;
      // It may be another stick: everything is told again.
      if (!wasIn) for (const connection of this.#connections.values()) connection.isDirty = true;
      for (const { station, found } of waiting) if (present.has(station)) found();
      await this.#read();
      await this.#tell();
    } catch (error) {
      // No stick is the usual case, no trouble.
      if (this.#isIn) this.#ctx.log.debug("stick gone", { folder, error: error as Error });
      this.#isIn = false;
    }
    const nowMs = this.#ctx.clock.monotonicMs();
    for (const dial of waiting) if (this.#waiting.has(dial) && nowMs >= dial.untilMs) dial.failed();
    this.#forget();
  }

  async #read(): Promise<void> {
    const { folder, name } = this.#options;
    for (const letterName of await stick.lettersTo(folder, name)) {
      if (this.#isStopped) return;
      const bytes = await stick.readLetter(folder, letterName);
      const letter = bytes === undefined ? undefined : decodeLetter(bytes);
      if (letter === undefined) continue;
      this.#letters.add(1, { way: "in" });
      const connection = this.#connectionOf(letterName, letter);
      if (connection === undefined) await this.#answerUnknown(letterName, letter);
      else if (connection.pipe.take(letter) && (letter.isEnd || letter.isReset) && connection.pipe.isClosing)
        await stick.removeLetter(folder, letterName);
    }
  }

  #connectionOf(name: stick.LetterName, letter: Letter): Connection | undefined {
    const key = keyOf(name.from, name.connection);
    const known = this.#connections.get(key);
    if (known !== undefined) return known;
    const isNew = letter.isOpener && letter.base === 0 && !letter.isReset && !this.#over.has(key);
    if (!isNew) return undefined;
    const ofStation = [...this.#connections.values()].filter(({ name: own }) => own.to === name.from).length;
    // What has no room now is looked at again at the next visit.
    if (this.#connections.size >= CONNECTIONS_MAX || ofStation >= CONNECTIONS_PER_STATION_MAX)
      return undefined;
    const connection = this.#add(name, "inbound");
    this.#ctx.transport.accept(connection.pipe);
    return connection;
  }

  /** The far end holds on to what is over here, or there is no room for it. */
  async #answerUnknown(name: stick.LetterName, letter: Letter): Promise<void> {
    const { folder, name: from } = this.#options;
    const own = { from, to: name.from, connection: name.connection };
    const over = this.#over.get(keyOf(name.from, name.connection));
    const isWaiting = over === undefined && letter.isOpener && letter.base === 0;
    if (isWaiting && !letter.isReset) return;
    if (letter.isEnd || letter.isReset) return await stick.removeLetter(folder, name);
    // Our last letter has to be read first: a reset in its place would lose what it says.
    if (over === true && (await stick.readLetter(folder, own)) !== undefined) return;
    await stick.removeLetter(folder, name);
    const reset = { isOpener: false, isEnd: false, isReset: true, base: 0, read: 0, bytes: new Uint8Array() };
    await stick.writeLetter(folder, own, encodeLetter(reset));
  }

  async #tell(): Promise<void> {
    for (const connection of this.#connections.values()) {
      if (!connection.isDirty || connection.pipe.isOver) continue;
      connection.isDirty = false;
      const letter = connection.pipe.letter();
      try {
        await stick.writeLetter(this.#options.folder, connection.name, encodeLetter(letter));
      } catch (error) {
        connection.isDirty = true;
        throw error;
      }
      this.#letters.add(1, { way: "out" });
      connection.pipe.told(letter);
      connection.hasSaidAll = letter.isEnd;
      if (letter.isEnd) connection.pipe.closed();
    }
  }

  /** Closes what waits for a stick to say goodbye on, and drops what is over. */
  #forget(): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    for (const [key, connection] of this.#connections) {
      const { pipe } = connection;
      if (pipe.isClosing) connection.closingAtMs ??= nowMs;
      // With a stick in, the last letter is on it by the next look.
      const waitedMs = this.#isIn ? 0 : nowMs - (connection.closingAtMs ?? nowMs);
      if (waitedMs >= FLUSH_MS) pipe.closed();
      if (!pipe.isOver) continue;
      this.#connections.delete(key);
      this.#over.set(key, connection.hasSaidAll);
      if (this.#over.size > REMEMBERED_MAX)
        for (const oldest of this.#over.keys()) {
          this.#over.delete(oldest);
          break;
        }
    }
  }

  #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const onAbort = () => {
        timer.cancel();
        resolve();
      };
      const timer = this.#ctx.clock.after(delayMs, () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}

const keyOf = (station: string, connection: string): string => `${station} ${connection}`;
