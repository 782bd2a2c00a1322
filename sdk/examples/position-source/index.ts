/**
 * position-source: the one plugin that reads the receiver (lines of gpsd's JSON over TCP), and offers what it hears to the others of its node as
 * the service `position`: the request `last`, and channels `follow`. A follower that is slow misses positions and gets the newest.
 */
import {
  definePlugin,
  GodwitError,
  parseHostPort,
  type ServiceChannel,
  type ServiceContext,
  z,
} from "@godwit/sdk";

const RETRY_MS = 1_000;
const LINE_CHARS_MAX = 4_096;

const config = z.strictObject({
  /** Host and port of gpsd. */
  source: z.string().regex(/:\d{1,5}$/),
});

const report = z.object({
  class: z.literal("TPV"),
  lat: z.number().min(-90).max(90),
  lon: z.number().min(-180).max(180),
});
interface Position {
  readonly lat: number;
  readonly lon: number;
}

const unknown = (ask: string) =>
  new GodwitError("GODWIT_NOT_FOUND", `position knows no ${ask}`, { kind: "protocol", retry: "never" });

/** Sends the newest that there is room for. */
class Follower {
  readonly #channel: ServiceChannel;
  #isFull = false;
  #missed: Position | undefined;

  constructor(channel: ServiceChannel) {
    this.#channel = channel;
  }

  tell(position: Position): void {
    if (!this.#isFull) this.#isFull = !this.#channel.send({ json: position });
    this.#missed = this.#isFull ? position : undefined;
  }

  onDrain(): void {
    this.#isFull = false;
    if (this.#missed !== undefined) this.tell(this.#missed);
  }
}

export default definePlugin({
  id: "position-source",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: ["net.tcp", "service.offer:position"],
  config,
  start(ctx, { source }) {
    const followers = new Set<Follower>();
    let last: Position | undefined;
    ctx.services.offer("position", {
      async request({ ask }) {
        if (ask !== "last") throw unknown(ask);
        return { json: last ?? null };
      },
      channel(channel, { ask }) {
        if (ask !== "follow") throw unknown(ask);
        const follower = new Follower(channel);
        followers.add(follower);
        channel.open({
          message() {},
          drain: () => follower.onDrain(),
          closed: () => void followers.delete(follower),
        });
        if (last !== undefined) follower.tell(last);
      },
    });
    ctx.spawn("source", async (signal) => {
      while (!signal.aborted) {
        await readLines(source, signal, (line) => {
          last = positionIn(line) ?? last;
          if (last !== undefined) for (const follower of followers) follower.tell(last);
        });
        if (!signal.aborted) ctx.health({ state: "degraded", reason: `no position from ${source}` });
        await pause(ctx, RETRY_MS);
      }
    });
  },
});

function positionIn(line: string): Position | undefined {
  try {
    const { lat, lon } = report.parse(JSON.parse(line));
    return { lat, lon };
  } catch {
    // gpsd says other things as well.
    return undefined;
  }
}

/** Until the source or the plugin ends. */
async function readLines(source: string, signal: AbortSignal, onLine: (line: string) => void): Promise<void> {
  const { host, port } = parseHostPort(source);
  const over = Promise.withResolvers<void>();
  const decoder = new TextDecoder();
  let rest = "";
  const connecting = Bun.connect({
    hostname: host,
    port,
    socket: {
      open: (socket) => void socket.write('?WATCH={"enable":true,"json":true};\n'),
      data(_socket, bytes) {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
        rest = lines.pop()!.slice(0, LINE_CHARS_MAX);
        for (const line of lines) onLine(line);
      },
      close: () => over.resolve(),
      error: () => over.resolve(),
    },
  });
  const onAbort = () => over.resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const socket = await connecting;
    await over.promise;
    socket.terminate();
  } catch {
    // Nobody there: it is tried again.
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function pause({ clock, signal }: ServiceContext, ms: number): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = clock.after(ms, resolve);
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  await promise;
  timer.cancel();
  signal.removeEventListener("abort", onAbort);
}
