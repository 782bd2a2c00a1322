/** What a client meets on a radio: the handshake of 2.7 and 2.8, what becomes of what it sends, and what it is told. In virtual time. */
import { describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Admin, Channel, Mesh, Telemetry } from "@meshtastic/protobufs";
import { presets as modems } from "../sim/radio/lora.ts";
import { nodeNumberOf } from "./keys.ts";
import { addBytes, bytesField, Port, RoutingError, unlisted, type PortNumber } from "./packet.ts";
import { presets, regions } from "./plan.ts";
import { frameMessage } from "./stream.ts";
import { TestClient, TestEther } from "./testing.ts";
import { TO_CLIENT_MAX } from "./phone.ts";

const PRIVATE: PortNumber = unlisted(258);
const SECOND_MS = 1_000;
const DUTY_CYCLE_LIMIT: number = RoutingError.DUTY_CYCLE_LIMIT;

const cases = (client: TestClient): string[] =>
  client.heard.map(({ payloadVariant, $unknown }) => payloadVariant.case ?? `field ${$unknown?.[0]?.no}`);
const inOrder = (names: readonly string[]): string[] => names.filter((name, at) => name !== names[at - 1]);
const errorsOf = (client: TestClient, id: number): Mesh.Routing_Error[] =>
  client.packets(Port.ROUTING_APP).flatMap(({ data }) => {
    if (data.requestId !== id) return [];
    const { variant } = fromBinary(Mesh.RoutingSchema, data.payload);
    return variant.case === "errorReason" ? [variant.value] : [];
  });

function configured(client: TestClient, ether: TestEther, nonce: number): string[] {
  client.heard.length = 0;
  client.say({ case: "wantConfigId", value: nonce });
  ether.run(SECOND_MS);
  return inOrder(cases(client));
}

describe("the handshake", () => {
  const whole = (presetsOf: readonly string[]) => [
    ...["myInfo", "deviceuiConfig", "nodeInfo", "metadata", ...presetsOf],
    ...["channel", "config", "moduleConfig", "nodeInfo", "fileInfo", "configCompleteId"],
  ];
  for (const [firmware, regionPresets] of [
    ["2.7", []],
    ["2.8", ["field 19"]],
  ] as const)
    test(`of ${firmware} is in its order, as a whole and by halves, and as often as it is asked`, () => {
      const ether = new TestEther();
      const [radio] = [ether.radio({ firmware }), ether.radio(), ether.radio()];
      const client = TestClient.in(radio);
      for (const nonce of [77, 0xffff_ffff]) {
        expect(configured(client, ether, nonce)).toEqual(whole(regionPresets));
        expect(client.all("configCompleteId")).toEqual([nonce]);
        expect([client.all("channel").length, client.all("nodeInfo").length]).toEqual([8, 3]);
        const [own, ...others] = client.all("nodeInfo");
        expect([own?.num, own?.isFavorite, own?.hopsAway]).toEqual([radio.number, true, undefined]);
        expect(others.map(({ num }) => num).sort()).toEqual(
          ether.radios
            .slice(1)
            .map(({ number }) => number)
            .sort(),
        );
      }
      expect(configured(client, ether, 69_420)).toEqual(
        whole(regionPresets).filter((_, at, all) => all[at - 1] !== "moduleConfig"),
      );
      expect(configured(client, ether, 69_421)).toEqual(["nodeInfo", "configCompleteId"]);
    });

  test("2.8 tells cached positions after the end as packets, 2.7 within it", () => {
    const ether = new TestEther();
    const [old, recent] = [ether.radio({ firmware: "2.7" }), ether.radio({ firmware: "2.8" })];
    const position = create(Mesh.PositionSchema, { latitudeI: 564_600_000, longitudeI: -29_700_000 });
    old.nodes.touch(recent.number).position = position;
    recent.nodes.touch(old.number).position = position;
    const [first, second] = [TestClient.in(old), TestClient.in(recent)];
    configured(first, ether, 1);
    expect(first.all("nodeInfo")[1]?.position?.latitudeI).toBe(564_600_000);
    expect(cases(first).at(-1)).toBe("configCompleteId");
    configured(second, ether, 1);
    expect(second.all("nodeInfo")[1]?.position).toBeUndefined();
    expect(cases(second).slice(-2)).toEqual(["configCompleteId", "packet"]);
    const [{ packet }] = second.packets(Port.POSITION_APP) as [ReturnType<TestClient["packets"]>[0]];
    configured(second, ether, 2);
    expect(second.packets(Port.POSITION_APP)[0]?.id).toBe(packet.id);
  });

  test("says which presets a region has", () => {
    const ether = new TestEther();
    const client = TestClient.in(ether.radio());
    configured(client, ether, 1);
    const map = client.heard.map((it) => bytesField(it, 19)).find((it) => it !== undefined)!;
    // Region EU_866 (29) has the group of LITE_FAST and LITE_SLOW, whose default is 10.
    expect(Buffer.from(map).includes(Buffer.from([0x0a, 0x06, 0x0a, 0x02, 10, 11, 0x10, 10]))).toBe(true);
    expect(Buffer.from(map).includes(Buffer.from([0x12, 0x04, 0x08, 29, 0x10, 2]))).toBe(true);
  });

  test("whether it signs stands in the metadata of 2.8 alone", () => {
    const signs = (firmware: "2.7" | "2.8") => {
      const ether = new TestEther();
      const client = TestClient.in(ether.radio({ firmware }));
      configured(client, ether, 1);
      return client.all("metadata")[0]?.$unknown?.some(({ no }) => no === 14) ?? false;
    };
    expect([signs("2.7"), signs("2.8")]).toEqual([false, true]);
  });
});

