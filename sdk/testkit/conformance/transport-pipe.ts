/** Checks of a pipe: what goes through, how it slows down, how it ends. */
import type { Pipe, Random } from "../../src/index.ts";
import { type Bench, Observer, onBench, type TransportSetup } from "./bench.ts";
import { type Check, CheckFailure, DEADLINE_MS, demand, PAUSE_MS } from "./check.ts";

const TRAFFIC_BYTES = 256 * 1024;
const UNREAD_BYTES_MAX = 32 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;
const POISON = 0xee;
/** Written at once, to see each leave. */
const LEFT_DATAGRAMS = 20;

/** What a stream carries at each place; no power of two divides its period, so that shifted pieces show. */
const PERIOD = 65_521;
const pattern = Uint8Array.from({ length: PERIOD + PIECE_BYTES }, (_, at) => {
  const place = at % PERIOD;
  return (place ^ (place >> 7)) & 0xff;
});
const patternAt = (at: number, length: number): Uint8Array =>
  pattern.subarray(at % PERIOD, (at % PERIOD) + length);

/** Compares what comes with the pattern; remembers the first place that is wrong. */
function follow(seen: Observer): { wrongAt: number } {
  const state = { wrongAt: -1 };
  let at = 0;
  seen.keepsBytes = false;
  seen.onData = (bytes) => {
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      const piece = bytes.subarray(from, from + PIECE_BYTES);
      if (state.wrongAt < 0 && Buffer.compare(piece, patternAt(at, piece.length)) !== 0) state.wrongAt = at;
      at += piece.length;
    }
  };
  return state;
}

/**
 * Sends `total` bytes in random pieces, through one buffer that is overwritten after each write. A Buffer: its `slice` copies
 * nothing, which a pipe must know.
 */
async function send(bench: Bench, pipe: Pipe, seen: Observer, total: number, random: Random): Promise<void> {
  const buffer = Buffer.alloc(9_000);
  for (let at = 0; at < total;) {
    const piece = buffer.subarray(0, Math.min(total - at, random.below(buffer.length)));
    const expected = patternAt(at, piece.length);
    piece.set(expected);
    const drains = seen.drains;
    const hasRoom = pipe.write(piece);
    demand(Buffer.compare(piece, expected) === 0, "write changes the caller's bytes");
    buffer.fill(POISON);
    at += piece.length;
    if (!hasRoom) await bench.until(() => seen.drains > drains, "drain follows a write that said stop");
  }
}

async function checkStream(bench: Bench): Promise<void> {
  const { near, far, atNear, atFar } = await bench.observed();
  const total = bench.setup.trafficBytes ?? TRAFFIC_BYTES;
  const [toFar, toNear] = [follow(atFar), follow(atNear)];
  await Promise.all([
    send(bench, near, atNear, total, bench.random),
    send(bench, far, atFar, total, bench.random),
  ]);
  await bench.until(() => atFar.bytes >= total && atNear.bytes >= total, `${total} bytes arrive each way`);
  await bench.quiet();
  for (const [seen, { wrongAt }] of [
    [atFar, toFar],
    [atNear, toNear],
  ] as const) {
    demand(wrongAt < 0, `the stream is not what was written, from byte ${wrongAt}`);
    demand(seen.bytes === total, `${seen.bytes} bytes arrived of ${total}`);
  }
}

/** Writes until told to stop, through one buffer that is overwritten; answers how much was written. */
function fill(pipe: Pipe, unreadBytesMax: number): number {
  const buffer = Buffer.alloc(PIECE_BYTES);
  for (let written = 0; written <= unreadBytesMax;) {
    buffer.set(patternAt(written, PIECE_BYTES));
    const hasRoom = pipe.write(buffer);
    buffer.fill(POISON);
    written += PIECE_BYTES;
    if (!hasRoom) return written;
  }
  throw new CheckFailure(`nobody reads, and write took ${unreadBytesMax} bytes without saying stop`);
}

async function checkSlowReader(bench: Bench): Promise<void> {
  const { near, far, atNear, atFar } = await bench.observed();
  const state = follow(atFar);
  far.pause(true);
  const written = fill(near, bench.setup.unreadBytesMax ?? UNREAD_BYTES_MAX);
  const { bufferedBytes } = near;
  demand(bufferedBytes > 0 && bufferedBytes <= written, `${bufferedBytes} bytes are said to be buffered`);
  far.pause(false);
  await bench.until(() => atFar.bytes >= written, `all ${written} bytes arrive once they are read`);
  await bench.until(() => atNear.drains > 0, "drain follows a write that said stop");
  await bench.quiet();
  demand(state.wrongAt < 0, `the stream is not what was written, from byte ${state.wrongAt}`);
  demand(atFar.bytes === written, `${atFar.bytes} bytes arrived of ${written}`);
  demand(atNear.drains === 1, `${atNear.drains} drains followed one write that said stop`);
  demand(near.bufferedBytes === 0, `${near.bufferedBytes} bytes stay buffered after all arrived`);
}

