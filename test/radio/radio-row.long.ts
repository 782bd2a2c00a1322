/**
 * Real nodes in a row with nothing but emulated radios, in real time: `--long radio-row`. A hello that two say at once costs the airtime of minutes, so it is no test for
 * every run; the same in virtual time is in mesh-many.test.ts. `RADIO_PRESET=longFast` is what most radios have, and takes up to an hour.
 */
import { afterEach, expect, test } from "bun:test";
import {
  cleanUp,
  newLab,
  newEther,
  newRadio,
  tables,
  endpointOf,
  ready,
  delivered,
  linksOf,
} from "./testing-nodes.ts";

afterEach(cleanUp);

/** Of one telex, before another is sent. */
const PATIENCE_MS = 1_200_000;

test("three nodes in a row with nothing but radios, of which the ends do not hear each other, exchange telexes with receipts both ways", async () => {
  const lab = await newLab();
  const ether = newEther({ seed: 3 });
  const one = await newRadio(ether);
  const between = await newRadio(ether, { neighbours: [one.radio], firmware: "2.7" });
  const far = await newRadio(ether, { neighbours: [between.radio] });
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(between) });
  const a = await lab.add({ callsign: "AAA-A", advertise: [], peers: [b.endpoint], extra: tables(one) });
  const c = await lab.add({ callsign: "CCC-C", advertise: [], peers: [b.endpoint], extra: tables(far) });
  // Who is who they learn by cable: to ask for a name by radio takes airtime that is earned in minutes.
  for (const { radio } of [one, between, far]) radio.unplug();
  await Promise.all([a.start(), b.start(), c.start()]);
  await delivered(a, c, "before they left", 20_000);
  await delivered(c, a, "farewell", 20_000);
  await Promise.all([a, b, c].map((node) => node.kill("SIGTERM")));
  for (const { radio } of [one, between, far]) radio.plug();
  for (const node of [a, c]) await node.configure([endpointOf(between)]);
  await b.start();
  await ready(b);
  await Promise.all([a.start(), c.start()]);
  await delivered(a, c, "from hill to hill", PATIENCE_MS);
  await delivered(c, a, "and from the other one", PATIENCE_MS);
  expect(await linksOf(a, "BBB-B")).toEqual(["meshtastic"]);
  expect(await linksOf(c, "BBB-B")).toEqual(["meshtastic"]);
  expect(await linksOf(a, "CCC-C")).toEqual([]);
}, 7_200_000);
