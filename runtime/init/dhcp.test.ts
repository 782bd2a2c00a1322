import { describe, expect, test } from "bun:test";
import vectors from "../../test/vectors/dhcp.json";
import { ManualClock } from "../kernel/clock.ts";
import { GodwitError } from "../kernel/errors.ts";
import { seededRandom } from "../kernel/random.ts";
import { DhcpClient, type Lease } from "./dhcp-client.ts";
import { decodeDhcp, encodeDhcp } from "./dhcp.ts";

const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));
const MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);
const TRANSACTION = 0x466e08ff;

describe("messages", () => {
  test("what was sent to a real server, byte by byte", () => {
    const common = { transaction: TRANSACTION, seconds: 0, mac: MAC, hostname: "probe" };
    expect(Buffer.from(encodeDhcp({ type: "discover", ...common })).toString("hex")).toBe(vectors.discover);
    const request = encodeDhcp({
      type: "request",
      ...common,
      requested: Uint8Array.of(10, 0, 2, 15),
      server: Uint8Array.of(10, 0, 2, 2),
    });
    expect(Buffer.from(request).toString("hex")).toBe(vectors.request);
  });

  test("what a real server answered", () => {
    const wanted = {
      transaction: TRANSACTION,
      address: Uint8Array.of(10, 0, 2, 15),
      server: Uint8Array.of(10, 0, 2, 2),
      prefixLength: 24,
      router: Uint8Array.of(10, 0, 2, 2),
      nameServers: ["10.0.2.3"],
      timeServers: [],
      leaseSeconds: 86_400,
      renewSeconds: undefined,
    };
    expect(decodeDhcp(bytesOf(vectors.offer))).toMatchObject({ type: "offer", ...wanted });
    expect(decodeDhcp(bytesOf(vectors.ack))).toMatchObject({ type: "ack", ...wanted });
  });

  test("options in the fields of boot files, in parts, and before the end only", () => {
    const bytes = reply("ack", TRANSACTION, [
      [52, [3]],
      [6, [192, 0, 2, 1]],
      [6, [192, 0, 2, 2]],
    ]);
    bytes.set([3, 4, 10, 0, 0, 1, 255, 42, 4, 1, 1, 1, 1], 108); // file: a router, and what stands behind the end
    bytes.set([26, 2, 5, 0xdc, 255], 44); // server name: the MTU
    expect(decodeDhcp(bytes)).toMatchObject({
      nameServers: ["192.0.2.1", "192.0.2.2"],
      router: Uint8Array.of(10, 0, 0, 1),
      mtu: 1_500,
      timeServers: [],
    });
  });

  test("what is wrong is refused", () => {
    const bad: Uint8Array[] = [
      new Uint8Array(),
      new Uint8Array(2_000),
      bytesOf(vectors.discover),
      bytesOf(vectors.ack).subarray(0, 239),
      reply("ack", 1, [[1, [255, 0, 255, 0]]]),
      reply("ack", 1, [[1, [255, 255, 255]]]),
      reply("ack", 1, [[3, [1, 2, 3]]]),
      reply("ack", 1, [[51, [1]]]),
      // The last option runs over the end.
      Uint8Array.from([...reply("ack", 1, []).subarray(0, 243), 6, 200, 1]),
    ];
    for (const bytes of bad) {
      let thrown: unknown;
      try {
        decodeDhcp(bytes);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(GodwitError);
    }
  });
});

type Option = readonly [number, readonly number[]];

function reply(
  type: "offer" | "ack" | "nak",
  transaction: number,
  options: readonly Option[],
  address = [10, 0, 0, 50],
): Uint8Array {
  const out = new Uint8Array(400);
  out.set([2, 1, 6, 0]);
  new DataView(out.buffer).setUint32(4, transaction);
  out.set(address, 16);
  out.set(MAC, 28);
  const types = { offer: 2, ack: 5, nak: 6 };
  const all: readonly Option[] = [[53, [types[type]]], ...options];
  out.set(
    [0x63, 0x82, 0x53, 0x63, ...all.flatMap(([code, bytes]) => [code, bytes.length, ...bytes]), 255],
    236,
  );
  return out;
}

const seconds = (value: number) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];

interface Sent {
  readonly atS: number;
  readonly type: string;
  readonly to: string;
  readonly current: string;
}

