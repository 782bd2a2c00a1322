/** The stream machine over a medium that does what a test says: order, bounds, endings, and who is told what, once. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../testkit/clock.ts";
import { StreamCore, type StreamCoreOptions, type StreamMedium, StreamPipe } from "./stream-pipe.ts";

const KIB = 1_024;
const HELD_MAX = 4 * KIB * KIB;

/** Takes so many bytes and then no more, and writes down what it is told. */
class Medium implements StreamMedium {
  room = Number.POSITIVE_INFINITY;
  readonly taken: number[] = [];
  readonly calls: string[] = [];
  isReading = false;
  bufferedBytes = 0;
  /** With a queue of its own: takes everything. */
  isQueueing = false;
  end?: () => void;

  constructor(hasHalves = false) {
    if (hasHalves) this.end = () => void this.calls.push("end");
  }

  write(bytes: Uint8Array): number {
    const count = this.isQueueing ? bytes.length : Math.min(this.room, bytes.length);
    if (this.isQueueing) this.bufferedBytes += count;
    this.room -= count;
    for (const byte of bytes.subarray(0, count)) this.taken.push(byte);
    return count;
  }
  pause(): void {
    this.isReading = false;
  }
  resume(): void {
    this.isReading = true;
  }
  shut(): void {
    this.calls.push("shut");
  }
  destroy(): void {
    this.calls.push("destroy");
  }
}

function make(options: StreamCoreOptions = {}, medium = new Medium()) {
  const clock = new ManualClock();
  const stream = new StreamCore(medium, { clock, highWaterBytes: 1_000, ...options });
  const seen = { events: [] as string[], bytes: [] as number[], onData() {} };
  const open = () =>
    stream.open({
      data(bytes) {
        for (const byte of bytes) seen.bytes.push(byte);
        seen.events.push(`data ${bytes.length}`);
        seen.onData();
      },
      end: () => void seen.events.push("end"),
      drain: () => void seen.events.push("drain"),
      closed: (error) => void seen.events.push(`closed${error === undefined ? "" : ` ${error.message}`}`),
    });
  return { clock, medium, stream, seen, open };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));
const piece = (length: number, value = 1) => new Uint8Array(length).fill(value);

describe("writing", () => {
  test("while full: what waits is copied, goes in order, and one drain follows all that said stop", () => {
    const { medium, stream, seen, open } = make();
    open();
    medium.room = 3;
    const borrowed = Buffer.from([1, 2, 3, 4, 5]);
    expect(stream.write(borrowed)).toBe(true);
    borrowed.fill(9);
    expect(stream.write(piece(2_000, 6))).toBe(false);
    expect(stream.write(piece(1, 7))).toBe(false);
    expect([medium.taken, stream.bufferedBytes]).toEqual([[1, 2, 3], 2_003]);
    medium.room = 10_000;
    stream.onDrain();
    stream.onDrain();
    expect(medium.taken.slice(3)).toEqual([4, 5, ...piece(2_000, 6), 7]);
    expect([seen.events, stream.bufferedBytes]).toEqual([["drain"], 0]);
    expect(stream.write(piece(1))).toBe(true);
  });

  test("a write between full and drained mutes nobody: the drain is not lost", () => {
    const { medium, stream, seen, open } = make();
    open();
    medium.room = 0;
    expect(stream.write(piece(1_200))).toBe(false);
    medium.room = 400;
    stream.onDrain();
    // Below the mark, above half of it.
    expect(seen.events).toEqual([]);
    expect(stream.write(piece(1))).toBe(false);
    medium.room = 10_000;
    stream.onDrain();
    expect(seen.events).toEqual(["drain"]);
  });

  test("whoever wrote too much before it opened is told to go on after", async () => {
    const { medium, stream, seen, open } = make();
    medium.room = 0;
    expect(stream.write(piece(1_200))).toBe(false);
    medium.room = 10_000;
    stream.onDrain();
    open();
    expect(seen.events).toEqual([]);
    await turn();
    expect([seen.events, medium.isReading]).toEqual([["drain"], true]);
  });

  test("drains at the low-water mark that it was given", () => {
    const { medium, stream, seen, open } = make({ lowWaterBytes: 0 });
    open();
    medium.room = 0;
    stream.write(piece(1_200));
    medium.room = 1_199;
    stream.onDrain();
    expect(seen.events).toEqual([]);
    medium.room = 1;
    stream.onDrain();
    expect(seen.events).toEqual(["drain"]);
  });

  test("a medium with a queue of its own: that counts, and its emptying drains", () => {
    const { medium, stream, seen, open } = make();
    medium.isQueueing = true;
    open();
    expect(stream.write(piece(1_000))).toBe(true);
    expect(stream.write(piece(1))).toBe(false);
    expect(stream.bufferedBytes).toBe(1_001);
    medium.bufferedBytes = 501;
    stream.onDrain();
    expect(seen.events).toEqual([]);
    medium.bufferedBytes = 500;
    stream.onDrain();
    expect(seen.events).toEqual(["drain"]);
  });
});

