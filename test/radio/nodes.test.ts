/** Real nodes that are joined by emulated radios alone: telexes and their receipts through the firmware's queue, its signatures and its limits. */
import { afterEach, expect, test } from "bun:test";
import {
  cleanUp,
  newLab,
  newEther,
  newRadio,
  tables,
  endpointOf,
  ready,
  isDelivered,
  delivered,
  linksOf,
  demandAirtime,
} from "./testing-nodes.ts";

afterEach(cleanUp);

test("two nodes with nothing but radios exchange telexes with receipts; bulk stays until there is TCP, which is then preferred", async () => {
  const lab = await newLab();
  const ether = newEther();
  const [one, other] = [await newRadio(ether), await newRadio(ether, { firmware: "2.7" })];
  const a = await lab.add({
    callsign: "AAA-A",
    advertise: [],
    peers: [endpointOf(other)],
    extra: tables(one),
  });
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(other) });
  await b.start();
  await ready(b);
  await a.start();
  await delivered(a, b, "over the hill", 60_000);
  await delivered(b, a, "and back", 60_000);
  expect(await linksOf(a, "BBB-B")).toEqual(["meshtastic"]);
  await demandAirtime(a, one);
  await demandAirtime(b, other);

  const bulk = await a.sendBytes(crypto.getRandomValues(new Uint8Array(50_000)), { to: "BBB-B" });
  await a.until(
    "bulk to say that it waits for a faster way",
    async () => {
      const { state, reason } = await a.json<{ state: string; reason: string | null }>(`/messages/${bulk}`);
      return state === "queued" && reason?.includes("faster") === true;
    },
    30_000,
  );
  const onAirMs = one.radio.airtime.ownMs;

  await a.configure([endpointOf(other), b.endpoint]);
  await a.api("/reload", { method: "POST" });
  await a.until("bulk is delivered", () => isDelivered(a, bulk), 30_000);
  await delivered(a, b, "by cable", 10_000);
  expect((await linksOf(a, "BBB-B")).toSorted()).toEqual(["meshtastic", "tcp"]);
  // A route update may go by each link; a message or its acknowledgement would be more.
  expect(one.radio.airtime.ownMs - onAirMs).toBeLessThan(2_000);
}, 240_000);

test("three nodes, of which the one between has a radio and a cable, carry telexes and receipts from one end to the other", async () => {
  const lab = await newLab();
  const ether = newEther({ seed: 2 });
  const [one, between] = [await newRadio(ether), await newRadio(ether)];
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(between) });
  const c = await lab.add({ callsign: "CCC-C", advertise: [], peers: [b.endpoint] });
  const a = await lab.add({ callsign: "AAA-A", advertise: [], peers: [b.endpoint], extra: tables(one) });
  // They meet by cable first: to ask for a name by radio takes airtime that is earned in minutes.
  one.radio.unplug();
  await Promise.all([a.start(), b.start(), c.start()]);
  await delivered(a, c, "before it left", 20_000);
  await a.kill("SIGTERM");
  one.radio.plug();
  await a.configure([endpointOf(between)]);
  await ready(b);
  await a.start();
  await delivered(a, c, "from the hill to the harbour", 60_000);
  await delivered(c, a, "and back up", 60_000);
  expect(await linksOf(a, "BBB-B")).toEqual(["meshtastic"]);
  expect(await linksOf(a, "CCC-C")).toEqual([]);
}, 240_000);
