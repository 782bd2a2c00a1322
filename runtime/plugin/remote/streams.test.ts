/** Streams of a plugin outside of the node's thread: how one becomes a flow, and what becomes of one that nobody takes. */
import { expect, test } from "bun:test";
import type { IncomingMeshStream } from "@godwit/sdk";
import { type FakeStream, FakeStreams } from "@godwit/sdk/testkit";
import { Scope } from "../../kernel/scope.ts";
import { FLOWS_MAX } from "../frames/flow.ts";
import { decodeParts, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import type { ContextParts } from "../guest/parts.ts";
import { createStreams } from "../guest/streams.ts";
import type { RemoteParts } from "./parts.ts";
import { addStreamCalls, HandlerCount } from "./streams.ts";
import { turns } from "./testing.ts";

const far = "b".repeat(52);

function rig() {
  const streams = new FakeStreams();
  const bed = new FrameBed(true);
  addStreamCalls(bed.node as unknown as RemoteParts, "streams", streams, new HandlerCount());
  const guest = createStreams(
    { ...bed.plugin, scope: new Scope("guest") } as unknown as ContextParts,
    "streams",
  );
  bed.onOther = (end, type, id, body) => {
    if (end !== "plugin" || type !== PluginFrame.open) return;
    const { json, bytes } = decodeParts(body);
    guest.onOpen(id, json as object, bytes.slice());
  };
  return { streams, bed, guest: guest.streams };
}
const code = (error: unknown) => (error as { code?: string }).code;
const outcome = (opening: Promise<FakeStream>): Promise<unknown> => opening.then(() => "opened", code);

test("a plugin registers a bounded number of handlers", () => {
  const { guest } = rig();
  for (let i = 0; i < 64; i++) guest.onStream(`service-${i}`, () => {});
  expect(() => guest.onStream("one-more", () => {})).toThrow("at most 64 handlers");
});

test("a stream that a plugin ends without accepting it is refused, not taken and ended", async () => {
  for (const end of ["end", "reset"] as const) {
    const { streams, guest, bed } = rig();
    guest.onStream("log", (stream: IncomingMeshStream) => stream[end]());
    const opening = outcome(streams.receiveStream("log", far));
    await turns();
    if (end === "end") bed.plugin.port.send(PluginFrame.close, 2, Uint8Array.of(0));
    expect(await opening).toBe("GODWIT_STREAM_REFUSED");
    await turns();
    expect(bed.node.flows.size).toBe(0);
  }
});

test("one that was accepted ends politely, and what was said before arrives", async () => {
  const { streams, guest, bed } = rig();
  guest.onStream("log", (stream) => {
    stream.accept();
    stream.open({ data() {}, end() {}, drain() {}, closed() {} });
    stream.write(Buffer.from("words"));
    stream.end();
  });
  const stream = await streams.receiveStream("log", far);
  const seen = { text: "", ended: false, closed: "no" };
  stream.open({
    data: (bytes) => void (seen.text += Buffer.from(bytes).toString()),
    end() {
      seen.ended = true;
      stream.end();
    },
    drain() {},
    closed: (error) => void (seen.closed = error === undefined ? "politely" : error.message),
  });
  await turns();
  expect(seen).toEqual({ text: "words", ended: true, closed: "politely" });
  expect(bed.node.flows.size).toBe(0);
});

test("a stream for which a plugin has no room is reset, and not left waiting, whoever opened it", async () => {
  const { streams, guest, bed } = rig();
  guest.onStream("log", (stream) => stream.accept());
  let atFar: FakeStream | undefined;
  streams.answerStream = (stream) => {
    atFar = stream;
    stream.accept();
  };
  const none = { onData() {}, onCredit() {}, onProven() {}, onLeft() {}, onClose() {}, onClosed() {} };
  for (let i = 0; i < FLOWS_MAX; i++) bed.node.flows.add(2 * i + 2, { ...none, onEnd() {}, onChange() {} });
  expect(await outcome(streams.receiveStream("log", far))).toBe("GODWIT_STREAM_REFUSED");
  expect(await guest.openStream(far, "log").then(() => "opened", code)).toBe("GODWIT_QUEUE_FULL");
  await turns();
  expect([atFar!.isClosed, streams.openStreams.length]).toEqual([true, 0]);
});

test("accepting what is not there, twice, or after its end does nothing", async () => {
  const { streams, guest, bed } = rig();
  const taken: IncomingMeshStream[] = [];
  guest.onStream("log", (stream) => {
    taken.push(stream);
    stream.accept();
  });
  await streams.receiveStream("log", far);
  for (const flow of [2, 2, 4, 999]) await bed.plugin.calls.ask("streams.accept", { flow }, () => {});
  expect(taken.length).toBe(1);
  expect(bed.errors).toEqual([]);
});
