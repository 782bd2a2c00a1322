/** Who uses a radio: what each may have under way, what each is told, and that nobody holds up another. */
import { expect, test } from "bun:test";
import type { ServiceChannel, ServiceChannelHandlers, ServiceMessage } from "@godwit/sdk";
import { create } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import type { Outcome } from "./outbox.ts";
import type { Refusal } from "./session.ts";
import { type Sender, Users } from "./users.ts";

const OPENING = { version: 1, packets: [1] };

/** A radio that takes what it is told to take, and users whose ends the test holds. */
function rig() {
  const state = { answer: "taken" as Refusal | "taken", done: [] as ((outcome: Outcome) => void)[] };
  const sender = {
    send(_request: unknown, done: (outcome: Outcome) => void) {
      if (state.answer !== "taken") return state.answer;
      return { id: state.done.push(done) };
    },
    airtimeOf: () => 7,
  } as unknown as Sender;
  const refused: string[] = [];
  const counts = { cutOff: 0 };
  const users = new Users({
    sender,
    state: () => ({ ready: true }),
    refused: (reason) => void refused.push(reason),
    cutOff: () => void counts.cutOff++,
  });
  const open = (json: unknown = OPENING, consumer = "service.one") => {
    const end = { told: [] as unknown[], reads: true, isClosed: false, bytes: [] as number[] };
    let handlers: ServiceChannelHandlers | undefined;
    const channel = {
      open: (given: ServiceChannelHandlers) => void (handlers = given),
      send(message: ServiceMessage) {
        end.told.push(message.json);
        end.bytes.push(message.bytes?.length ?? 0);
        return end.reads;
      },
      close: () => void (end.isClosed = true),
      pause() {},
    } as unknown as ServiceChannel;
    void users.service.channel?.(channel, {
      ask: "use",
      json,
      consumer,
      bytes: new Uint8Array(0),
    });
    const say = (tag: number, more: object = {}) =>
      handlers!.message({
        json: { t: "send", tag, port: 1, to: 5, channel: 0, hopLimit: 3, ...more },
        bytes: Uint8Array.of(1, 2),
      });
    return { end, say, leave: () => handlers!.closed(undefined) };
  };
  return { users, open, state, refused, counts };
}
const outcomes = (told: readonly unknown[]) =>
  (told as { t: string; tag: number; outcome?: string; reason?: string }[]).filter(({ t }) => t === "done");
const text = (portnum: number, from = 9) =>
  create(Mesh.MeshPacketSchema, {
    from,
    to: 5,
    payloadVariant: {
      case: "decoded",
      value: Object.assign(create(Mesh.DataSchema, { payload: Uint8Array.of(1, 2, 3) }), { portnum }),
    },
  });

const HEARD = { source: "tcp", published: undefined, readBy: undefined, numberProof: "unknown" } as const;

test("what one user has under way is bounded: 32, and each that is done makes room", () => {
  const { open, state } = rig();
  const { end, say } = open();
  for (let tag = 0; tag < 40; tag++) say(tag);
  expect(state.done.length).toBe(32);
  expect(outcomes(end.told).map(({ tag, reason }) => [tag, reason])).toEqual(
    Array.from({ length: 8 }, (_, n) => [32 + n, "too_many"]),
  );
  state.done[0]!("left");
  say(50);
  expect(state.done.length).toBe(33);
  // Another user has its own.
  const other = open(OPENING, "service.two");
  other.say(1);
  expect(state.done.length).toBe(34);
});

test("what was refused is not under way, and says why", () => {
  const { open, state } = rig();
  const { end, say } = open();
  state.answer = "too_early";
  for (let tag = 0; tag < 100; tag++) say(tag);
  expect(new Set(outcomes(end.told).map(({ reason }) => reason))).toEqual(new Set(["too_early"]));
  state.answer = "taken";
  say(200);
  expect(state.done.length).toBe(1);
});

test("a user that does not read is cut off and told no more, and holds up nobody", () => {
  const { users, open, counts } = rig();
  const [slow, other] = [open(), open(OPENING, "service.two")];
  slow.end.reads = false;
  users.tellPacket(text(1), HEARD);
  expect([slow.end.isClosed, counts.cutOff, users.count]).toEqual([true, 1, 1]);
  const told = slow.end.told.length;
  users.tellPacket(text(1), HEARD);
  expect([slow.end.told.length, other.end.told.length]).toEqual([told, 3]);
});

test("a radio has a bounded number of users: 16, and one that leaves makes room", () => {
  const { open, users } = rig();
  const first = open();
  for (let n = 1; n < 16; n++) open();
  expect(() => open()).toThrow("too many users");
  first.leave();
  open();
  expect(users.count).toBe(16);
});

test("a user is told of the ports that it asked for, and of others only when it asked for all", () => {
  const { open, users } = rig();
  const one = open({ version: 1, packets: [1, 70] });
  const all = open({ version: 1, packets: "all", raw: true });
  const sealed = create(Mesh.MeshPacketSchema, {
    from: 9,
    payloadVariant: { case: "encrypted", value: Uint8Array.of(1) },
  });
  for (const packet of [text(1), text(3), text(70), sealed]) users.tellPacket(packet, HEARD);
  const ports = (told: readonly unknown[]) =>
    (told as { t: string; port?: number | null }[]).filter(({ t }) => t === "packet").map(({ port }) => port);
  expect([ports(one.end.told), ports(all.end.told)]).toEqual([
    [1, 70],
    [1, 3, 70, null],
  ]);
  expect(one.end.bytes.slice(1)).toEqual([3, 3]);
});

test("an opening of another version, and words that are none, are refused and cost nothing", () => {
  const { open, refused, state } = rig();
  for (const json of [{}, { version: 2, packets: [1] }, { version: 1, packets: [512] }, { version: 1 }])
    expect(() => open(json)).toThrow("version 1");
  const { say } = open();
  for (const more of [
    { port: 0 },
    { port: 512 },
    { to: 0 },
    { channel: 8 },
    { hopLimit: 8 },
    { lifetimeMs: 1 },
  ])
    say(1, more);
  expect([refused, state.done]).toEqual([Array.from({ length: 6 }, () => "malformed"), []]);
});