describe("reading", () => {
  test("before it is opened, and while paused, all is held and handed out in order; what it was lent it copied", async () => {
    const { medium, stream, seen, open } = make();
    const lent = Buffer.from([1, 2]);
    stream.onData(lent);
    lent.fill(9);
    expect(medium.isReading).toBe(false);
    open();
    // Came before what is held was handed out.
    stream.onData(piece(1, 3));
    expect(seen.bytes).toEqual([]);
    await turn();
    expect([seen.bytes, medium.isReading]).toEqual([[1, 2, 3], true]);
    stream.pause(true);
    stream.onData(piece(1, 4));
    expect([seen.bytes.length, medium.isReading]).toEqual([3, false]);
    stream.pause(false);
    expect([seen.bytes, medium.isReading]).toEqual([[1, 2, 3, 4], true]);
  });

  test("opening starts delivery, whatever pause said before", async () => {
    const { medium, stream, seen, open } = make();
    stream.pause(true);
    open();
    expect(medium.isReading).toBe(true);
    stream.onData(piece(1));
    await turn();
    expect(seen.events).toEqual(["data 1"]);
  });

  test("a handler that pauses in the midst gets nothing more; one that resumes there gets the rest afterwards", () => {
    const { stream, seen, open } = make();
    open();
    stream.pause(true);
    for (const value of [1, 2, 3, 4]) stream.onData(piece(1, value));
    seen.onData = () => stream.pause(true);
    stream.pause(false);
    expect(seen.bytes).toEqual([1]);
    let depth = 0;
    let deepest = 0;
    seen.onData = () => {
      deepest = Math.max(deepest, ++depth);
      stream.pause(true);
      stream.pause(false);
      if (seen.bytes.at(-1) === 4) stream.onData(piece(1, 5));
      depth--;
    };
    stream.pause(false);
    expect([seen.bytes, deepest]).toEqual([[1, 2, 3, 4, 5], 1]);
  });

  test.each([
    ["long pieces", 64 * KIB],
    ["pieces of one byte", 1],
    ["pieces of nothing", 0],
  ])("a medium that does not pause is cut, with %s, before it fills the memory", async (_, length) => {
    const { medium, stream, seen, open } = make();
    let given = 0;
    while (!stream.isOver) {
      stream.onData(new Uint8Array(length));
      given++;
      expect(given * (length + 64)).toBeLessThanOrEqual(HELD_MAX + length + 64);
    }
    open();
    await turn();
    expect([seen.events, medium.calls]).toEqual([
      ["closed the far end sent more than anybody read"],
      ["destroy"],
    ]);
  });
});

