/** An engine of a third party that talks to its like at another node as the operator says, and answers what came of it. */
import {
  definePlugin,
  type EngineContext,
  type IncomingMeshStream,
  type MemberChange,
  type MeshStream,
} from "@godwit/sdk";

const config = {
  "~standard": { version: 1 as const, vendor: "plain", validate: () => ({ value: {} }) },
};

/** Filled in by the test: an operator asks plugins by their id. */
declare const ID: string;
/** Whether it is to take streams and to listen for members when it starts. */
declare const LISTENS: boolean;

const PIECE_BYTES = 16_384;

interface Input {
  readonly to: string;
  readonly count: number;
}

const codeOf = (error: unknown): string => {
  const { code, message } = error as { readonly code?: string; readonly message: string };
  return code ?? message;
};

/** What came over the streams that others opened: bytes whose place in the stream their value tells. */
const seen = { streams: 0, bytes: 0, broken: 0, from: null as string | null, ended: null as string | null };
const sent = { bytes: 0, ended: null as string | null };
const changes: (readonly [string, string | null])[] = [];
let held: IncomingMeshStream | undefined;

/** Of every length, so that the pieces that come are others than those that went. */
const pieceAt = (offset: number): Uint8Array =>
  Uint8Array.from({ length: 1 + (offset % PIECE_BYTES) }, (_, n) => (offset + n) % 251);

function take(stream: IncomingMeshStream): void {
  const [first] = stream.metadata;
  if (first === 1) return stream.reset();
  if (first === 2) throw new Error("thrown as asked");
  Object.assign(seen, { streams: seen.streams + 1, bytes: 0, broken: 0, from: stream.remote, ended: null });
  held = stream;
  stream.accept();
  stream.open({
    data(bytes) {
      if (held === stream) for (const byte of bytes) if (byte !== seen.bytes++ % 251) seen.broken++;
      if (first === 3) stream.write(bytes);
    },
    end: () => stream.end(),
    drain() {},
    closed(error) {
      if (held === stream) seen.ended = error === undefined ? "politely" : codeOf(error);
    },
  });
  stream.pause(first === 0);
}

/** Writes up to `count` bytes as the stream takes them, then ends it. */
function pump(stream: MeshStream, count: number): void {
  Object.assign(sent, { bytes: 0, ended: null });
  const write = () => {
    for (let hasRoom = true; hasRoom;) {
      if (sent.bytes >= count) return stream.end();
      const piece = pieceAt(sent.bytes).subarray(0, count - sent.bytes);
      hasRoom = stream.write(piece);
      sent.bytes += piece.length;
    }
  };
  stream.open({
    data() {},
    end() {},
    drain: write,
    closed: (error) => void (sent.ended = error === undefined ? "politely" : codeOf(error)),
  });
  write();
}

const open = ({ streams }: EngineContext, to: string, first: number) =>
  streams.openStream(to, "log", { metadata: Uint8Array.of(first) });

const actions: Readonly<Record<string, (ctx: EngineContext, input: Input) => Promise<unknown>>> = {
  /** The far end reads nothing. */
  async slow(ctx, { to, count }) {
    pump(await open(ctx, to, 0), count);
    return "open";
  },
  async read() {
    held?.pause(false);
    return "reads";
  },
  seen: async () => ({ ...seen, sent: sent.bytes, sentEnded: sent.ended }),
  async echo(ctx, { to, count }) {
    const stream = await open(ctx, to, 3);
    const { promise, resolve } = Promise.withResolvers<string>();
    let [bytes, broken] = [0, 0];
    stream.open({
      data(given) {
        for (const byte of given) if (byte !== bytes++ % 251) broken++;
      },
      end() {},
      drain() {},
      closed: (error) => resolve(error === undefined ? "politely" : codeOf(error)),
    });
    for (let at = 0; at < count;) {
      const piece = pieceAt(at).subarray(0, count - at);
      stream.write(piece);
      at += piece.length;
    }
    stream.end();
    return { ended: await promise, bytes, broken, remote: stream.remote, service: stream.service };
  },
  refused: (ctx, { to }) => open(ctx, to, 1),
  throws: (ctx, { to }) => open(ctx, to, 2),
  "no-channel": ({ streams }, { to }) => streams.openStream(to, "nobody-listens"),
  listen: async ({ streams }) => streams.onStream("late", () => {}),
  async many(ctx, { to, count }) {
    const streams = await Promise.allSettled(Array.from({ length: count }, () => open(ctx, to, 4)));
    const counts: Record<string, number> = {};
    for (const one of streams) {
      const outcome = one.status === "fulfilled" ? "open" : codeOf(one.reason);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (one.status === "fulfilled") one.value.reset();
    }
    return counts;
  },
  members: async ({ members }) => members.list(),
  member: async ({ members }, { to }) => members.get(to) ?? "nobody",
  changes: async () => changes,
  async fails({ spawn, clock }) {
    // Once this answer is out.
    clock.after(50, () => spawn("fails", () => Promise.reject(new Error("failed as asked"))));
    return "fails";
  },
};

export default definePlugin({
  id: ID,
  namespace: "engine",
  sdk: "^0.1.0",
  permissions: ["engine.members", "engine.streams"],
  config,
  start(ctx) {
    if (LISTENS) {
      ctx.streams.onStream("log", take);
      ctx.members.onChange((told: readonly MemberChange[]) => {
        for (const { id, member } of told) changes.push([id, member?.state ?? null]);
        changes.splice(0, changes.length - 100);
      });
    }
    ctx.onRequest(async (request, input) => {
      const action = actions[request];
      if (action === undefined) throw new Error(`it knows no ${request}`);
      try {
        return (await action(ctx, input as Input)) ?? "done";
      } catch (error) {
        return { error: codeOf(error) };
      }
    });
  },
});