describe("a packet of a client", () => {
  test("is queued, and its id comes back; the same id again is nothing", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio(), ether.radio()];
    const [from, to] = [ether.client(a), ether.client(b)];
    for (let i = 0; i < 2; i++) from.send(PRIVATE, "once", { id: 99 });
    ether.run(10 * SECOND_MS);
    expect(from.all("queueStatus").map(({ res, meshPacketId, free }) => [res, meshPacketId, free])).toEqual([
      [0, 99, 15],
    ]);
    expect(to.packets(PRIVATE).map(({ id, text }) => [id, text])).toEqual([[99, "once"]]);
    expect(from.packets(PRIVATE)).toEqual([]);
  });

  for (const firmware of ["2.7", "2.8"] as const)
    test(`to one is acknowledged by that one${firmware === "2.7" ? ", and by whoever repeats it" : ""}, with ${firmware}`, () => {
      const ether = new TestEther();
      const [a, relay] = [ether.radio({ firmware }), ether.radio()];
      const b = ether.radio({ neighbours: [relay] });
      const [from, to] = [ether.client(a), ether.client(b)];
      from.send(PRIVATE, "far", { id: 7, to: b.number, wantAck: true });
      ether.run(30 * SECOND_MS);
      expect(to.packets(PRIVATE).length).toBe(1);
      // 2.8 does not take what it cannot read for an acknowledgement, and between two ends' keys that is its own packet as well.
      const implicit = firmware === "2.7" ? [a.number] : [];
      const acks = from.packets(Port.ROUTING_APP);
      expect(acks.map((it) => it.from)).toEqual([...implicit, b.number]);
      expect(errorsOf(from, 7)).toEqual(acks.map(() => RoutingError.NONE));
    });

  test("to nobody is tried three times, and then given up", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio({ beacons: { nodeInfoMs: 0 } }), ether.radio()];
    ether.part(a, b);
    const from = ether.client(a);
    from.send(PRIVATE, "anybody", { id: 5, to: b.number, wantAck: true });
    ether.run(60 * SECOND_MS);
    expect(a.transmitter.sent).toBe(3);
    expect(errorsOf(from, 5)).toEqual([RoutingError.MAX_RETRANSMIT]);
  });

  for (const [name, port, paceMs] of [
    ["a trace", Port.TRACEROUTE_APP, 30_000],
    ["a position", Port.POSITION_APP, 10_000],
    ["a waypoint", Port.WAYPOINT_APP, 10_000],
    ["an alert", Port.ALERT_APP, 10_000],
    ["telemetry", Port.TELEMETRY_APP, 10_000],
    ["a text", Port.TEXT_MESSAGE_APP, 2_000],
  ] as const)
    test(`${name} too soon is dropped and told as queued`, () => {
      const ether = new TestEther({ preset: "shortTurbo" });
      const [a, b] = [ether.radio(), ether.radio()];
      const [from, to] = [ether.client(a), ether.client(b)];
      const send = (id: number) =>
        from.send(port, "", { id, hopLimit: 0, ...(port === Port.TRACEROUTE_APP ? { to: b.number } : {}) });
      send(1);
      ether.run(paceMs - 100);
      send(2);
      ether.run(200);
      send(3);
      ether.run(SECOND_MS);
      const mine = to.packets(port).filter(({ id }) => id < 10);
      expect(mine.map(({ id }) => id)).toEqual([1, 3]);
      expect(from.all("queueStatus").map(({ res, meshPacketId }) => [res, meshPacketId])).toEqual([
        [0, 1],
        [0, 2],
        [0, 3],
      ]);
      // Text alone is told.
      expect(errorsOf(from, 2)).toEqual(
        port === Port.TEXT_MESSAGE_APP ? [RoutingError.RATE_LIMIT_EXCEEDED] : [],
      );
      expect(from.all("clientNotification").length).toBe(port === Port.TRACEROUTE_APP ? 1 : 0);
    });

  test("private ports have no pace", () => {
    const ether = new TestEther({ preset: "shortTurbo" });
    const [a, b] = [ether.radio(), ether.radio()];
    const [from, to] = [ether.client(a), ether.client(b)];
    for (let id = 1; id <= 10; id++) from.send(PRIVATE, "x", { id, hopLimit: 0 });
    ether.run(20 * SECOND_MS);
    expect(to.packets(PRIVATE).length).toBe(10);
  });

  test("beyond sixteen that wait is refused, and the client hears when there is room again", () => {
    const ether = new TestEther();
    const [a] = [ether.radio(), ether.radio()];
    const from = ether.client(a);
    for (let id = 1; id <= 18; id++) from.send(PRIVATE, "x".repeat(100), { id, hopLimit: 0 });
    ether.run(10);
    const told = from.all("queueStatus").map(({ res, free }) => [res, free]);
    // The firmware keeps the last four of what it has to say.
    expect(told).toEqual([
      [0, 1],
      [0, 0],
      [32, 0],
      [32, 0],
    ]);
    from.heard.length = 0;
    ether.run(10 * SECOND_MS);
    expect(from.all("queueStatus").map(({ free, meshPacketId }) => [free, meshPacketId])).toEqual([[1, 0]]);
  });

  test("that is too large is refused, and says so", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio(), ether.radio()];
    const from = ether.client(a);
    from.send(PRIVATE, "x".repeat(231), { id: 1 });
    from.send(PRIVATE, "x".repeat(231), { id: 2, to: b.number });
    from.send(PRIVATE, "x".repeat(234), { id: 3 });
    ether.run(SECOND_MS);
    expect(from.all("queueStatus").map(({ res, meshPacketId }) => [res, meshPacketId])).toEqual([
      [0, 1],
      [RoutingError.TOO_LARGE, 2],
    ]);
    expect(errorsOf(from, 2)).toEqual([RoutingError.TOO_LARGE]);
  });

  test("with a question that nobody answers is answered with that, by everybody", () => {
    const ether = new TestEther({ preset: "shortTurbo" });
    const [a, b, c] = [ether.radio(), ether.radio(), ether.radio()];
    const from = ether.client(a);
    from.send(PRIVATE, "anybody?", { id: 8 }, { wantResponse: true });
    ether.run(10 * SECOND_MS);
    expect(errorsOf(from, 8)).toEqual([RoutingError.NO_RESPONSE, RoutingError.NO_RESPONSE]);
    expect(
      from
        .packets(Port.ROUTING_APP)
        .map((it) => it.from)
        .sort(),
    ).toEqual([b.number, c.number].sort());
  });
});

