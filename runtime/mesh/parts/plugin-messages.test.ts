import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { EARLIER_RUN } from "../../kernel/room.ts";
import { PluginMessages } from "./plugin-messages.ts";
import { PLUGIN_MESSAGE_BYTES_MAX } from "../../wire/constants.ts";
import { decodePluginMessage, encodePluginMessage } from "../../wire/plugin-messages.ts";

const peer = "p" as NodeId;

function rig() {
  const clock = new ManualClock();
  const sent: Uint8Array[] = [];
  const messages = new PluginMessages({
    clock,
    metrics: new Metrics(),
    regard: { worthOf: () => "none", shareOf: () => EARLIER_RUN },
    send: (_to, frame) => sent.push(frame) > 0,
  });
  const heard: [string, string][] = [];
  const stop = messages.subscribe("transport.wireguard", (from, message) =>
    heard.push([from, Buffer.from(message).toString()]),
  );
  return { clock, sent, messages, heard, stop };
}

test("the frame, byte for byte, and what is refused", () => {
  const frame = encodePluginMessage("transport.tor", Uint8Array.of(1, 2));
  expect(Buffer.from(frame).toString("hex")).toBe("610d7472616e73706f72742e746f720102");
  expect(decodePluginMessage(frame)).toEqual({ plugin: "transport.tor", message: Uint8Array.of(1, 2) });
  for (const bad of [
    Uint8Array.of(0x61),
    encodePluginMessage("nonsense", Uint8Array.of(1)),
    encodePluginMessage("a.b", new Uint8Array(PLUGIN_MESSAGE_BYTES_MAX + 1)),
  ])
    expect(() => decodePluginMessage(bad)).toThrow(expect.objectContaining({ code: "GODWIT_DECODE" }));
});

test("what is sent arrives at the handlers of that plugin alone, until they end", () => {
  const { messages, sent, heard, stop } = rig();
  expect(messages.send(peer, "transport.wireguard", Buffer.from("hello"))).toBe(true);
  expect(messages.send(peer, "transport.tor", Buffer.from("other"))).toBe(true);
  expect(messages.send(peer, "transport.tor", new Uint8Array(PLUGIN_MESSAGE_BYTES_MAX + 1))).toBe(false);
  for (const frame of sent) messages.onFrame(peer, frame);
  stop();
  messages.onFrame(peer, sent[0]!);
  expect(heard).toEqual([["p", "hello"]]);
});

test("a neighbour that floods is cut to one a second, and gains nothing by coming again", async () => {
  const { messages, heard, clock } = rig();
  const frame = encodePluginMessage("transport.wireguard", Buffer.from("x"));
  for (let i = 0; i < 100; i++) messages.onFrame(peer, frame);
  expect(heard).toHaveLength(32);
  messages.onPeerDown(peer);
  messages.onFrame(peer, frame);
  expect(heard).toHaveLength(32);
  await clock.advance(3_000);
  for (let i = 0; i < 100; i++) messages.onFrame(peer, frame);
  expect(heard).toHaveLength(35);
});
