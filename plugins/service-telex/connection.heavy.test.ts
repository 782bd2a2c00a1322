/** A flood on one connection. */
import { describe, expect, test } from "bun:test";
import { BACKLOG_BYTES, UNREAD_BYTES_MAX } from "./connection.ts";
import { handled, openLine, telegram } from "./testing.ts";

describe("bounds", () => {
  test("reading stops while answers cannot leave, and goes on", async () => {
    const { connection, wire, clock } = openLine();
    const good = new TextEncoder().encode(telegram(1));
    connection.onData(good);
    await handled(connection, clock);
    wire.room = 0;
    const flood = new TextEncoder().encode("{}\n".repeat(20_000));
    for (let i = 0; i < 3; i++) connection.onData(flood);
    await handled(connection, clock);
    expect(wire.isPaused).toBe(true);
    expect(connection.isBacklogged).toBe(true);
    const before = wire.written.length;
    wire.room = Number.POSITIVE_INFINITY;
    connection.onDrain();
    await handled(connection, clock);
    expect(wire.isPaused).toBe(false);
    expect(wire.written.length - before).toBeGreaterThan(BACKLOG_BYTES);
    expect(flood.length * 3).toBeGreaterThan(UNREAD_BYTES_MAX);
  });
});