describe("text to one", () => {
  for (const [firmware, knows, expected] of [
    ["2.7", true, "by keys"],
    ["2.7", false, "by the channel"],
    ["2.8", true, "by keys"],
    ["2.8", false, "refused"],
  ] as const)
    test(`from ${firmware} to somebody whose key it ${knows ? "knows" : "does not know"} goes ${expected}`, () => {
      const ether = new TestEther({ isIntroduced: knows });
      const [a, b] = [ether.radio({ firmware }), ether.radio({ firmware: "2.7" })];
      const [from, to] = [ether.client(a), ether.client(b)];
      from.send(Port.TEXT_MESSAGE_APP, "PRIVATE STOP", { id: 3, to: b.number });
      ether.run(5 * SECOND_MS);
      const packet = to.packets(Port.TEXT_MESSAGE_APP)[0]?.packet;
      expect(packet?.pkiEncrypted).toBe(expected === "refused" ? undefined : expected === "by keys");
      expect(errorsOf(from, 3)).toEqual(
        expected === "refused" ? [RoutingError.PKI_SEND_FAIL_PUBLIC_KEY] : [],
      );
    });

  test("by the channel is not taken by 2.8", () => {
    const ether = new TestEther({ isIntroduced: false });
    const [a, b] = [ether.radio({ firmware: "2.7" }), ether.radio({ firmware: "2.8" })];
    const [from, to] = [ether.client(a), ether.client(b)];
    from.send(Port.TEXT_MESSAGE_APP, "PRIVATE STOP", { to: b.number });
    ether.run(5 * SECOND_MS);
    expect(to.packets(Port.TEXT_MESSAGE_APP)).toEqual([]);
    expect(b.router.drops.get("refused")).toBe(1);
  });

  test("is twelve bytes longer on the air than by the channel", () => {
    const lengths = [true, false].map((isIntroduced) => {
      const ether = new TestEther({ isIntroduced });
      const [a, b] = [ether.radio({ firmware: "2.7" }), ether.radio()];
      const lengthsOnAir: number[] = [];
      ether.medium.onSent = ({ frame }) => void lengthsOnAir.push(frame.length);
      ether.client(a).send(Port.TEXT_MESSAGE_APP, "PRIVATE STOP", { to: b.number });
      ether.run(2 * SECOND_MS);
      return lengthsOnAir[0]!;
    });
    expect(lengths[0]! - lengths[1]!).toBe(12);
  });
});