describe("closing", () => {
  test("while full: told at once, what waits still goes, then it shuts, and its end stops the deadline", async () => {
    const { clock, medium, stream, seen, open } = make();
    open();
    medium.room = 0;
    stream.write(piece(1_200));
    stream.pause(true);
    stream.close();
    expect(medium.isReading).toBe(true);
    stream.close();
    expect([stream.write(piece(5)), seen.events]).toEqual([true, []]);
    medium.isReading = false;
    stream.pause(false);
    stream.pause(true);
    expect(medium.isReading).toBe(false);
    await turn();
    expect([seen.events, medium.calls, clock.pendingDelays.length]).toEqual([["closed"], [], 1]);
    medium.room = 1_000;
    stream.onDrain();
    expect(medium.calls).toEqual([]);
    medium.room = 1_000;
    stream.onDrain();
    expect([medium.calls, medium.taken.length]).toEqual([["shut"], 1_200]);
    stream.onDrain();
    stream.onEnd();
    stream.onGone(new Error("reset"));
    stream.onGone();
    await turn();
    expect([seen.events, medium.calls, clock.pendingDelays.length, stream.bufferedBytes]).toEqual([
      ["closed"],
      ["shut"],
      0,
      0,
    ]);
  });

  test("a medium that takes nothing more is destroyed after a second", () => {
    const { clock, medium, stream, open } = make();
    open();
    medium.room = 0;
    stream.write(piece(10));
    stream.close();
    clock.advance(999);
    expect(medium.calls).toEqual([]);
    clock.advance(1);
    expect([medium.calls, stream.bufferedBytes]).toEqual([["destroy"], 0]);
    stream.cut();
    stream.onDrain();
    expect(medium.calls).toEqual(["destroy"]);
  });

  test("within data: nothing that is held comes after it", async () => {
    const { stream, seen, open } = make();
    open();
    stream.pause(true);
    for (const value of [1, 2, 3]) stream.onData(piece(1, value));
    seen.onData = () => stream.close();
    stream.pause(false);
    stream.onData(piece(1));
    await turn();
    expect(seen.events).toEqual(["data 1", "closed"]);
  });

  test("before it is opened: closed comes soon after the opening, never within it", async () => {
    const { stream, seen, open } = make();
    stream.onData(piece(5));
    stream.close();
    open();
    expect(seen.events).toEqual([]);
    await turn();
    expect(seen.events).toEqual(["closed"]);
  });

  test("of a far end that went, by a reader that holds what it will never read: it is told all the same", async () => {
    const { stream, seen, open } = make();
    open();
    stream.pause(true);
    stream.onData(piece(5));
    stream.onGone(new Error("reset"));
    await turn();
    expect(seen.events).toEqual([]);
    stream.close();
    stream.close();
    await turn();
    expect(seen.events).toEqual(["closed reset"]);
  });

  test("may wait for the medium to be gone, and no longer than it says", async () => {
    for (const end of ["gone", "deadline"]) {
      const { clock, medium, stream, seen, open } = make({ isClosedWhenGone: true, closeMs: 2_000 });
      open();
      stream.close();
      medium.isReading = false;
      stream.pause(false);
      expect(medium.isReading).toBe(false);
      clock.advance(1_999);
      await turn();
      expect(seen.events).toEqual([]);
      if (end === "gone") stream.onGone(new Error("it was closing"));
      else clock.advance(1);
      await turn();
      expect([seen.events, clock.pendingDelays.length]).toEqual([["closed"], 0]);
    }
  });

  test("of a medium that goes within shut needs no clock", async () => {
    const medium = new Medium();
    const stream: StreamCore = new StreamCore(medium);
    medium.shut = () => stream.onGone();
    const closes: unknown[] = [];
    stream.open({ data() {}, drain() {}, closed: (error) => closes.push(error) });
    stream.close();
    await turn();
    expect(closes).toEqual([undefined]);
  });
});

describe("the far end", () => {
  test("ends while the reader is paused: what is held is read first, however late, then closed comes", async () => {
    const { clock, medium, stream, seen, open } = make();
    open();
    stream.pause(true);
    stream.onData(piece(5));
    stream.onEnd();
    stream.onEnd();
    expect(medium.calls).toEqual(["shut"]);
    clock.advance(1_000);
    await turn();
    expect([seen.events, medium.calls]).toEqual([[], ["shut", "destroy"]]);
    stream.pause(false);
    await turn();
    expect(seen.events).toEqual(["data 5", "closed"]);
  });

  test("ends, and nothing is held: a paused reader is told", async () => {
    const { stream, seen, open } = make();
    open();
    stream.pause(true);
    stream.onEnd();
    await turn();
    expect(seen.events).toEqual(["closed"]);
  });

  test("ends with bytes waiting for it and a writer told to stop: closed, and no drain after it", async () => {
    const { medium, stream, seen, open } = make();
    open();
    medium.room = 0;
    stream.write(piece(2_000));
    stream.onEnd();
    stream.onDrain();
    await turn();
    stream.onDrain();
    expect([seen.events, stream.bufferedBytes]).toEqual([["closed"], 0]);
  });

  test("goes with an error: that is told, after what was held; nothing is after it", async () => {
    const { medium, stream, seen, open } = make();
    stream.onData(piece(5));
    stream.onGone(new Error("reset"));
    stream.onData(piece(5));
    stream.onEnd();
    open();
    await turn();
    stream.close();
    stream.pause(true);
    stream.pause(false);
    stream.cut(new Error("late"));
    await turn();
    expect([seen.events, medium.calls]).toEqual([["data 5", "closed reset"], []]);
  });
});