async function checkBeforeOpen(bench: Bench): Promise<void> {
  const { near, far } = await bench.connect();
  near.write(Uint8Array.of(1, 2, 3));
  far.write(Uint8Array.of(4, 5));
  await bench.quiet();
  const [atFar, atNear] = [new Observer(far), new Observer(near)];
  await bench.until(
    () => atFar.bytes === 3 && atNear.bytes === 2,
    "what came before open is kept until open",
  );
  demand(atFar.joined.equals(Uint8Array.of(1, 2, 3)), "what came before open arrives changed");
}

async function checkPause(bench: Bench): Promise<void> {
  const { near, far, atFar } = await bench.observed();
  far.pause(true);
  near.write(new Uint8Array(1_000));
  await bench.quiet();
  demand(atFar.bytes === 0, "a paused pipe delivers");
  far.pause(false);
  await bench.until(() => atFar.bytes === 1_000, "what waited arrives when the pause ends");
  far.pause(true);
  far.pause(false);
  near.write(new Uint8Array(10));
  await bench.until(() => atFar.bytes === 1_010, "a pause that is over at once loses nothing");
}

async function checkDatagrams(bench: Bench): Promise<void> {
  const { near, far, atFar, atNear } = await bench.observed();
  for (const [pipe, seen] of [
    [near, atFar],
    [far, atNear],
  ] as const) {
    const sent = new Set<string>();
    const sizes = [1, 2, Math.ceil(pipe.mtu / 2), pipe.mtu - 1, pipe.mtu].filter((size) => size > 0);
    const hasWhole = () => seen.pieces.some(({ length }) => length === pipe.mtu);
    for (const endMs = performance.now() + DEADLINE_MS; performance.now() < endMs && !hasWhole();) {
      for (const size of sizes) {
        const datagram = Buffer.from(bench.random.bytes(size));
        sent.add(datagram.toString("hex"));
        pipe.write(datagram);
        datagram.fill(POISON);
      }
      await bench.quiet();
      await Bun.sleep(PAUSE_MS);
    }
    for (const piece of seen.pieces)
      demand(
        sent.has(Buffer.from(piece).toString("hex")),
        `a datagram of ${piece.length} bytes arrives that was not sent so: changed, split or merged on its way`,
      );
    demand(
      hasWhole(),
      `of datagrams of ${pipe.mtu} bytes, the mtu, none arrived within ${DEADLINE_MS / 1_000} s`,
    );
  }
}

async function checkTooBig(bench: Bench): Promise<void> {
  const { near, atFar } = await bench.observed();
  for (const size of [near.mtu + 1, near.mtu * 2]) {
    try {
      near.write(new Uint8Array(size).fill(1));
    } catch {
      // Refusing is as good as dropping.
    }
  }
  await bench.quiet();
  demand(atFar.bytes === 0, "a datagram beyond the mtu arrives, whole or in part");
  for (const endMs = performance.now() + DEADLINE_MS; performance.now() < endMs && atFar.bytes === 0;) {
    near.write(Uint8Array.of(9));
    await bench.quiet();
    await Bun.sleep(PAUSE_MS);
  }
  demand(atFar.bytes > 0, "after a datagram beyond the mtu nothing goes through any more");
}

async function checkLeft(bench: Bench): Promise<void> {
  const { near, atNear } = await bench.observed();
  const { answerMs } = near;

  const before = atNear.lefts;
  for (let i = 0; i < LEFT_DATAGRAMS; i++) {
    const sofar = atNear.lefts;
    near.write(new Uint8Array(Math.min(near.mtu, 50)).fill(i));
    demand(atNear.lefts === sofar, "left is called within write");
  }
  if (answerMs === undefined) {
    await bench.quiet();
    demand(atNear.lefts === before, "a pipe without answerMs calls left");
    return;
  }
  demand(Number.isFinite(answerMs) && answerMs >= 0, `answerMs is ${answerMs}`);
  await bench.until(
    () => atNear.lefts >= before + LEFT_DATAGRAMS,
    "left is called once for each datagram written",
  );
  await bench.quiet();
  // What opened the pipe may leave only now.
  const opening = bench.setup.opening === undefined ? 0 : 1;
  demand(
    atNear.lefts <= before + LEFT_DATAGRAMS + opening,
    "left is called more often than datagrams were written",
  );
}

function demandIgnored(pipe: Pipe): void {
  let answer: unknown;
  try {
    answer = pipe.write(new Uint8Array(10));
  } catch (error) {
    throw new CheckFailure(`a write after close throws: ${String(error)}`);
  }
  demand(typeof answer === "boolean", "a write after close is not ignored");
}