describe("signatures", () => {
  const lengthOf = (firmware: "2.7" | "2.8", bytes: number, isToAll: boolean): number => {
    const ether = new TestEther();
    const [a, b] = [ether.radio({ firmware }), ether.radio()];
    let length = 0;
    ether.medium.onSent = ({ frame }) => void (length ||= frame.length);
    ether.client(a).send(PRIVATE, new Uint8Array(bytes), {
      hopLimit: 0,
      ...(isToAll ? {} : { to: b.number, channel: 0 }),
    });
    ether.run(5 * SECOND_MS);
    return length;
  };

  test("cost a broadcast 66 bytes where they fit, and what goes to one nothing", () => {
    expect(lengthOf("2.8", 22, true) - lengthOf("2.7", 22, true)).toBe(66);
    expect(lengthOf("2.8", 180, true)).toBe(lengthOf("2.7", 180, true));
    expect(lengthOf("2.8", 22, false)).toBe(lengthOf("2.7", 22, false));
  });

  test("a beacon of 22 bytes is 559 ms long without one and 1,051 with it", () => {
    // Where the published figures come from there was no bitfield, two bytes of which stand in each packet of this firmware.
    const airtime = (bytes: number) => {
      const ether = new TestEther();
      let ms = 0;
      ether.medium.onSent = ({ startMs, endMs }) => void (ms ||= endMs - startMs);
      const client = ether.client(ether.radio({ firmware: bytes < 0 ? "2.8" : "2.7" }));
      client.send(PRIVATE, new Uint8Array(Math.abs(bytes)), { hopLimit: 0 });
      ether.run(SECOND_MS);
      return ms;
    };
    expect(Math.abs(airtime(20) / 559 - 1)).toBeLessThan(0.02);
    expect(Math.abs(airtime(-20) / 1_051 - 1)).toBeLessThan(0.02);
  });

  test("2.8 tells which packets were signed, and takes none whose signature is another's", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio(), ether.radio()];
    const [from, to] = [ether.client(a), ether.client(b)];
    from.send(PRIVATE, "signed");
    ether.run(3 * SECOND_MS);
    expect(to.packets(PRIVATE)[0]?.packet.$unknown?.some(({ no }) => no === 22)).toBe(true);
    // As if somebody else had its number.
    b.nodes.touch(a.number).user = { ...a.user, publicKey: b.keys.publicKey };
    from.send(PRIVATE, "forged");
    ether.run(3 * SECOND_MS);
    expect(to.packets(PRIVATE).map(({ text }) => text)).toEqual(["signed"]);
  });

  test("who once signed and does not any more is not heard; a strict one hears nobody who does not", () => {
    const ether = new TestEther();
    const a = ether.radio();
    const [b, strict] = [ether.radio(), ether.radio({ behaviour: { signatures: "strict" } })];
    const [from, to, toStrict] = [ether.client(a), ether.client(b), ether.client(strict)];
    from.send(PRIVATE, "signed");
    ether.run(5 * SECOND_MS);
    a.reboot({ behaviour: { signs: false } });
    ether.run(5 * SECOND_MS);
    from.say({ case: "wantConfigId", value: 2 });
    from.send(PRIVATE, "not signed");
    from.send(PRIVATE, "y".repeat(200));
    ether.run(10 * SECOND_MS);
    expect(to.packets(PRIVATE).map(({ text }) => text)).toEqual(["signed", "y".repeat(200)]);
    expect(toStrict.packets(PRIVATE).map(({ text }) => text)).toEqual(["signed"]);
  });
});

