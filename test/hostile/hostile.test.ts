/**
 * Real nodes under attack while messages flow: DUN-A - LON-B - NYC-C, the one in the middle attacked by strangers and by
 * a member. Memory and descriptors come back, every message arrives once, nothing alarms. Liars: liar.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { parseNodeId, formatNodeId, type BundleId, type NodeId } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import * as bundle from "../../runtime/wire/bundle.ts";
import { FRAME_BYTES_MAX, FrameType } from "../../runtime/wire/constants.ts";
import * as message from "../../runtime/wire/message.ts";
import { encodeHello } from "../../runtime/wire/peer-messages.ts";
import * as route from "../../runtime/wire/route-messages.ts";
import { mutate } from "../fuzz/mutate.ts";
import { Member } from "./member.ts";
import { attackApi, attackLink, flood, halfOpen, recordHandshake, slowLoris } from "./stranger.ts";
import { addNode, alarms, logBytes, metricOf, Traffic, vitalsOf, type Vitals } from "./watch.ts";

const NETWORK = "lab";
const RSS_GROWTH_MB_MAX = 40;
/** Links that were closed may linger for the time of a handshake, and a retired one for a moment. */
const DESCRIPTORS_MORE_MAX = 6;
const RECOVERY_MS = 20_000;
const LOG_BYTES_MAX = 4 * 1024 * 1024;
const QUIET_MS = 3_000;
const random = seededRandom(Date.now() % 1_000_000);

let lab: Lab;
let a: LabNode;
let b: LabNode;
let c: LabNode;
let traffic: Traffic;
let rest: readonly Vitals[];
let quietRate = 0;

const idOf = async (node: LabNode): Promise<NodeId> =>
  parseNodeId((await node.json<{ node: { id: string } }>("/mesh/status")).node.id);
const reaches = async (node: LabNode, callsign: string, isVia?: NodeId) => {
  const { routes } = await node.json<{ routes: { callsign: string | null; next_hop: string }[] }>(
    "/mesh/routes",
  );
  return routes.some((row) => row.callsign === callsign && (isVia ?? row.next_hop) === row.next_hop);
};

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  b = await addNode(lab, "LON-B", []);
  a = await addNode(lab, "DUN-A", [b.endpoint]);
  // One sender may fill half of an inbox.
  c = await addNode(lab, "NYC-C", [b.endpoint], { extra: "[delivery]\ninbox_messages_max = 200000" });
  await Promise.all(lab.nodes.map((node) => node.start()));
  await a.until("a route to NYC-C", () => reaches(a, "NYC-C"), 20_000);
  await c.until("a route to DUN-A", () => reaches(c, "DUN-A"), 20_000);
  traffic = new Traffic(a, c);
  await traffic.rate(QUIET_MS);
  quietRate = await traffic.rate(QUIET_MS);
  rest = lab.nodes.map(vitalsOf);
}, 60_000);

// Whatever the order of the tests: all that was accepted is there, once.
afterAll(async () => {
  try {
    const { accepted, faults } = await traffic.finish();
    console.log(`${accepted} messages accepted, ${faults.length} faults`);
    expect(faults.slice(0, 10)).toEqual([]);
    expect(accepted).toBeGreaterThan(1_000);
  } finally {
    await lab.close();
  }
}, 90_000);

