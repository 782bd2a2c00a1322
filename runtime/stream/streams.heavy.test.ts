/** Floods of sessions by ids that cost nothing. */
import { describe, expect, test } from "bun:test";
import { SESSIONS_KEPT, SESSIONS_MAX, StreamReset } from "./constants.ts";
import { type End, StreamNet } from "./testing.ts";

describe("hostile packets", () => {
  test("node ids that cost nothing take three quarters of the places, and whom this node knows gets in", async () => {
    const net = new StreamNet(16);
    net.b.streams.handle("test", (stream) => stream.accept());
    const open = (end: End) =>
      net.settle(
        end.streams.open(net.b.id, "test").then(
          () => "open",
          (error: { code: string }) => error.code,
        ),
      );
    for (let i = 0; i < SESSIONS_MAX - SESSIONS_KEPT; i++) expect(await open(net.add())).toBe("open");
    expect(await open(net.add())).not.toBe("open");
    const friend = net.add();
    net.b.known.add(friend.id);
    expect(await open(friend)).toBe("open");
    expect(net.b.streams.sessionCount).toBe(SESSIONS_MAX - SESSIONS_KEPT + 1);
  });

  test("sessions of throw-away ids that hold no stream give way to a newcomer's, and those in use never", async () => {
    const net = new StreamNet(18);
    net.b.streams.handle("test", (stream) => stream.accept());
    const open = async (end: End) =>
      await net.settle(end.streams.open(net.b.id, "test").catch(() => undefined));
    expect(await open(net.add())).toBeDefined();
    for (let i = 0; i < 2 * SESSIONS_MAX; i++) {
      const stream = await open(net.add());
      expect([i, stream !== undefined]).toEqual([i, true]);
      stream!.reset(StreamReset.cancelled);
      await net.clock.advance(20);
      expect(net.b.streams.sessionCount).toBeLessThanOrEqual(SESSIONS_MAX - SESSIONS_KEPT);
    }
    expect([(await open(net.add())) !== undefined, net.b.streams.streamCount]).toEqual([true, 2]);
  });
});