describe("channels", () => {
  const own = { name: "Telex", psk: new Uint8Array(32).fill(7) };

  test("a packet of another channel is carried and not read", () => {
    const ether = new TestEther();
    const a = ether.radio({ channels: [own] });
    const stranger = ether.radio({ firmware: "2.8" });
    const b = ether.radio({ channels: [own], neighbours: [stranger] });
    const [from, middle, to] = [ether.client(a), ether.client(stranger), ether.client(b)];
    from.send(PRIVATE, "over strangers");
    ether.run(10 * SECOND_MS);
    expect(to.packets(PRIVATE).map(({ text }) => text)).toEqual(["over strangers"]);
    expect(middle.all("packet")).toEqual([]);
  });

  test("2.7 hands it to its client as it is", () => {
    const ether = new TestEther();
    const [a, stranger] = [ether.radio({ channels: [own] }), ether.radio({ firmware: "2.7" })];
    const [from, middle] = [ether.client(a), ether.client(stranger)];
    from.send(PRIVATE, "over strangers");
    ether.run(10 * SECOND_MS);
    expect(middle.all("packet").map(({ payloadVariant }) => payloadVariant.case)).toEqual(["encrypted"]);
  });

  test("by the second channel of both it is read, and the index is the reader's", () => {
    const ether = new TestEther();
    const general = { name: "", psk: Uint8Array.of(1) };
    const a = ether.radio({ channels: [general, own] });
    const b = ether.radio({ channels: [general, { name: "x", psk: Uint8Array.of(9) }, own] });
    const [from, to] = [ether.client(a), ether.client(b)];
    from.send(PRIVATE, "second", { channel: 1 });
    ether.run(5 * SECOND_MS);
    expect(to.packets(PRIVATE).map(({ text, packet }) => [text, packet.channel])).toEqual([["second", 2]]);
  });

  test("one that is not there is an error", () => {
    const ether = new TestEther();
    const from = ether.client(ether.radio());
    from.send(PRIVATE, "nowhere", { id: 6, channel: 5 });
    ether.run(SECOND_MS);
    expect(errorsOf(from, 6)).toEqual([RoutingError.NO_CHANNEL]);
  });
});

