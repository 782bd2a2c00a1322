/** Sources that are only heard: what is taken of them, how it is marked, and that they are bounded whatever comes. */
import { afterEach, describe, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Mesh, Mqtt, Portnums } from "@meshtastic/protobufs";
import { configIssues } from "@godwit/sdk/testkit";
import radio from "./index.ts";
import { MESSAGE_BYTES_MAX, MqttFilter } from "./mqtt-filter.ts";
import { parseTopic } from "./tap-mqtt.ts";
import { membershipsOf } from "./tap-udp.ts";
import { DoorBench } from "./testing-door.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const GROUP = "224.0.0.69";
/** "Test" on the default channel, as recorded off the air. */
const onAir = (id = 0xaba472a5) =>
  create(Mesh.MeshPacketSchema, {
    from: 0x25c21b88,
    to: 0xffffffff,
    id,
    channel: 8,
    hopLimit: 3,
    hopStart: 3,
    rxSnr: 5.5,
    rxRssi: -40,
    pkiEncrypted: true,
    publicKey: new Uint8Array(32).fill(1),
    payloadVariant: { case: "encrypted", value: Buffer.from("2d73fea3706ebf6a16e0", "hex") },
  });
const bytesOf = (packet: Mesh.MeshPacket) => toBinary(Mesh.MeshPacketSchema, packet);

async function newBench(table: Readonly<Record<string, unknown>>): Promise<DoorBench> {
  const bench = new DoorBench();
  ends.push(() => bench.stop());
  await bench.start(table);
  return bench;
}

/** Somebody in the LAN; loopback is one. */
async function newSender() {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  socket.setMulticastInterface("127.0.0.1");
  ends.push(() => socket.close());
  const { port } = socket.address();
  return {
    port,
    send: (bytes: Uint8Array, to: number, host = GROUP) =>
      new Promise<void>((resolve) => socket.send(bytes, to, host, () => resolve())),
  };
}

async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

async function newUdp(more: Readonly<Record<string, unknown>> = {}) {
  const port = await freePort();
  const bench = await newBench({ connect: `udp://${GROUP}:${port}`, interfaces: ["lo"], ...more });
  await bench.until(() => bench.isListening, "the group to be joined");
  const { send } = await newSender();
  return { bench, port, send: (bytes: Uint8Array) => send(bytes, port) };
}