describe("a cut", () => {
  const reason = new Error("not wanted");
  test("before the opening, with bytes held and waiting: all of it is lost, closed comes with the reason", async () => {
    const { medium, stream, seen, open } = make();
    medium.room = 0;
    stream.write(piece(9));
    stream.onData(piece(9));
    stream.cut(reason);
    stream.cut(new Error("again"));
    open();
    await turn();
    expect([seen.events, medium.calls, stream.bufferedBytes]).toEqual([
      ["closed not wanted"],
      ["destroy"],
      0,
    ]);
  });

  test("within data and within drain", async () => {
    for (const when of ["data", "drain"]) {
      const { medium, stream, seen } = make();
      stream.open({
        data: () => (seen.events.push("data"), stream.cut(reason)),
        drain: () => (seen.events.push("drain"), stream.cut(reason)),
        closed: (error) => void seen.events.push(`closed ${error?.message}`),
      });
      medium.room = 0;
      stream.write(piece(2_000));
      stream.pause(true);
      for (let i = 0; i < 3; i++) stream.onData(piece(1));
      if (when === "data") stream.pause(false);
      medium.room = 9_000;
      stream.onDrain();
      await turn();
      expect([when, seen.events, medium.calls]).toEqual([when, [when, "closed not wanted"], ["destroy"]]);
    }
  });

  test("after a close: at once, and still without an error", async () => {
    const { clock, medium, stream, seen, open } = make({ isClosedWhenGone: true });
    open();
    medium.room = 0;
    stream.write(piece(9));
    stream.close();
    stream.cut(reason);
    await turn();
    expect([seen.events, medium.calls, clock.pendingDelays.length]).toEqual([["closed"], ["destroy"], 0]);
  });
});

describe("half of it", () => {
  test("our end goes after what waits, once, and nothing is written after it", () => {
    const { medium, stream, seen, open } = make({}, new Medium(true));
    open();
    medium.room = 0;
    stream.write(piece(2_000));
    stream.end();
    stream.end();
    expect([stream.write(piece(1)), medium.calls, stream.isWritable]).toEqual([true, [], false]);
    medium.room = 9_000;
    stream.onDrain();
    stream.onDrain();
    expect([medium.calls, medium.taken.length, seen.events]).toEqual([["end"], 2_000, []]);
    stream.onData(piece(3));
    expect(seen.events).toEqual(["data 3"]);
  });

  test("the far end's comes after its data, once; this end goes on, until the medium goes", async () => {
    const { medium, stream, seen, open } = make({}, new Medium(true));
    stream.onData(piece(4));
    stream.onEnd();
    stream.onEnd();
    open();
    await turn();
    stream.onEnd();
    expect(seen.events).toEqual(["data 4", "end"]);
    expect([stream.write(piece(2)), medium.taken.length]).toEqual([true, 2]);
    stream.end();
    stream.onGone();
    await turn();
    expect([seen.events, medium.calls]).toEqual([["data 4", "end", "closed"], ["end"]]);
  });

  test("an end and a close of the far end while paused: all in order once it reads", async () => {
    const { stream, seen, open } = make({}, new Medium(true));
    open();
    stream.pause(true);
    stream.onData(piece(4));
    stream.onEnd();
    stream.onGone();
    await turn();
    expect(seen.events).toEqual([]);
    stream.pause(false);
    await turn();
    expect(seen.events).toEqual(["data 4", "end", "closed"]);
  });

  test("after a close nothing of the far end's is told but that it is over", async () => {
    const { medium, stream, seen, open } = make({ isClosedWhenGone: true }, new Medium(true));
    open();
    stream.close();
    stream.onData(piece(4));
    stream.onEnd();
    stream.onGone();
    await turn();
    expect([seen.events, medium.calls]).toEqual([["closed"], ["shut"]]);
  });

  test("of a medium without halves an end is a close", async () => {
    const { medium, stream, seen, open } = make();
    open();
    stream.end();
    await turn();
    expect([seen.events, medium.calls]).toEqual([["closed"], ["shut"]]);
  });
});

