/** Flows over a channel in memory: order, bounds, endings, and what a far end must not do. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Flows, FLOWS_MAX, type FlowHandlers, type FlowSource } from "./flow.ts";
import { FlowPipe, type FlowProperties } from "./flow-pipe.ts";
import { openPump } from "./flow-pump.ts";
import { FrameBed } from "./testing.ts";
import { DATA_BYTES_MAX, encodeU32, FLOW_WINDOW_BYTES, PluginFrame } from "./frames.ts";

/** Only the flows of both ends. */
class Bed {
  readonly #frames = new FrameBed();
  readonly clock = this.#frames.clock;
  readonly errors = this.#frames.errors;
  readonly node: Flows = this.#frames.node.flows;
  readonly plugin: Flows = this.#frames.plugin.flows;

  settle = (): Promise<void> => this.#frames.settle();
}

const facts = (kind: "stream" | "datagram"): FlowProperties => ({
  kind,
  direction: "inbound",
  remote: "x://far",
  local: "x://near",
  linkClass: "fast",
  isAnonymous: false,
  patienceMs: 0,
  rateBitsPerSecond: 1e6,
  mtu: kind === "stream" ? 0 : 1_200,
});

/** The real thing: takes what it is told to take, and says what it is told to say. */
class Source implements FlowSource {
  handlers: FlowHandlers | undefined;
  readonly taken: Uint8Array[] = [];
  isFull = false;
  isPaused = false;
  closes = 0;
  resets = 0;
  provens = 0;
  ends = 0;
  open(handlers: FlowHandlers): void {
    this.handlers = handlers;
  }
  write(bytes: Uint8Array): boolean {
    this.taken.push(bytes.slice());
    return !this.isFull;
  }
  pause(paused: boolean): void {
    this.isPaused = paused;
  }
  close(): void {
    if (this.closes++ === 0) this.handlers?.closed();
  }
  reset(): void {
    this.resets++;
    this.close();
  }
  end(): void {
    this.ends++;
  }
  proven(): void {
    this.provens++;
  }
}

function joined(kind: "stream" | "datagram" = "stream", more: Partial<FlowProperties> = {}) {
  const bed = new Bed();
  const source = new Source();
  const id = bed.plugin.newId();
  bed.node.checkForeignId(id);
  openPump(bed.plugin, id, source, kind);
  const pipe = new FlowPipe(bed.node, id, { ...facts(kind), ...more });
  const seen = {
    pieces: [] as Uint8Array[],
    drains: 0,
    left: 0,
    ends: 0,
    closed: [] as (Error | undefined)[],
  };
  const open = () =>
    pipe.open({
      data: (bytes) => void seen.pieces.push(bytes.slice()),
      end: () => void seen.ends++,
      drain: () => void seen.drains++,
      left: () => void seen.left++,
      closed: (error) => void seen.closed.push(error),
    });
  return { bed, source, pipe, seen, open, id };
}
const total = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, { length }) => sum + length, 0);