describe("what radios in the LAN multicast", () => {
  test("is handed to users with its source, and without what only one's own radio can say", async () => {
    const { bench, send } = await newUdp();
    await send(bytesOf(onAir()));
    await bench.until(() => bench.packets.length === 1, "a packet");
    const [packet] = bench.packets;
    expect(packet).toMatchObject({
      ...{ source: "udp", transport: 6, viaMqtt: false, channel: null, port: null, readBy: null },
      ...{ isPki: false, snr: 0, rssi: 0, gateway: null, from: 0x25c21b88 },
    });
    const raw = fromBinary(Mesh.MeshPacketSchema, packet!.bytes);
    expect(raw.payloadVariant.case).toBe("encrypted");
    expect(raw.publicKey).toHaveLength(0);
  });

  test("is read by the channels that the table names", async () => {
    const { bench, send } = await newUdp({ channels: [{ name: "LongFast" }] });
    await send(bytesOf(onAir()));
    await bench.until(() => bench.packets.length === 1, "a packet");
    expect(bench.packets[0]).toMatchObject({ port: 1, readBy: "channel", channelName: "LongFast" });
    expect(bench.count("read{by=channel}")).toBe(1);
  });

  test("is refused by reason where it is no packet of a radio", async () => {
    const { bench, send } = await newUdp();
    const plain = {
      case: "decoded",
      value: create(Mesh.DataSchema, { portnum: Portnums.PortNum.TEXT_MESSAGE_APP }),
    } as const;
    const bad: [string, Uint8Array][] = [
      ["malformed", Buffer.from("ffffffff", "hex")],
      ["too_long", new Uint8Array(513)],
      ["in_clear", bytesOf({ ...onAir(1), payloadVariant: plain })],
      ["packet", bytesOf({ ...onAir(2), from: 0 })],
    ];
    for (const [, bytes] of bad) await send(bytes);
    await send(bytesOf({ ...onAir(3), hopLimit: 8 }));
    await send(bytesOf({ ...onAir(4), from: 0xffffffff }));
    await send(new Uint8Array(0));
    await send(bytesOf(onAir(5)));
    await send(bytesOf(onAir(5)));
    await bench.until(() => bench.count("ignored{reason=copy}") === 1, "all to be judged");
    for (const [reason, count] of Object.entries({ malformed: 1, too_long: 1, in_clear: 1, packet: 4 }))
      expect([reason, bench.count(`ignored{reason=${reason}}`)]).toEqual([reason, count]);
    expect(bench.packets.map(({ id }) => id)).toEqual([5]);
  });

  test("by another relay is another reception, and the same after half a minute is one again", async () => {
    const { bench, send } = await newUdp();
    await send(bytesOf(onAir(1)));
    await send(bytesOf({ ...onAir(1), hopLimit: 2, relayNode: 7 }));
    await bench.until(() => bench.packets.length === 2, "both receptions");
    bench.host.clock.advance(30_000);
    await send(bytesOf(onAir(1)));
    await bench.until(() => bench.packets.length === 3, "a later one");
  });

  test("beyond a hundred a second is counted and dropped", async () => {
    const { bench, send } = await newUdp();
    for (let id = 1; bench.count("ignored{reason=too_fast}") === 0; id++) {
      if (id > 20_000) throw new Error("nothing is dropped");
      await send(bytesOf(onAir(id)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(bench.count("packets")).toBeGreaterThanOrEqual(1_000);
    bench.host.clock.advance(1_000);
    await send(bytesOf(onAir(0x7fff_ffff)));
    await bench.until(() => bench.packets.some(({ id }) => id === 0x7fff_ffff), "a later one");
  });

  test("is not taken from what is sent to this machine alone, and nothing is ever sent", async () => {
    const { bench, port } = await newUdp();
    const witness = createSocket({ type: "udp4", reuseAddr: true });
    ends.push(() => witness.close());
    const seen: number[] = [];
    await new Promise<void>((resolve) => witness.bind({ port, address: GROUP }, resolve));
    witness.addMembership(GROUP, "127.0.0.1");
    witness.on("message", (_, { port: from }) => void seen.push(from));
    const [direct, sender] = [await newSender(), await newSender()];
    await direct.send(bytesOf(onAir(1)), port, "127.0.0.1");
    bench.say({ t: "send", tag: 1, port: 1, to: 5, channel: 0, hopLimit: 3 });
    await sender.send(bytesOf(onAir(2)), port);
    await bench.until(() => bench.packets.length > 0 && seen.length > 0, "the one to the group");
    expect(bench.packets.map(({ id }) => id)).toEqual([2]);
    expect(seen).toEqual([sender.port]);
    await bench.until(
      () => bench.others.some((it) => it["t"] === "done" && it["reason"] === "listens_only"),
      "a refusal",
    );
  });

  test("is heard again on other addresses when those of the machine change", async () => {
    const { bench, send } = await newUdp();
    bench.network.set([]);
    await bench.until(() => !bench.isListening, "the tap to end");
    expect(bench.host.health.at(-1)?.reason).toContain(GROUP);
    bench.network.set([
      {
        address: "127.0.0.1",
        family: 4,
        prefixLength: 8,
        interface: "lo",
        scope: "host",
        isAdvertisable: false,
      },
    ]);
    await bench.until(() => bench.isListening, "the tap to be open again");
    await send(bytesOf(onAir(9)));
    await bench.until(() => bench.packets.length === 1, "a packet");
  });

  test("is heard on one address of each interface, loopback only where it is named", () => {
    const at = (address: string, name: string, scope: "global" | "host" = "global") => ({
      ...{ address, interface: name, scope, family: 4 as const, prefixLength: 24, isAdvertisable: true },
    });
    const all = [
      at("10.0.0.2", "eth0"),
      at("10.0.0.3", "eth0"),
      at("10.1.0.2", "wlan0"),
      at("127.0.0.1", "lo", "host"),
    ];
    expect(membershipsOf(all, undefined)).toEqual(["10.0.0.2", "10.1.0.2"]);
    expect(membershipsOf(all, ["lo"])).toEqual(["127.0.0.1"]);
    expect(membershipsOf(all, ["none"])).toEqual([]);
  });
});

/** A broker that says what it is told to, byte by byte. */
async function newBroker(say: (socket: Socket) => void): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => say(socket));
    ends.push(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => server.close());
  return { port: (server.address() as { port: number }).port, server };
}

const CONNACK = Buffer.from("20020000", "hex");

/** Accepts, grants what is subscribed, then says this. */
const accepting = (then: Uint8Array) => (socket: Socket) => {
  socket.once("data", (subscribe: Buffer) => {
    socket.write(Buffer.from([0x90, 3, subscribe[2]!, subscribe[3]!, 0]));
    socket.write(then);
  });
  socket.write(CONNACK);
};

function message(topic: string, payload: Uint8Array, flags = 0): Buffer {
  const name = Buffer.from(topic);
  const body = Buffer.concat([Buffer.from([name.length >> 8, name.length & 0xff]), name, payload]);
  const length = body.length < 128 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
  return Buffer.concat([Buffer.from([0x30 | flags, ...length]), body]);
}

const TOPIC = "msh/EU_868/2/e/LongFast/!0a1b2c3d";
const envelope = (id: number, gatewayId = "!0a1b2c3d", channelId = "LongFast") =>
  toBinary(
    Mqtt.ServiceEnvelopeSchema,
    create(Mqtt.ServiceEnvelopeSchema, { packet: onAir(id), gatewayId, channelId }),
  );

describe("a broker that is not what it should be", () => {
  test.each([
    ["another protocol", Buffer.from("SSH-2.0-OpenSSH\r\n"), "is not sent"],
    ["a length without end", Buffer.from("20ffffffffff", "hex"), "does not speak MQTT"],
    ["a refusal", Buffer.from("20020005", "hex"), "Not authorized"],
    ["a packet that announces 256 MiB", Buffer.from("20ffffff7f", "hex"), "is not sent"],
  ])("says %s: the reason is told, and it is asked again", async (_, said, why) => {
    const { port } = await newBroker((socket) => socket.write(said));
    const bench = await newBench({ connect: `mqtt://127.0.0.1:${port}` });
    await bench.until(() => bench.host.health.at(-1)?.reason?.includes(why) === true, why);
  });

  test("says what no client asked for: messages of quality 2, which would be kept", async () => {
    const { port } = await newBroker(accepting(message(TOPIC, envelope(1), 0b100)));
    const bench = await newBench({ connect: `mqtt://127.0.0.1:${port}` });
    await bench.until(
      () => bench.host.health.at(-1)?.reason?.includes("another quality") === true,
      "it to end",
    );
    expect(bench.packets).toEqual([]);
  });

  test("passes on what others should not have published: each is counted, and what is right is heard", async () => {
    const lies = [
      message(TOPIC, envelope(1, "!00000001")),
      message(TOPIC, envelope(2, "!0a1b2c3d", "other")),
      message("msh/EU_868/2/json/LongFast/!0a1b2c3d", envelope(3)),
      message(TOPIC, envelope(4), 1),
      message(TOPIC, Buffer.from("ffff", "hex")),
      message(TOPIC, new Uint8Array(0)),
      message(TOPIC, new Uint8Array(MESSAGE_BYTES_MAX)),
      message(TOPIC, new Uint8Array(600)),
      message(TOPIC, envelope(5)),
    ];
    const { port } = await newBroker(accepting(Buffer.concat(lies)));
    const bench = await newBench({ connect: `mqtt://127.0.0.1:${port}` });
    await bench.until(() => bench.packets.length > 0, "the honest one");
    expect(bench.packets).toMatchObject([
      { id: 5, source: "mqtt", viaMqtt: true, transport: 5, gateway: "!0a1b2c3d", channelName: "LongFast" },
    ]);
    const reasons = { gateway: 2, topic: 1, retained: 1, malformed: 1, envelope: 1, too_long: 2 };
    for (const [reason, count] of Object.entries(reasons))
      expect([reason, bench.count(`ignored{reason=${reason}}`)]).toEqual([reason, count]);
  });
});

describe("the filter before the decoder", () => {
  const honest = Buffer.concat([CONNACK, message(TOPIC, envelope(1)), message(TOPIC, envelope(2))]);

  test("passes all that may come, however it is cut", () => {
    for (let size = 1; size <= honest.length; size++) {
      const filter = new MqttFilter(() => {});
      const out: Uint8Array[] = [];
      for (let at = 0; at < honest.length; at += size)
        out.push(...filter.push(honest.subarray(at, at + size)));
      expect(Buffer.concat(out).equals(honest)).toBe(true);
    }
  });

  test("leaves out what is too long and keeps nothing of it", () => {
    let tooLong = 0;
    const filter = new MqttFilter(() => tooLong++);
    // 256 MiB are announced, and come.
    expect(filter.push(Buffer.from("30ffffff7f", "hex"))).toEqual([]);
    const piece = new Uint8Array(1_048_576);
    for (let left = 268_435_455; left > 0; left -= piece.length)
      expect(filter.push(piece.subarray(0, left))).toEqual([]);
    expect(tooLong).toBe(1);
    expect(Buffer.concat(filter.push(honest)).equals(honest)).toBe(true);
  });
});

test.each([
  ["msh/EU_868/2/e/LongFast/!0a1b2c3d", { channelName: "LongFast", gateway: "!0a1b2c3d" }],
  ["msh/US/bay/2/e/PKI/!ffffffff", { channelName: "PKI", gateway: "!ffffffff" }],
  ["msh/EU_868/2/e/LongFast/!0A1B2C3D", undefined],
  ["msh/EU_868/2/e/LongFast/!0a1b2c3d/x", undefined],
  ["msh/EU_868/2/e//!0a1b2c3d", undefined],
  ["msh/EU_868/2/map/", undefined],
])("a topic: %s", (topic, published) => expect(parseTopic(topic)).toEqual(published));

describe("a table", () => {
  test.each([
    [{ connect: "udp://224.0.0.69" }, 0],
    [{ connect: "udp://239.0.0.69:5000", interfaces: ["eth0"] }, 0],
    [{ connect: "mqtts://broker.example", user: "me", topics: ["msh/EU_868/2/e/#"] }, 0],
    [{ connect: "udp://192.0.2.7" }, 1],
    [{ connect: "udp://224.0.0.69", user: "me" }, 1],
    [{ connect: "tcp://192.0.2.7", interfaces: ["eth0"] }, 1],
    [{ connect: "mqtt://broker.example", topics: ["#"] }, 1],
    [{ connect: "mqtt://broker.example", password: "secret" }, 1],
  ])("%j has %i problems", async (table, count) => {
    const { issues } = await configIssues(radio, table);
    expect(issues?.length ?? 0).toBe(count);
    expect(JSON.stringify(issues ?? [])).not.toContain("undefined");
  });

  test("with a password where it does not belong does not repeat it", async () => {
    const { issues } = await configIssues(radio, { connect: "mqtt://me:hunter2@broker.example" });
    expect(issues?.length).toBe(1);
    expect(JSON.stringify(issues)).not.toContain("hunter2");
    expect(JSON.stringify(issues)).toContain("user and password have keys of their own");
  });
});