/** Runs an attack beside the traffic and holds the nodes to what they promise. */
async function under(
  what: string,
  attack: () => Promise<unknown>,
  growthMbMax = RSS_GROWTH_MB_MAX,
): Promise<void> {
  const before = lab.nodes.map(vitalsOf);
  let peakMb = 0;
  const timer = setInterval(() => {
    if (b.isRunning) peakMb = Math.max(peakMb, vitalsOf(b).rssMb);
  }, 200);
  try {
    const state = { isOver: false };
    const attacking = attack().finally(() => (state.isOver = true));
    // Awaited below; meanwhile its failure is not news.
    attacking.catch(() => {});
    const rates: number[] = [];
    do {
      rates.push(await traffic.rate(1_000));
      expect(((await (await b.api("/health")).json()) as { status: string }).status).toBe("ok");
    } while (!state.isOver);
    await attacking;
    const rate = rates.reduce((sum, one) => sum + one, 0) / rates.length;
    await recovered(what, before, growthMbMax);
    const grown = lab.nodes.map((node, i) => (vitalsOf(node).rssMb - before[i]!.rssMb).toFixed(1));
    console.log(
      `${what}: ${rate.toFixed(0)} messages/s under attack, ${quietRate.toFixed(0)} without; ` +
        `memory of B, A, C ${grown.join(", ")} MB more than before, peak of B ${(peakMb - before[0]!.rssMb).toFixed(1)}`,
    );
    expect(rate).toBeGreaterThan(0);
  } finally {
    clearInterval(timer);
  }
  for (const node of lab.nodes) {
    expect(alarms(lab, node)).toEqual([]);
    expect(logBytes(lab, node)).toBeLessThan(LOG_BYTES_MAX);
  }
}

async function recovered(
  what: string,
  before: readonly Vitals[] = rest,
  growthMbMax = RSS_GROWTH_MB_MAX,
): Promise<void> {
  for (const [i, node] of lab.nodes.entries())
    await node.until(
      `memory and descriptors to come back after ${what} (before ${JSON.stringify(before[i])}, now ${JSON.stringify(vitalsOf(node))})`,
      async () => {
        const { rssMb, descriptors } = vitalsOf(node);
        return (
          rssMb - before[i]!.rssMb < growthMbMax && descriptors - rest[i]!.descriptors <= DESCRIPTORS_MORE_MAX
        );
      },
      RECOVERY_MS,
      200,
    );
}

describe("strangers", () => {
  test("garbage, replays and a flood of connections on the link port", async () => {
    const recorded = await recordHandshake(b, NETWORK);
    expect(recorded.length).toBeGreaterThan(1);
    await under("link flood", () => attackLink(b, recorded, 2_000));
  }, 90_000);

  test("half-open connections that send a byte now and then", async () => {
    await under("link slow-loris", () =>
      Promise.all([
        slowLoris(b.linkPort, 300, 4_000, [Uint8Array.of(0x13, 1, 1)]),
        flood(50, () => halfOpen(b.linkPort)),
      ]),
    );
  }, 90_000);

  test("slow bodies, huge headers, deep JSON, wrong tokens and many subscribers on the API port", async () => {
    await under("api", () => attackApi(b, 4_000));
  }, 90_000);
});

const plane = (metric: number, seqno = 1): route.PlaneRoute => ({
  seqno,
  metric,
  mtu: 61_440,
  bottleneck: 0,
});
const bundleIdOf = (): BundleId =>
  bundle.makeBundle(headerTo(parseNodeId("a".repeat(52))), random.bytes(9)).id;
const headerTo = (destination: NodeId, source = destination, kind: 0 | 1 = 0): bundle.BundleHeader => ({
  kind,
  priority: 2,
  source,
  destination,
  lifetimeMs: 60_000,
});
const journey: bundle.Journey = { remainingMs: 50_000, hops: 1, trace: [] };

/** One of each frame that a neighbour may send. */
function frames(to: NodeId): Uint8Array[] {
  const id = bundleIdOf();
  const update = route.beginUpdate(1, 1, 500);
  route.appendUpdateEntry(update, to, plane(1), plane(1), undefined);
  return [
    update.finish(),
    route.encodeRouteAck({ tag: 1, serial: 1 }),
    route.encodeSeqnoRequest({ tag: 1, destination: to, seqno: 2 ** 47, planes: 3, hopsLeft: 64 }),
    route.encodeRouteDigest({ tag: 1, serial: 1, sums: new Uint32Array(16) }),
    route.encodeRecordReply({ destination: to, record: random.bytes(200) }),
    bundle.encodeBundleFrame(bundle.makeBundle(headerTo(to), random.bytes(100)), journey),
    bundle.encodeCustodyAck([id]),
    bundle.encodeCustodyRefuse(id, 1, 2 ** 50),
    bundle.encodeOffer({ id, header: headerTo(to), journey, sealedBytes: 16_000_000 }),
    bundle.encodeWant(id, 0, 2 ** 50),
    bundle.encodeChunk(id, 0, random.bytes(1_000)),
    Uint8Array.of(FrameType.hello, 1, 1),
    Uint8Array.of(FrameType.probe),
    Uint8Array.of(FrameType.packet, 0),
  ];
}