describe("a radio", () => {
  test("answers a heartbeat with the state of its queue; with nonce 1 it tells the mesh who it is", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio(), ether.radio()];
    const [client, other] = [ether.client(a), ether.client(b)];
    client.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema) });
    ether.run(3 * SECOND_MS);
    expect(client.all("queueStatus").map(({ free }) => free)).toEqual([16]);
    expect(other.packets(Port.NODEINFO_APP)).toEqual([]);
    client.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema, { nonce: 1 }) });
    ether.run(3 * SECOND_MS);
    expect(client.all("queueStatus").length).toBe(1);
    expect(other.packets(Port.NODEINFO_APP).length).toBe(1);
  });

  test("drops a client of whom it hears nothing for a quarter of an hour", () => {
    const ether = new TestEther();
    const radio = ether.radio();
    const [silent, living] = [ether.client(radio), ether.client(radio)];
    for (let i = 0; i < 10; i++) {
      living.say({ case: "heartbeat", value: create(Mesh.HeartbeatSchema) });
      ether.run(100 * SECOND_MS);
    }
    expect([silent.closed === undefined, living.closed === undefined]).toEqual([false, true]);
  });

  test("tells its client each minute how busy the channel is, as the air says", () => {
    const ether = new TestEther();
    const [a, b] = [ether.radio(), ether.radio()];
    const client = ether.client(b);
    let ms = 0;
    ether.medium.onSent = ({ startMs, endMs }) => {
      // Of the minute the ten seconds that have just begun are counted, and those before the other fifty are not.
      if (startMs >= 10 * SECOND_MS) ms += endMs - startMs;
    };
    const from = ether.client(a);
    for (let i = 0; i < 12; i++) {
      from.send(PRIVATE, new Uint8Array(100), { hopLimit: 0 });
      ether.run(4_990);
    }
    ether.run(SECOND_MS);
    const told = client
      .packets(Port.TELEMETRY_APP)
      .map(({ data }) => fromBinary(Telemetry.TelemetrySchema, data.payload));
    const { variant } = told[0]!;
    if (variant.case !== "deviceMetrics") throw new Error("no metrics");
    expect(variant.value.channelUtilization!).toBeGreaterThan(15);
    expect(variant.value.channelUtilization!).toBeCloseTo((100 * ms) / 60_000, 3);
    expect(variant.value.airUtilTx!).toBeLessThan(0.1);
    expect(a.airtime.ownPercent).toBeCloseTo((100 * a.airtime.ownMs) / 3_600_000, 5);
  });

  test("sends nothing above the duty cycle of its region, and tells its client", () => {
    const dutyCycle = regions.EU_866.dutyCycle;
    const ether = new TestEther();
    const a = ether.radio({ region: "EU_866" });
    ether.radio();
    const from = ether.client(a);
    for (let i = 1; i <= 100; i++) {
      from.send(PRIVATE, new Uint8Array(200), { id: i, hopLimit: 0 });
      ether.run(5 * SECOND_MS);
    }
    const refused = from.all("queueStatus").filter(({ res }) => res === DUTY_CYCLE_LIMIT);
    expect(refused.length).toBeGreaterThan(40);
    expect(errorsOf(from, refused[0]!.meshPacketId)).toEqual([RoutingError.DUTY_CYCLE_LIMIT]);
    expect(from.all("clientNotification")[0]?.message).toMatch(
      /^Duty cycle limit exceeded\. You can send again in \d+ mins$/,
    );
    const frameMs = 2_100;
    expect(a.airtime.ownMs).toBeLessThanOrEqual(dutyCycle * 3_600_000 + frameMs);
    expect(a.airtime.ownMs).toBeGreaterThan(0.9 * dutyCycle * 3_600_000);
    ether.run(3_700 * SECOND_MS);
    const before = a.transmitter.sent;
    ether.client(a).send(PRIVATE, "again", { hopLimit: 0 });
    ether.run(10 * SECOND_MS);
    expect(a.transmitter.sent).toBe(before + 1);
  });

  test("without a region sends nothing", () => {
    const ether = new TestEther();
    const a = ether.radio({ region: "UNSET" });
    const from = ether.client(a);
    from.send(PRIVATE, "x", { id: 4 });
    ether.run(60 * SECOND_MS);
    expect(from.all("queueStatus").map(({ res }) => res)).toEqual([34]);
    expect(ether.medium.airtimeMs).toBe(0);
  });

  test("says after a reboot that it is back, and its number follows from its key after the update", () => {
    const ether = new TestEther();
    const radio = ether.radio({ firmware: "2.7" });
    const client = ether.client(radio);
    const before = radio.number;
    radio.reboot({ firmware: "2.8" });
    ether.run(SECOND_MS);
    client.send(PRIVATE, "into nothing");
    ether.run(5 * SECOND_MS);
    expect(cases(client)).toEqual(["rebooted"]);
    configured(client, ether, 3);
    expect(client.all("myInfo")[0]?.myNodeNum).toBe(nodeNumberOf(radio.keys.publicKey));
    expect(client.all("myInfo")[0]?.rebootCount).toBe(2);
    expect(client.all("nodeInfo")[0]?.num).not.toBe(before);
    expect(client.all("metadata")[0]?.firmwareVersion).toStartWith("2.8");
  });

  test("that is locked tells nothing, takes nothing, and opens by its words", () => {
    const ether = new TestEther();
    const locked = ether.radio({ passphrase: "open", role: "clientMute" });
    const other = ether.radio();
    const client = TestClient.in(locked);
    configured(client, ether, 1);
    expect(client.all("configCompleteId")).toEqual([1]);
    expect(client.all("channel").every(({ settings }) => settings === undefined)).toBe(true);
    expect(client.all("metadata")[0]?.firmwareVersion).toBe("");
    expect(client.all("nodeInfo").length).toBe(1);
    const keys = client
      .all("config")
      .flatMap(({ payloadVariant: it }) => (it.case === "security" ? [it.value.privateKey.length] : []));
    expect(keys).toEqual([0]);
    const statusOf = () =>
      client.heard.map((it) => bytesField(it, 18)).findLast((it) => it !== undefined)?.[1];
    expect(statusOf()).toBe(2);
    client.send(PRIVATE, "no");
    ether.client(other).send(PRIVATE, "not for whoever holds it");
    ether.run(5 * SECOND_MS);
    expect(other.router.heard).toBe(0);
    expect(client.packets(PRIVATE)).toEqual([]);
    const unlock = (words: string) => {
      const admin = create(Admin.AdminMessageSchema);
      addBytes(admin, 104, Uint8Array.of(0x0a, words.length, ...new TextEncoder().encode(words)));
      client.send(Port.ADMIN_APP, toBinary(Admin.AdminMessageSchema, admin), { to: locked.number });
      ether.run(SECOND_MS);
      return statusOf();
    };
    expect([unlock("wrong"), unlock("open")]).toEqual([4, 3]);
    configured(client, ether, 2);
    expect(client.all("channel")[0]?.settings?.psk).toEqual(Uint8Array.of(1));
    client.send(PRIVATE, "yes");
    ether.run(5 * SECOND_MS);
    expect(other.router.heard).toBe(1);
  });

  test("hands some packets over twice, if it is told to", () => {
    const ether = new TestEther({ preset: "shortTurbo" });
    const [a, b] = [ether.radio(), ether.radio({ behaviour: { deliversTwice: 1 } })];
    const [from, to] = [ether.client(a), ether.client(b)];
    from.send(PRIVATE, "twice", { id: 12 });
    ether.run(5 * SECOND_MS);
    expect(to.packets(PRIVATE).map(({ id }) => id)).toEqual([12, 12]);
  });

  test("keeps so many packets for a client that does not listen, and of more only text", () => {
    const ether = new TestEther({ preset: "shortTurbo" });
    const [a, b] = [ether.radio(), ether.radio({ faults: { isHung: true } })];
    const from = ether.client(a);
    const to = TestClient.in(b);
    to.say({ case: "wantConfigId", value: 1 });
    for (let i = 0; i < TO_CLIENT_MAX + 8; i++) {
      from.send(PRIVATE, String(i), { hopLimit: 0 });
      ether.run(500);
    }
    from.send(Port.TEXT_MESSAGE_APP, "text", { hopLimit: 0 });
    ether.run(SECOND_MS);
    b.faults.isHung = false;
    to.say({ case: "wantConfigId", value: 1 });
    ether.run(SECOND_MS);
    const [first, ...rest] = to.packets(PRIVATE).map(({ text }) => Number(text));
    expect([first, rest.at(-1), rest.length + 1]).toEqual([1, TO_CLIENT_MAX - 1, TO_CLIENT_MAX - 1]);
    expect(to.packets(Port.TEXT_MESSAGE_APP).length).toBe(1);
    expect(b.lost).toBe(9);
  });

  test("two clients of one radio have each a part of what is heard", () => {
    const ether = new TestEther({ preset: "shortTurbo" });
    const [a, b] = [ether.radio(), ether.radio()];
    const from = ether.client(a);
    const both = [ether.client(b), ether.client(b)];
    for (let i = 0; i < 6; i++) {
      from.send(PRIVATE, String(i), { hopLimit: 0 });
      ether.run(500);
    }
    expect(both.reduce((sum, client) => sum + client.packets(PRIVATE).length, 0)).toBe(6);
  });

  test("is asked and changed by its own client, and starts anew with what was changed", () => {
    const ether = new TestEther();
    const [radio, other] = [ether.radio(), ether.radio()];
    const client = ether.client(radio);
    const ask = (payloadVariant: Admin.AdminMessage["payloadVariant"], wantResponse = false) => {
      const admin = Object.assign(create(Admin.AdminMessageSchema), { payloadVariant });
      client.send(
        Port.ADMIN_APP,
        toBinary(Admin.AdminMessageSchema, admin),
        { to: radio.number },
        { wantResponse },
      );
      ether.run(100);
    };
    ask({ case: "getOwnerRequest", value: true }, true);
    const [answer] = client.packets(Port.ADMIN_APP);
    const owner = fromBinary(Admin.AdminMessageSchema, answer!.data.payload).payloadVariant;
    expect(owner.case === "getOwnerResponse" && owner.value.longName).toBe("radio 1");
    ask({ case: "beginEditSettings", value: true });
    ask({
      case: "setChannel",
      value: create(Channel.ChannelSchema, {
        index: 1,
        role: Channel.Channel_Role.SECONDARY,
        settings: { name: "Telex", psk: new Uint8Array(32).fill(1) },
      }),
    });
    ask({ case: "commitEditSettings", value: true });
    ether.run(5 * SECOND_MS);
    expect(client.all("rebooted")).toEqual([true]);
    configured(client, ether, 2);
    expect(client.all("channel")[1]?.settings?.name).toBe("Telex");
    expect(other.router.heard).toBe(0);
  });

  test("that is told rubbish answers nothing and lives", () => {
    const ether = new TestEther();
    const client = TestClient.in(ether.radio());
    for (const bytes of [
      Uint8Array.of(0x94),
      Uint8Array.of(0x94, 0xc3, 0xff, 0xff),
      frameMessage(Uint8Array.of(0xff, 0xff)),
      frameMessage(new Uint8Array(512).fill(0x94)),
      new Uint8Array(700).fill(0xc3),
    ])
      client.write(bytes);
    client.say({ case: "wantConfigId", value: 5 });
    ether.run(SECOND_MS);
    expect(client.all("configCompleteId")).toEqual([5]);
  });
});

test("all presets are those of the medium, each by a number of its own", () => {
  expect(Object.keys(presets).sort()).toEqual(Object.keys(modems).sort());
  expect(new Set(Object.values(presets).map(({ number }) => number)).size).toBe(Object.keys(presets).length);
});
