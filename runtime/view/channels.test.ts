/** What the API says of a shared channel is what its budget and its beacons say. */
import { expect, test } from "bun:test";
import { ChannelWorld } from "../mesh/testing-channel.ts";
import { channelViews } from "./channels.ts";

test("who is heard on a channel is told with its place, and by its id once it is a neighbour; control by what it was for", async () => {
  const world = new ChannelWorld(1);
  const core = await world.core();
  const gateway = await world.node();
  world.wire(gateway, core);
  const [edge, other] = [await world.node(), await world.node()];
  await world.hours(8);
  const [view, ...more] = channelViews(edge.mesh.channels, () => "CALLSIGN");
  const budget = edge.airtime.of(edge.station.medium);
  expect(more).toEqual([]);
  expect(view).toMatchObject({ transport: "radio", nodes: 3, control: { share: budget.share } });
  expect(view!.heard.toSorted((a, b) => a.address.localeCompare(b.address))).toEqual(
    [
      { id: gateway.identity.id, callsign: "CALLSIGN", address: gateway.station.address, gateway: true },
      { id: null, callsign: null, address: other.station.address, gateway: false },
    ].toSorted((a, b) => a.address.localeCompare(b.address)),
  );
  for (const { use, seconds, refused } of view!.control.uses) {
    const sums = budget.sums[use as keyof typeof budget.sums];
    expect([seconds, refused]).toEqual([Math.round(sums.usedMs) / 1_000, sums.refused]);
  }
  expect(view!.control.uses.find(({ use }) => use === "beacons")!.seconds).toBeGreaterThan(0);
  await world.stop();
}, 60_000);
