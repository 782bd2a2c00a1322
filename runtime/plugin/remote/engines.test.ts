/** Members and streams of an engine outside of the node's thread: the real doors here, the real context of the plugin there. */
import { expect, test } from "bun:test";
import { type EngineStreams, type Member, type MemberChange, MEMBERS_PAGE_MAX } from "@godwit/sdk";
import { FakeMembers, type FakeStream, FakeStreams } from "@godwit/sdk/testkit";
import { Scope } from "../../kernel/scope.ts";
import { decodeParts, FLOW_WINDOW_BYTES, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import { createMembers } from "../guest/members.ts";
import type { ContextParts } from "../guest/parts.ts";
import { createStreams } from "../guest/streams.ts";
import { addEngineCalls } from "./engines.ts";
import type { RemoteParts } from "./parts.ts";

/** What the two ends hold of a stream that nobody reads: a flow's window, a high-water mark of the pump and of the stream, a piece. */
const HELD_BYTES_MAX = FLOW_WINDOW_BYTES + 2 * 262_144 + 2 * 65_536;
const PIECE = 16_384;
const far = "b".repeat(52);

function rig() {
  const members = new FakeMembers();
  const streams = new FakeStreams();
  const bed = new FrameBed(true);
  addEngineCalls({ ...bed.node, ctx: { members, streams } } as unknown as RemoteParts);
  const scope = new Scope("guest");
  const parts = { ...bed.plugin, scope } as unknown as ContextParts;
  const guest = createStreams(parts, "streams");
  bed.onOther = (end, type, id, body) => {
    if (end !== "plugin" || type !== PluginFrame.open) return;
    const { json, bytes } = decodeParts(body);
    guest.onOpen(id, json as object, bytes.slice());
  };
  return { members, streams, bed, scope, guest: { streams: guest.streams, members: createMembers(parts) } };
}
const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
function collect(stream: Awaited<ReturnType<EngineStreams["openStream"]>>) {
  const seen = { bytes: 0, drains: 0, ended: false, closed: undefined as string | undefined };
  stream.open({
    data: (bytes) => void (seen.bytes += bytes.length),
    end: () => void (seen.ended = true),
    drain: () => void seen.drains++,
    closed: (error) => void (seen.closed = error?.code ?? "politely"),
  });
  return seen;
}
/** Writes until it is told to wait, or `most` bytes are written. */
function fill(stream: Pick<FakeStream, "write">, most: number): number {
  let written = 0;
  for (let hasRoom = true; hasRoom && written < most;) {
    hasRoom = stream.write(new Uint8Array(PIECE));
    written += PIECE;
  }
  return written;
}

test("members cross with all that is known of them, page by page, and one that is none is undefined", async () => {
  const { members, guest } = rig();
  const known: Member = { id: far, callsign: undefined, state: "suspect", incarnation: 7, sinceMs: 9 };
  await members.setAll([known, { ...known, id: "c".repeat(52), callsign: "LON-C", state: "left" }]);
  expect(guest.members.get(far)).toStrictEqual(known);
  expect(guest.members.get("d".repeat(52))).toBeUndefined();
  expect(guest.members.list({ limit: 1 })).toStrictEqual([known]);
  expect(guest.members.list({ after: far }).map(({ callsign }) => callsign)).toEqual(["LON-C"]);
  expect(() => guest.members.list({ limit: MEMBERS_PAGE_MAX + 1 })).toThrow();
});

test("changes are answered only when the plugin is done with them, and its failure reaches the host", async () => {
  const { members, guest } = rig();
  const told: (readonly MemberChange[])[] = [];
  const gate = Promise.withResolvers<void>();
  guest.members.onChange((changes) => {
    told.push(changes);
    return gate.promise;
  });
  let isAnswered = false;
  const telling = members.setAll([{ id: far, state: "failed" }, { id: "c".repeat(52) }]).then(() => {
    isAnswered = true;
  });
  await turns();
  expect([told.length, isAnswered]).toEqual([1, false]);
  expect(told[0]!.map(({ id, member }) => [id, member?.state])).toStrictEqual([
    [far, "failed"],
    ["c".repeat(52), undefined],
  ]);
  gate.reject(new Error("not today"));
  await telling;
  expect(String(members.failures[0])).toContain("not today");
});

test("streams cross both ways with who, what and the words with them; a slow reader holds its sender back", async () => {
  const { streams, guest, bed } = rig();
  let atFar: FakeStream | undefined;
  streams.answerStream = (stream) => {
    atFar = stream;
    stream.accept();
  };
  const stream = await guest.streams.openStream(far, "log", { metadata: Uint8Array.of(1, 2) });
  expect([stream.remote, stream.service, atFar!.metadata]).toEqual([far, "log", Uint8Array.of(1, 2)]);
  const near = collect(stream);
  const most = 64 * HELD_BYTES_MAX;
  let written = 0;
  // Nobody opened the far end.
  for (let more = -1; more !== 0; await turns(), written += more)
    more = written === 0 || near.drains > 0 ? fill(stream, most) : 0;
  expect(written).toBeLessThan(HELD_BYTES_MAX);
  const seen = collect(atFar!);
  stream.end();
  await turns();
  expect([seen.bytes, seen.ended]).toEqual([written, true]);
  atFar!.end();
  await turns();
  expect([seen.closed, near.closed, bed.node.flows.size, bed.plugin.flows.size]).toEqual([
    "politely",
    "politely",
    0,
    0,
  ]);
});

test("what others open waits for accept; without one it is refused, and an end of the plugin resets what is open", async () => {
  const { streams, guest, bed } = rig();
  const kept: ReturnType<typeof collect>[] = [];
  guest.streams.onStream("log", (stream) => {
    if (stream.metadata[0] === 1) throw new Error("no such thing");
    if (stream.metadata[0] === 2) return stream.reset();
    stream.accept();
    kept.push(collect(stream));
    stream.write(new Uint8Array(3));
  });
  for (const first of [1, 2])
    await expect(streams.receiveStream("log", far, Uint8Array.of(first))).rejects.toMatchObject({
      code: "GODWIT_STREAM_REFUSED",
    });
  const opened = await streams.receiveStream("log", far, Uint8Array.of(0));
  const seen = collect(opened);
  await turns();
  expect([seen.bytes, seen.closed]).toEqual([3, undefined]);
  bed.plugin.port.close();
  await turns();
  expect([seen.closed, streams.openStreams.length]).toEqual(["GODWIT_STREAM_RESET", 0]);
});

test("a host without them, and one that refuses, say so when they are used; the plugin lives", async () => {
  const { streams, members, guest, scope } = rig();
  streams.stop();
  members.stop();
  expect(() => guest.streams.onStream("log", () => {})).toThrow("the plugin has stopped");
  await expect(guest.streams.openStream(far, "log")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  expect(() => guest.members.list()).toThrow("the plugin has stopped");
  await scope.close();
  expect(() => guest.members.get(far)).toThrow("the plugin has stopped");
});