describe("a stream", () => {
  test("property: whatever is written, paused and drained, all of it arrives in order, and no end holds more than a window", async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("say" as const), bytes: fc.integer({ min: 0, max: 200_000 }) }),
      fc.record({ do: fc.constant("write" as const), bytes: fc.integer({ min: 0, max: 200_000 }) }),
      fc.record({
        do: fc.constantFrom("pause" as const, "resume" as const, "fill" as const, "drain" as const),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { bed, source, pipe, seen, open } = joined();
        open();
        let said = 0;
        let wrote = 0;
        for (const one of steps) {
          if (one.do === "say" && !source.isPaused) {
            source.handlers!.data(new Uint8Array(one.bytes).fill(said));
            said += one.bytes;
          }
          if (one.do === "write") {
            pipe.write(new Uint8Array(one.bytes));
            wrote += one.bytes;
          }
          if (one.do === "pause") pipe.pause(true);
          if (one.do === "resume") pipe.pause(false);
          if (one.do === "fill") source.isFull = true;
          if (one.do === "drain") {
            source.isFull = false;
            source.handlers!.drain();
          }
          await bed.settle();
          expect(total(source.taken)).toBeLessThanOrEqual(wrote);
        }
        pipe.pause(false);
        source.isFull = false;
        source.handlers!.drain();
        await bed.settle();
        expect([total(seen.pieces), total(source.taken)]).toEqual([said, wrote]);
        expect(bed.errors).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test("a reader that takes nothing stops the source after a window; going on loses nothing", async () => {
    const { bed, source, pipe, seen, open } = joined();
    open();
    pipe.pause(true);
    let said = 0;
    while (!source.isPaused) {
      source.handlers!.data(new Uint8Array(50_000));
      said += 50_000;
      await bed.settle();
    }
    expect(said).toBeLessThanOrEqual(FLOW_WINDOW_BYTES + 50_000);
    expect(seen.pieces).toEqual([]);
    pipe.pause(false);
    await bed.settle();
    expect(total(seen.pieces)).toBe(said);
    expect(source.isPaused as boolean).toBe(false);
  });

  test("a source that takes nothing makes write say stop; one drain follows", async () => {
    const { bed, source, pipe, seen, open } = joined();
    open();
    source.isFull = true;
    let wrote = 0;
    for (let more = true; more;) {
      more = pipe.write(new Uint8Array(60_000));
      wrote += 60_000;
      await bed.settle();
    }
    expect([seen.drains, total(source.taken)]).toEqual([0, wrote - pipe.bufferedBytes]);
    source.isFull = false;
    source.handlers!.drain();
    await bed.settle();
    expect([seen.drains, total(source.taken), pipe.bufferedBytes]).toEqual([1, wrote, 0]);
  });

  test("close sends what waits; each end hears of it once, and both forget the flow", async () => {
    const { bed, source, pipe, seen, open } = joined();
    open();
    source.isFull = true;
    while (pipe.write(new Uint8Array(100_000)));
    const wrote = total(source.taken) + pipe.bufferedBytes;
    pipe.close();
    pipe.close();
    source.isFull = false;
    await bed.settle();
    source.handlers!.drain();
    await bed.settle();
    expect(total(source.taken)).toBeGreaterThanOrEqual(wrote);
    expect([source.closes, seen.closed]).toEqual([1, [undefined]]);
    expect([bed.node.size, bed.plugin.size]).toEqual([0, 0]);
  });

  test("a far end that never answers a close is given up after two seconds", async () => {
    const { bed, source, pipe, seen, open } = joined();
    source.close = () => {};
    open();
    pipe.close();
    await bed.settle();
    expect(seen.closed).toEqual([]);
    await bed.clock.advance(2_000);
    await bed.settle();
    expect([seen.closed, source.resets]).toEqual([[undefined], 1]);
  });

  test("an end comes after all data, both ways, and closes nothing", async () => {
    const { bed, source, pipe, seen, open } = joined();
    source.handlers!.data(new Uint8Array(9));
    source.handlers!.end!();
    await bed.settle();
    open();
    await bed.settle();
    pipe.write(new Uint8Array(5));
    pipe.end();
    pipe.end();
    await bed.settle();
    expect([total(seen.pieces), seen.ends, total(source.taken), source.ends, seen.closed]).toEqual([
      9,
      1,
      5,
      1,
      [],
    ]);
  });

  test("when the channel goes, both ends are told", async () => {
    const { bed, source, seen, open } = joined();
    open();
    bed.node.port.close();
    await bed.settle();
    expect([seen.closed.length, source.resets]).toEqual([1, 1]);
  });
});

describe("datagrams", () => {
  test("go whole; without room they are lost, and nothing waits", async () => {
    const { bed, source, pipe, seen, open } = joined("datagram");
    open();
    for (let i = 0; i < 1_000; i++) pipe.write(new Uint8Array(1_200));
    expect(pipe.bufferedBytes).toBe(0);
    await bed.settle();
    expect(total(source.taken)).toBeLessThanOrEqual(FLOW_WINDOW_BYTES);
    expect(source.taken.every(({ length }) => length === 1_200)).toBe(true);
    source.handlers!.data(new Uint8Array(7));
    await bed.settle();
    expect(seen.pieces.map(({ length }) => length)).toEqual([7]);
  });

  test("proven counts only while nothing later was handed over", async () => {
    const { bed, source, pipe, open } = joined("datagram");
    open();
    source.handlers!.data(new Uint8Array(1));
    await bed.settle();
    pipe.proven();
    await bed.settle();
    expect(source.provens).toBe(1);
    source.handlers!.data(new Uint8Array(1));
    await bed.settle();
    pipe.proven();
    source.handlers!.data(new Uint8Array(1));
    await bed.settle();
    expect(source.provens).toBe(1);
  });
});

describe("a far end that breaks the rules loses its channel", () => {
  const breakIt = async (send: (bed: Bed, id: number) => void, errors: number) => {
    const { bed, open, pipe, id } = joined();
    open();
    pipe.pause(true);
    send(bed, id);
    await bed.settle();
    expect(bed.errors.filter((error) => error?.code === "GODWIT_DECODE")).toHaveLength(errors);
  };

  test("data beyond its room", () =>
    breakIt((bed, id) => {
      for (let i = 0; i < 20; i++) bed.plugin.port.send(PluginFrame.data, id, new Uint8Array(DATA_BYTES_MAX));
    }, 1));
  test("empty data without end", () =>
    breakIt((bed, id) => {
      for (let i = 0; i < FLOW_WINDOW_BYTES / 64 + 2; i++) bed.plugin.port.send(PluginFrame.data, id);
    }, 1));
  test("data that is too large", () =>
    breakIt((bed, id) => bed.plugin.port.send(PluginFrame.data, id, new Uint8Array(DATA_BYTES_MAX + 1)), 1));
  test("credit for what was not sent", () =>
    breakIt((bed, id) => bed.plugin.port.send(PluginFrame.credit, id, encodeU32(1)), 1));
  test("credit of nothing", () =>
    breakIt((bed, id) => bed.plugin.port.send(PluginFrame.credit, id, encodeU32(0)), 1));
  test("frames of a flow that is over only crossed", () =>
    breakIt((bed) => bed.plugin.port.send(PluginFrame.data, 77, new Uint8Array(9)), 0));

  test("numbers of flows: the far end's own, new, and not too many", () => {
    const { bed, id } = joined();
    for (const number of [0, 2, id]) expect(() => bed.node.checkForeignId(number)).toThrow();
    const many = new Bed();
    for (let i = 0; i < FLOWS_MAX; i++) openPump(many.plugin, many.plugin.newId(), new Source(), "stream");
    expect(() => many.plugin.newId()).toThrow("at most 4096");
  });
});

describe("datagrams that wait at the far end", () => {
  test("are told of when they leave, each once and in order, and those that were dropped here in their place", async () => {
    const { bed, source, pipe, seen, open } = joined("datagram", { answerMs: 500 });
    open();
    let wrote = 0;
    // More than a window: the rest is dropped.
    while (wrote < 600) {
      pipe.write(new Uint8Array(1_200));
      wrote++;
    }
    expect(seen.left).toBe(0);
    await bed.settle();
    const taken = source.taken.length;
    expect(taken).toBeLessThan(wrote);
    expect(seen.left).toBe(0);
    for (let i = 0; i < taken - 1; i++) source.handlers!.left!();
    await bed.settle();
    expect(seen.left).toBe(taken - 1);
    source.handlers!.left!();
    await bed.settle();
    expect([seen.left, bed.errors]).toEqual([wrote, []]);
    // More than were sent mean nothing.
    for (let i = 0; i < 10; i++) source.handlers!.left!();
    await bed.settle();
    expect([seen.left, bed.errors]).toEqual([wrote, []]);
  });

  test("a plugin that says so of a pipe that was not to, or of more than there can be, is at fault", async () => {
    for (const [more, count] of [
      [{}, 1],
      [{ answerMs: 1 }, 5_000],
    ] as const) {
      const { bed, open, id } = joined("datagram", more);
      open();
      bed.plugin.port.send(PluginFrame.left, id, encodeU32(count));
      await bed.settle();
      expect(bed.errors.map((error) => error?.code)).toEqual(["GODWIT_DECODE"]);
    }
  });
});