describe("a member", () => {
  test("sends malformed frames of every type, and says hello as ever another life", async () => {
    const target = await idOf(c);
    await under("malformed frames", async () => {
      const identity = new Member({ network: NETWORK }).identity;
      for (let i = 0; i < 150; i++) {
        const member = await new Member({ network: NETWORK, identity }).join(b, random.bytes(8));
        const pool = { seeds: frames(target), tokens: [] };
        for (let j = 0; j < 10; j++) {
          const frame = mutate(random, pool).subarray(0, FRAME_BYTES_MAX);
          if (frame.length > 0) member.send(frame);
        }
        member.send(
          encodeHello({
            versionMin: 1,
            versionMax: 1,
            bootId: random.bytes(8),
            storeEpoch: random.bytes(8),
            record: random.bytes(900),
          }),
        );
        await Bun.sleep(5);
        member.leave();
      }
    });
    expect(await metricOf(b, "godwit_link_protocol_errors_total")).toBeGreaterThan(10);
  }, 90_000);

  test("advertises a million destinations, forges proofs and claims the name of another", async () => {
    const own = await idOf(c);
    const member = await new Member({ network: NETWORK, callsign: "NYC-C" }).join(b);
    try {
      await member.meet();
      let taken = 0;
      await under("a million destinations", async () => {
        const forged = { seqno: 2 ** 40, recordHash: random.bytes(8), signature: random.bytes(64) };
        await member.advertise([{ destination: own, any: plane(0, 2 ** 40), proof: forged }]);
        taken = await member.advertise(
          (function* () {
            for (let i = 0; i < 1_000_000; i++)
              yield {
                destination: formatNodeId(random.bytes(32)),
                any: plane(i & 0xffff),
                proof: i % 1_000 === 0 ? forged : undefined,
              };
          })(),
        );
        // A number that its owner never signed must not draw traffic.
        expect(await reaches(a, "NYC-C", await idOf(b))).toBe(true);
        expect(await reaches(b, "NYC-C", own)).toBe(true);
      });
      expect(taken).toBe(1_000_000);
    } finally {
      member.leave();
    }
  }, 120_000);

  test("forges receipts, acknowledges what it was never given, and floods with offers and wants", async () => {
    const [sender, recipient] = [await idOf(a), await idOf(c)];
    const member = await new Member({ network: NETWORK }).join(b);
    try {
      await under("custody floods", async () => {
        const outbox = await a.box<{ id: string; state: string }>("outbox");
        for (let i = 0; i < 20_000 && !member.isClosed; i++) {
          const id = bundleIdOf();
          const receipt = message.encodeReceipt({
            status: message.ReceiptStatus.refused,
            messageId: outbox[i % Math.max(1, outbox.length)]!.id as message.Receipt["messageId"],
            bundleId: id,
            atMs: Date.now(),
            isUnconfirmed: false,
            trace: [],
          });
          const forged = bundle.makeBundle(
            headerTo(sender, recipient, 1),
            message.encodeReceiptBody([receipt], random.bytes(64)),
          );
          const sent = [
            () => member.send(bundle.encodeCustodyAck(Array.from({ length: 20 }, bundleIdOf))),
            () =>
              member.send(
                bundle.encodeOffer({ id, header: headerTo(recipient), journey, sealedBytes: 9_000_000 }),
              ),
            () => member.send(bundle.encodeWant(id, 0, 1_000_000)),
            () => member.send(bundle.encodeChunk(id, 0, random.bytes(200))),
            () => i % 40 !== 4 || member.send(bundle.encodeBundleFrame(forged, journey)),
          ][i % 5]!();
          if (!sent) await Bun.sleep(10);
          if (i % 200 === 0) await Bun.sleep(10);
        }
      });
      const refused = (await a.box<{ state: string }>("outbox")).filter(({ state }) => state === "refused");
      expect(refused).toEqual([]);
    } finally {
      member.leave();
    }
  }, 90_000);
});