test("a list of streams loses one as soon as it is over, once", () => {
  const over: string[] = [];
  for (const how of ["close", "cut", "onEnd", "onGone"] as const) {
    const { stream } = make({ onOver: () => void over.push(how) });
    stream[how]();
    expect(over.at(-1)).toBe(how);
    stream.close();
    stream.cut();
    stream.onGone();
  }
  expect(over).toHaveLength(4);
});

test("as a pipe it says what it was told of itself, and tells its transport what the link proves", () => {
  let provens = 0;
  const facts = { direction: "inbound", local: "x://a", remote: "x://b", linkClass: "slow" } as const;
  const pipe = new StreamPipe(
    new Medium(),
    { ...facts, rateBitsPerSecond: 1_200 },
    { onProven: () => provens++ },
  );
  pipe.proven();
  expect(provens).toBe(1);
  expect(pipe).toMatchObject({
    ...facts,
    kind: "stream",
    mtu: 0,
    rateBitsPerSecond: 1_200,
    isAnonymous: false,
    patienceMs: 0,
  });
});

/** Whatever happens in whatever order: held against what anybody would say of a stream. */
test("property: bytes keep their order both ways, nobody who was told to stop is forgotten, and closed is the last word, once", async () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant("write" as const), n: fc.integer({ min: 0, max: 900 }) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant("room" as const), n: fc.integer({ min: 0, max: 900 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("data" as const), n: fc.integer({ min: 0, max: 50 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom("pause" as const, "resume" as const, "turn" as const, "open" as const),
        n: fc.constant(0),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constantFrom(
          "end" as const,
          "close" as const,
          "cut" as const,
          "farEnd" as const,
          "gone" as const,
        ),
        n: fc.constant(0),
      }),
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 60 }), async (hasHalves, steps) => {
      const { medium, stream, seen, open } = make({}, new Medium(hasHalves));
      medium.room = 0;
      const written: number[] = [];
      const delivered: number[] = [];
      let isOpened = false;
      let mustDrain = false;
      const drains = () => seen.events.filter((event) => event === "drain").length;
      let drainsBefore = 0;
      for (const { do: act, n } of steps) {
        if (act === "write") {
          const bytes = new Uint8Array(n).map((_, at) => (written.length + at) & 0xff);
          const isTaken = stream.isWritable;
          const goesOn = stream.write(bytes);
          bytes.fill(0xee);
          if (isTaken) written.push(...bytes.map((_, at) => (written.length + at) & 0xff));
          if (!goesOn && !mustDrain) [mustDrain, drainsBefore] = [true, drains()];
        } else if (act === "room") {
          medium.room = n;
          stream.onDrain();
        } else if (act === "data") {
          const bytes = new Uint8Array(n).map((_, at) => (delivered.length + at) & 0xff);
          if (stream.isReadable) delivered.push(...bytes);
          stream.onData(bytes);
          bytes.fill(0xee);
        } else if (act === "open") {
          if (!isOpened) open();
          isOpened = true;
        } else if (act === "pause") stream.pause(true);
        else if (act === "resume") stream.pause(false);
        else if (act === "end") stream.end();
        else if (act === "close") stream.close();
        else if (act === "cut") stream.cut(new Error("cut"));
        else if (act === "farEnd") stream.onEnd();
        else if (act === "gone") stream.onGone();
        else await turn();
        if (mustDrain && drains() > drainsBefore) mustDrain = false;
        expect(medium.taken).toEqual(written.slice(0, medium.taken.length));
        expect(seen.bytes).toEqual(delivered.slice(0, seen.bytes.length));
      }
      if (!isOpened) open();
      stream.pause(false);
      medium.room = Number.POSITIVE_INFINITY;
      stream.onDrain();
      await turn();
      if (stream.isWritable) {
        expect([medium.taken.length, seen.bytes.length]).toEqual([written.length, delivered.length]);
        if (mustDrain) expect(drains()).toBe(drainsBefore + 1);
      }
      stream.close();
      stream.onGone();
      await turn();
      expect(seen.events.filter((event) => event.startsWith("closed"))).toHaveLength(1);
      expect(seen.events.at(-1)).toStartWith("closed");
      expect(medium.calls.filter((call) => call === "shut").length).toBeLessThanOrEqual(1);
      expect(medium.calls.filter((call) => call === "destroy").length).toBeLessThanOrEqual(1);
      expect(medium.calls.filter((call) => call === "end").length).toBeLessThanOrEqual(1);
    }),
    { numRuns: 300 },
  );
});
