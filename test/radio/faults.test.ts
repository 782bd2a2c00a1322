/** Each thing that may be wrong with a radio or its cable, by its switch: the messages are the same, whatever is around them. In virtual time. */
import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { Faults } from "./faults.ts";
import { Port, unlisted, type PortNumber } from "./packet.ts";
import { frameMessage, MessageReader, MESSAGE_BYTES_MAX } from "./stream.ts";
import { TestClient, TestEther } from "./testing.ts";

const PRIVATE: PortNumber = unlisted(258);
const SECOND_MS = 1_000;

function handshake(faults: Partial<Faults>) {
  const ether = new TestEther({ seed: 4 });
  const radio = ether.radio({ faults });
  ether.radio();
  const client = new TestClient();
  client.isPatient = true;
  const pieces: Uint8Array[] = [];
  const wire = radio.attach({
    data: (bytes) => {
      pieces.push(bytes.slice());
      client.reader.push(bytes);
    },
    closed: () => {},
  });
  client.write = (bytes) => wire.write(bytes);
  client.say({ case: "wantConfigId", value: 3 });
  ether.run(SECOND_MS);
  return {
    ether,
    radio,
    client,
    pieces,
    cases: client.heard.map(({ payloadVariant }) => payloadVariant.case),
  };
}

describe("on the cable", () => {
  const whole = handshake({}).cases;

  test("nothing is around messages of a good one", () => {
    const { client, pieces } = handshake({});
    expect(whole.at(-1)).toBe("configCompleteId");
    expect(client.reader.skipped).toBe(0);
    expect(pieces.length).toBe(whole.length);
  });

  test("lines of a log stand between messages", () => {
    const { client, pieces, cases } = handshake({ logNoise: true });
    expect(cases).toEqual(whole);
    expect(client.reader.skipped).toBeGreaterThan(20 * whole.length);
    expect(Buffer.concat(pieces).toString("latin1")).toContain("[Router] Rx someone");
  });

  for (const split of ["bytes", "anywhere", "afterStart"] as const)
    test(`messages are cut: ${split}`, () => {
      const { cases, pieces } = handshake({ split });
      expect(cases).toEqual(whole);
      expect(pieces.length).toBeGreaterThan(1.9 * whole.length);
      if (split === "bytes") expect(pieces.every(({ length }) => length === 1)).toBe(true);
      if (split === "afterStart")
        expect(pieces.filter((piece) => piece.at(-1) === 0x94).length).toBeGreaterThanOrEqual(whole.length);
    });

  test("rubbish between messages costs none of them", () => {
    const { client, cases } = handshake({ rubbish: true, split: "anywhere" });
    // Two kinds of it are messages of their own: one of nothing, and one that no decoder takes.
    const known = (names: typeof whole) => names.filter((it) => it !== undefined);
    expect(known(cases)).toEqual(known(whole));
    expect(client.reader.skipped).toBeGreaterThan(whole.length);
  });
});

test("its queue is always full, or always free, whatever is true", () => {
  for (const [queue, free] of [
    ["full", 0],
    ["free", 16],
  ] as const) {
    const ether = new TestEther();
    const [radio] = [ether.radio({ faults: { queue } }), ether.radio()];
    const client = ether.client(radio);
    client.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema) });
    for (let id = 1; id <= 3; id++) client.send(PRIVATE, "x", { id });
    ether.run(100);
    const told = client.all("queueStatus");
    expect(told.length).toBeGreaterThanOrEqual(4);
    expect(new Set(told.map((it) => it.free))).toEqual(new Set([free]));
  }
});

test("a hung one says nothing, and all of it when it does not hang any more", () => {
  const ether = new TestEther();
  const radio = ether.radio();
  const client = ether.client(radio);
  radio.faults.isHung = true;
  client.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema) });
  ether.run(10 * SECOND_MS);
  expect(client.heard).toEqual([]);
  radio.faults.isHung = false;
  client.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema) });
  ether.run(SECOND_MS);
  expect(client.all("queueStatus").length).toBe(1);
});