/** A client on a clock of its own, and what it sent. `answer` plays the server. */
function lab(answer: (type: string, transaction: number) => Uint8Array[] = () => []) {
  const clock = new ManualClock();
  const sent: Sent[] = [];
  const leases: (Lease | undefined)[] = [];
  const types = ["", "discover", "offer", "request", "decline", "ack", "nak", "release"];
  const client = new DhcpClient({
    clock,
    random: seededRandom(7),
    mac: MAC,
    hostname: "dun-a",
    send(message, to) {
      const type = types[message[242]!]!;
      const transaction = new DataView(message.buffer, message.byteOffset).getUint32(4);
      sent.push({
        atS: Math.round(clock.monotonicMs() / 1_000),
        type,
        to: typeof to === "string" ? to : to.join("."),
        current: message.subarray(12, 16).join("."),
      });
      for (const bytes of answer(type, transaction)) clock.after(5, () => client.receive(bytes));
    },
    onLease: (lease) => leases.push(lease),
  });
  return { clock, sent, leases, client };
}

const SERVER = [54, [10, 0, 0, 1]] as const;
const offering =
  (leaseS: number, more: readonly Option[] = []) =>
  (type: string, transaction: number): Uint8Array[] => {
    const options: readonly Option[] = [SERVER, [1, [255, 255, 255, 0]], [51, seconds(leaseS)], ...more];
    return type === "discover"
      ? [reply("offer", transaction, options)]
      : type === "request"
        ? [reply("ack", transaction, options)]
        : [];
  };

