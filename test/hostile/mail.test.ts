/** Attacks of free identities on mail of others, with real nodes: places for large bodies that are never given back, and a name beside another's. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { encodeChunk, encodeOffer, makeBundle } from "../../runtime/wire/bundle.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { idOf } from "./flood.ts";
import { Member } from "./member.ts";

const NETWORK = "lab";
const WAIT_MS = 30_000;
const TEST_MS = 90_000;
const DRIP_MS = 500;

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(() => lab?.close());

async function delivered(from: LabNode, message: Parameters<LabNode["send"]>[0]): Promise<void> {
  const id = await from.send(message);
  await from.until(
    "the receipt",
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    WAIT_MS,
  );
}

test(
  "two keys that send a byte of a large body now and then do not keep the large mail of others out",
  async () => {
    const b = await lab.add({ callsign: "DRP-B" });
    const a = await lab.add({ callsign: "DRP-A", peers: [b.endpoint] });
    await Promise.all([a.start(), b.start()]);
    const self = await idOf(b);
    const body = "x".repeat(300_000);
    await delivered(a, { to: self, body });
    const transfers: (() => void)[] = [];
    const liars = await Promise.all([1, 2].map(() => new Member({ network: NETWORK }).join(b)));
    for (const [n, liar] of liars.entries()) {
      await liar.meet();
      for (let i = 0; i < 2; i++) {
        const ends = { source: liar.identity.id, destination: self };
        const header = { ...ends, kind: 0, priority: 1, lifetimeMs: 3_600_000 } as const;
        const { id } = makeBundle(header, new Uint8Array(100 + 2 * n + i));
        const journey = { remainingMs: 3_600_000, hops: 1, trace: [] };
        liar.send(encodeOffer({ id, header, journey, sealedBytes: 10_000_000 }));
        let at = 0;
        transfers.push(() => liar.send(encodeChunk(id, at++, new Uint8Array(1))));
      }
    }
    const dripping = setInterval(() => transfers.forEach((drip) => drip()), DRIP_MS);
    try {
      await delivered(a, { to: self, body });
    } finally {
      clearInterval(dripping);
      for (const liar of liars) liar.leave();
    }
  },
  TEST_MS,
);

test(
  "who claims a name at the location of a configured machine gets none of the mail that others may take for it",
  async () => {
    const b = await lab.add({ callsign: "DUN-B" });
    await b.start();
    const bound = `[names]\n"DUN-B" = "${await idOf(b)}"\n`;
    const a = await lab.add({ callsign: "LON-A", peers: [b.endpoint], extra: bound });
    await a.start();
    let bundles = 0;
    const stranger = new Member({
      network: NETWORK,
      callsign: "DUN-0",
      hears: ([type]) => void (bundles += type === FrameType.bundle || type === FrameType.offer ? 1 : 0),
    });
    await stranger.join(a);
    await stranger.meet();
    await stranger.advertiseItself();
    await a.until(
      "the claim",
      async () =>
        (await a.json<{ names: { name: string }[] }>("/mesh/names")).names.some(
          ({ name }) => name === "DUN-0",
        ),
      WAIT_MS,
    );
    await delivered(a, { to: "DUN-B", body: "x", failover: true });
    expect(bundles).toBe(0);
    stranger.leave();
  },
  TEST_MS,
);