async function checkClose(bench: Bench): Promise<void> {
  const { near, far, atNear, atFar } = await bench.observed();
  far.write(new Uint8Array(5_000));
  near.close();
  near.close();
  demandIgnored(near);
  await bench.until(() => atNear.closes > 0, "the end that closes hears closed");
  // Datagrams need no connection, so that only silence tells the far end.
  if (near.kind === "datagram") far.close();
  await bench.until(() => atFar.closes > 0, "the far end hears closed");
  demandIgnored(far);
  far.close();
  near.close();
  near.pause(true);
  near.pause(false);
  await bench.quiet();
  demand(atNear.closes === 1, `the end that closed heard closed ${atNear.closes} times`);
  demand(atFar.closes === 1, `the far end heard closed ${atFar.closes} times`);
  demand(atNear.late + atFar.late === 0, "data or drain comes after closed");
  demand(atNear.error === undefined, "a polite close reports an error to the end that closed");
}

async function checkCloseInData(bench: Bench): Promise<void> {
  const { near, far, atNear, atFar } = await bench.observed();
  atNear.onData = () => near.close();
  for (let i = 0; i < 50; i++) far.write(new Uint8Array(Math.min(1_000, far.mtu || 1_000)));
  if (near.kind === "datagram") {
    await bench.until(() => atNear.bytes > 0, "a datagram arrives");
    far.close();
  }
  await bench.until(() => atNear.closes > 0 && atFar.closes > 0, "both ends hear closed");
  await bench.quiet();
  demand(atNear.closes === 1 && atFar.closes === 1, "closed is called more than once");
  demand(atNear.late + atFar.late === 0, "data or drain comes after closed");
}

async function checkFlush(bench: Bench): Promise<void> {
  const { near, atFar } = await bench.observed();
  const total = Math.min(bench.setup.trafficBytes ?? TRAFFIC_BYTES, PIECE_BYTES);
  near.write(patternAt(0, total));
  near.close();
  await bench.until(() => atFar.closes === 1, "the far end hears closed");
  demand(
    atFar.bytes === total,
    `closed came after ${atFar.bytes} of ${total} bytes that were written before`,
  );
  demand(atFar.error === undefined, "a polite close reports an error to the far end");
}

async function checkCloseWhenFull(bench: Bench): Promise<void> {
  const { near, far, atNear, atFar } = await bench.observed();
  atFar.keepsBytes = false;
  far.pause(true);
  fill(near, bench.setup.unreadBytesMax ?? UNREAD_BYTES_MAX);
  near.close();
  await bench.until(() => atNear.closes > 0, "the end that closes hears closed");
  far.pause(false);
  await bench.until(() => atFar.closes > 0, "the far end hears closed once it reads");
  await bench.quiet();
  demand(atNear.late === 0 && atNear.closes === 1, "a drain that was due comes after closed");
}

async function checkDeadBeforeOpen(bench: Bench): Promise<void> {
  const { near, far } = await bench.connect();
  near.close();
  far.close();
  await bench.quiet();
  const [atNear, atFar] = [new Observer(near), new Observer(far)];
  await bench.until(
    () => atNear.closes + atFar.closes >= 2,
    "pipes that died before open say closed after it",
  );
  await bench.quiet();
  demand(atNear.closes === 1 && atFar.closes === 1, "closed is called more than once");
}

async function checkVanished(bench: Bench): Promise<void> {
  const dialler = await bench.start(bench.setup.dialConfig);
  const { pipe, vanish } = await bench.setup.openVanishing!(dialler);
  const seen = new Observer(pipe);
  vanish();
  await bench.until(() => seen.closes > 0, "the far end vanishes and the pipe says closed");
  await bench.quiet();
  demand(seen.closes === 1, `closed was called ${seen.closes} times`);
}

export const flowChecks: readonly Check<TransportSetup>[] = [
  {
    name: "bytes arrive whole and in order both ways, and write only borrows them",
    kind: "stream",
    run: onBench(checkStream),
  },
  {
    name: "what is written before the far end opens waits for it",
    kind: "stream",
    run: onBench(checkBeforeOpen),
  },
  {
    name: "a slow reader bounds the writer, and one drain follows",
    kind: "stream",
    run: onBench(checkSlowReader),
  },
  { name: "pause stops delivery", kind: "stream", run: onBench(checkPause) },
  {
    name: "datagrams up to the mtu arrive whole or not at all, and write only borrows them",
    kind: "datagram",
    run: onBench(checkDatagrams),
  },
  { name: "a datagram beyond the mtu is refused or dropped", kind: "datagram", run: onBench(checkTooBig) },
  {
    name: "a pipe with answerMs tells of each datagram when it has left, and no other does",
    kind: "datagram",
    run: onBench(checkLeft),
  },
];

export const closeChecks: readonly Check<TransportSetup>[] = [
  { name: "close is idempotent, closed comes exactly once at each end and last", run: onBench(checkClose) },
  { name: "nothing follows a close from within data", run: onBench(checkCloseInData) },
  { name: "what was written before close arrives", kind: "stream", run: onBench(checkFlush) },
  {
    name: "closed while full: no drain follows closed",
    kind: "stream",
    run: onBench(checkCloseWhenFull),
  },
  { name: "a pipe that died before it was opened says so once", run: onBench(checkDeadBeforeOpen) },
  {
    name: "a far end that vanishes closes the pipe",
    applies: ({ openVanishing }) => openVanishing !== undefined,
    run: onBench(checkVanished),
  },
];