describe("a client", () => {
  test("finds a lease, renews it with its server at half of it, and is quiet in between", async () => {
    const { clock, sent, leases, client } = lab(offering(3_600, [[3, [10, 0, 0, 1]]]));
    client.start();
    await clock.advance(100);
    expect(sent.map(({ type, to }) => `${type} ${to}`)).toEqual(["discover broadcast", "request broadcast"]);
    expect(leases).toHaveLength(1);
    expect(leases[0]).toMatchObject({ address: Uint8Array.of(10, 0, 0, 50), prefixLength: 24 });
    expect(client.isWaiting).toBe(false);
    sent.length = 0;
    await clock.advance(3 * 3_600_000);
    expect(sent.map(({ atS, type, to, current }) => `${atS} ${type} ${to} ${current}`)).toEqual(
      [1_800, 3_600, 5_400, 7_200, 9_000, 10_800].map((at) => `${at} request 10.0.0.1 10.0.0.50`),
    );
  });

  test("whose server is silent asks any server, and gives the address up when the lease ends", async () => {
    let isUp = true;
    const { clock, sent, leases, client } = lab((type, transaction) =>
      isUp ? offering(3_600)(type, transaction) : [],
    );
    client.start();
    await clock.advance(100);
    isUp = false;
    sent.length = 0;
    await clock.advance(3_599_000);
    expect(client.state).toBe("rebinding");
    expect(leases).toHaveLength(1);
    const renewing = sent.filter(({ to }) => to === "10.0.0.1");
    const rebinding = sent.find(({ to }) => to === "broadcast");
    expect(renewing[0]!.atS).toBe(1_800);
    expect(renewing.at(-1)!.atS).toBeLessThan(3_150);
    expect(rebinding!.atS).toBe(3_150);
    expect(sent.length).toBeLessThan(20);
    await clock.advance(2_000);
    expect(leases).toHaveLength(2);
    expect(leases[1]).toBeUndefined();
    expect(client.state).toBe("selecting");
    isUp = true;
    await clock.advance(120_000);
    expect(leases.at(-1)).toBeDefined();
  });

  test("on a dead cable asks with pauses that grow to a minute, for ever", async () => {
    const { clock, sent, client } = lab();
    client.start();
    await clock.advance(3_600_000);
    const pauses = sent.slice(1).map(({ atS }, i) => atS - sent[i]!.atS);
    expect(pauses[0]).toBeLessThanOrEqual(2);
    expect(pauses.every((pause) => pause <= 66)).toBe(true);
    expect(sent.length).toBeGreaterThan(50);
    expect(sent.length).toBeLessThan(75);
  });

  test("whose request nobody answers searches anew", async () => {
    const { clock, sent, client } = lab((type, transaction) =>
      type === "discover" ? offering(60)(type, transaction) : [],
    );
    client.start();
    await clock.advance(60_000);
    expect(sent.slice(0, 6).map(({ type }) => type)).toEqual([
      "discover",
      "request",
      "request",
      "request",
      "request",
      "discover",
    ]);
  });

  test("that is refused waits, and asks anew", async () => {
    const { clock, sent, leases, client } = lab((type, transaction) =>
      type === "discover"
        ? offering(60)(type, transaction)
        : [reply("nak", transaction, [SERVER], [0, 0, 0, 0])],
    );
    client.start();
    await clock.advance(61_000);
    expect(leases).toEqual([]);
    expect(sent.filter(({ type }) => type === "discover").map(({ atS }) => atS)).toEqual([
      0, 10, 20, 30, 40, 50, 60,
    ]);
  });

  test("that is refused at a renewal gives its address up", async () => {
    let refuses = false;
    const { clock, leases, client } = lab((type, transaction) =>
      refuses && type === "request"
        ? [reply("nak", transaction, [SERVER], [0, 0, 0, 0])]
        : offering(3_600)(type, transaction),
    );
    client.start();
    await clock.advance(100);
    refuses = true;
    await clock.advance(1_801_000);
    expect(leases.map((lease) => lease === undefined)).toEqual([false, true]);
  });

  test("takes nothing that is for others, late, or malformed", async () => {
    const { clock, leases, client } = lab((type, transaction) => {
      if (type !== "discover") return [];
      const foreign = reply("offer", transaction, [SERVER]);
      foreign[28] = 1;
      return [
        new Uint8Array(5),
        foreign,
        reply("offer", (transaction + 1) >>> 0, [SERVER]),
        reply("offer", transaction, []), // of no server
        reply("offer", transaction, [SERVER], [0, 0, 0, 0]),
        reply("offer", transaction, [SERVER], [224, 0, 0, 1]),
        reply("ack", transaction, [SERVER]), // before anything was asked for
      ];
    });
    client.start();
    await clock.advance(3_000);
    expect(client.state).toBe("selecting");
    expect(leases).toEqual([]);
  });

  test("believes a server's own times where they make sense, and a lease without end", async () => {
    const { clock, sent, client } = lab(
      offering(3_600, [
        [58, seconds(600)],
        [59, seconds(9_999_999)],
      ]),
    );
    client.start();
    await clock.advance(601_000);
    expect(sent.at(-1)).toMatchObject({ atS: 600, to: "10.0.0.1" });
    const forever = lab(offering(0xffff_ffff));
    forever.client.start();
    await forever.clock.advance(365 * 86_400_000);
    expect(forever.sent.length).toBeLessThan(5);
    expect(forever.client.state).toBe("bound");
    expect(forever.clock.nextAtMs()).toBeUndefined();
    // A server that wants to be asked all the same is asked; without an answer the address stays.
    const asked = lab((type, transaction) =>
      asked.sent.length > 2 ? [] : offering(0xffff_ffff, [[58, seconds(600)]])(type, transaction),
    );
    asked.client.start();
    await asked.clock.advance(365 * 86_400_000);
    expect(asked.sent.map(({ type, atS }) => `${type} ${atS}`)).toEqual([
      "discover 0",
      "request 0",
      "request 600",
    ]);
    expect(asked.leases).toHaveLength(1);
    expect(asked.clock.nextAtMs()).toBeUndefined();
  });

  test("of a pulled cable keeps its address, and asks for the same one", async () => {
    const { clock, sent, leases, client } = lab(offering(3_600));
    client.start();
    await clock.advance(100);
    client.pause();
    sent.length = 0;
    await clock.advance(600_000);
    expect(sent).toEqual([]);
    client.start();
    await clock.advance(100);
    expect(sent.map(({ type }) => type)).toEqual(["discover", "request"]);
    expect(leases).toHaveLength(2);
  });

  test("gives its address back at an orderly end", async () => {
    const { clock, sent, client } = lab(offering(3_600));
    client.start();
    await clock.advance(100);
    client.release();
    expect(sent.at(-1)).toMatchObject({ type: "release", to: "10.0.0.1", current: "10.0.0.50" });
    await clock.advance(7_200_000);
    expect(sent.at(-1)!.type).toBe("release");
  });
});
