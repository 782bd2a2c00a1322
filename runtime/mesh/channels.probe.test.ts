import { test } from "bun:test";
import { ChannelWorld } from "./testing-channel.ts";

test("probe", async () => {
  const world = new ChannelWorld();
  const core = await world.core();
  const gateway = await world.node();
  world.wire(gateway, core);
  for (let i = 0; i < 9; i++) await world.node();
  for (let h = 0; h < 6; h++) {
    const from = world.mark();
    await world.hours(1);
    console.log(h, (100 * world.shareSince(from)).toFixed(2) + "%", Object.fromEntries(world.channel.airtimeBy), "links", world.nodes.map((n) => n.links).join(","), "peers", world.nodes.map((n) => n.mesh.peers.count).join(","), "default", world.nodes.map((n) => +n.mesh.router.hasDefaultRoute).join(""), "nodes", world.nodes.map((n) => n.airtime.of(n.station.medium).nodes).join(","), "core routes", core.mesh.router.routes().length, "coll", world.channel.collisions);
  }
  console.log(JSON.stringify(gateway.airtime.of(gateway.station.medium).sums), JSON.stringify(world.nodes[3]!.airtime.of(world.nodes[3]!.station.medium).sums));
}, 120_000);
