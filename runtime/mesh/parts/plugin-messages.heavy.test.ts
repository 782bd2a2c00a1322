/** Messages of plugins in a flood of neighbours. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { doorId, DoorRegard } from "../../kernel/testing.ts";
import { PluginMessages, SENDERS_MAX } from "./plugin-messages.ts";
import { encodePluginMessage } from "../../wire/plugin-messages.ts";

test("100,000 throw-away neighbours that say something and go leave a bounded table, and others have what they may send", () => {
  const regard = new DoorRegard();
  const [linked, newcomer] = [doorId(1), doorId(2)];
  regard.linked.add(linked);
  regard.sources.set(newcomer, "10.0.0.7");
  const messages = new PluginMessages({
    clock: new ManualClock(),
    metrics: new Metrics(),
    regard,
    send: () => true,
  });
  let heard = 0;
  messages.subscribe("transport.tor", () => heard++);
  const frame = encodePluginMessage("transport.tor", Uint8Array.of(1));
  const say = (from: NodeId, count: number) => {
    heard = 0;
    for (let n = 0; n < count; n++) messages.onFrame(from, frame);
    return heard;
  };
  expect([say(linked, 40), say(newcomer, 40)]).toEqual([32, 32]);
  for (let n = 0; n < 100_000; n++) {
    messages.onFrame(doorId(1_000 + n), frame);
    messages.onPeerDown(doorId(1_000 + n));
  }
  expect(messages.size).toBeLessThanOrEqual(SENDERS_MAX);
  // Neither was forgotten, or it could send all of it again.
  expect([say(linked, 40), say(newcomer, 40), say(doorId(3), 40)]).toEqual([0, 0, 32]);
});