test("a reboot in the middle of the handshake ends it, and what was queued is gone", () => {
  const ether = new TestEther({ preset: "longSlow" });
  const [radio, other] = [ether.radio(), ether.radio()];
  const [client, far] = [ether.client(radio), ether.client(other)];
  for (let id = 1; id <= 5; id++) client.send(PRIVATE, "queued", { id, hopLimit: 0 });
  ether.run(100);
  client.heard.length = 0;
  client.say({ case: "wantConfigId", value: 8 });
  ether.run(1);
  radio.reboot();
  ether.run(10 * SECOND_MS);
  expect(client.all("configCompleteId")).toEqual([]);
  expect(client.all("rebooted")).toEqual([true]);
  ether.run(120 * SECOND_MS);
  expect(far.packets(PRIVATE).length).toBeLessThanOrEqual(1);
  client.say({ case: "wantConfigId", value: 9 });
  ether.run(SECOND_MS);
  expect(client.all("configCompleteId")).toEqual([9]);
});

test("an unplugged one is gone for its clients and for the mesh, and comes back", () => {
  const ether = new TestEther({ preset: "shortTurbo" });
  const [radio, other] = [ether.radio(), ether.radio()];
  const [client, far] = [ether.client(radio), ether.client(other)];
  radio.unplug();
  far.send(PRIVATE, "is anybody there");
  ether.run(10 * SECOND_MS);
  expect(client.closed).toBeString();
  expect(radio.router.heard).toBe(0);
  const early = TestClient.in(radio);
  ether.run(1);
  expect(early.closed).toBe("the radio is off");
  radio.plug();
  ether.run(5 * SECOND_MS);
  const again = ether.client(radio);
  far.send(Port.TEXT_MESSAGE_APP, "WELCOME BACK");
  ether.run(5 * SECOND_MS);
  expect(again.packets(Port.TEXT_MESSAGE_APP).length).toBe(1);
});

describe("a reader of messages", () => {
  test("finds each of them, however they are cut and whatever stands between", () => {
    const random = seededRandom(6);
    for (let round = 0; round < 200; round++) {
      const messages = Array.from({ length: 5 }, () => random.bytes(random.below(MESSAGE_BYTES_MAX + 1)));
      const heard: Uint8Array[] = [];
      const reader = new MessageReader((message) => heard.push(message), "within");
      // Ends in half a start at times; a whole one would be a message.
      const noise = () =>
        Uint8Array.of(
          ...random.bytes(random.below(9)).map((byte) => (byte === 0xc3 ? 0x94 : byte)),
          random.below(2) === 0 ? 0x94 : 0,
        );
      const bytes = Buffer.concat(messages.flatMap((message) => [noise(), frameMessage(message)]));
      for (let at = 0; at < bytes.length;) {
        const length = 1 + random.below(300);
        reader.push(bytes.subarray(at, at + length));
        at += length;
      }
      expect(heard.map((it) => Buffer.from(it).toString("hex"))).toEqual(
        messages.map((it) => Buffer.from(it).toString("hex")),
      );
    }
  });

  test("as firmware has it loses a message behind half a start, and a careful one does not", () => {
    for (const [resync, count] of [
      ["behind", 0],
      ["within", 1],
    ] as const) {
      let heard = 0;
      const reader = new MessageReader(() => heard++, resync);
      reader.push(Uint8Array.of(0x94, ...frameMessage(Uint8Array.of(1, 2))));
      expect(heard).toBe(count);
    }
  });

  test("takes 512 bytes and not 513", () => {
    const lengths: number[] = [];
    const reader = new MessageReader(({ length }) => lengths.push(length), "within");
    for (const length of [512, 513, 1]) reader.push(frameMessage(new Uint8Array(length)));
    expect(lengths).toEqual([512, 1]);
  });
});
