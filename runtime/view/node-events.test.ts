/** What the hub of a node tells, as the API's subscribers get it. */
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Hub } from "../kernel/hub.ts";
import { formatNodeId, type MessageId } from "../kernel/ids.ts";
import type { NodeEvent } from "./contract/node.ts";
import { type HubEvents, NodeEvents } from "./node-events.ts";

const [id, destination] = [1, 2].map((n) => formatNodeId(new Uint8Array(32).fill(n)));

const open = () => {
  const hub = new Hub<HubEvents>((_, error) => {
    throw error;
  });
  const clock = new ManualClock(Date.UTC(2026, 0, 2));
  return { hub, events: new NodeEvents(hub, clock) };
};

test("events have a family, a type, a time and their facts in snake case", () => {
  const { hub, events } = open();
  const heard: NodeEvent[] = [];
  events.subscribe((event) => heard.push(event));
  hub.emit("peerQuarantined", { neighbour: id!, reason: "lost mail", forMs: 90_400 });
  hub.emit("routeChanged", { destination: destination!, isReachable: false });
  hub.emit("nameResolved", { name: "DUN-A", id: id! });
  const sent = { to: id!, bytes: 5, totalBytes: 9, bitsPerSecond: 8.4, secondsLeft: undefined };
  hub.emit("outboxProgress", { id: "0f" as MessageId, ...sent });
  const at = "2026-01-02T00:00:00.000Z";
  expect(heard).toEqual([
    { family: "peer", type: "peer.quarantined", at, data: { id: id!, reason: "lost mail", seconds: 90 } },
    { family: "route", type: "route.changed", at, data: { destination: destination!, reachable: false } },
    { family: "name", type: "name.resolved", at, data: { name: "DUN-A", id: id! } },
    {
      family: "message",
      type: "message.sending",
      at,
      data: { id: "0f", next_hop: id!, bytes: 5, bytes_total: 9, bits_per_second: 8, seconds_left: null },
    },
  ]);
});

test("one function subscribed twice hears twice, and once after one of them is closed", () => {
  const { hub, events } = open();
  const heard: string[] = [];
  const listen = ({ type }: NodeEvent) => void heard.push(type);
  const first = events.subscribe(listen);
  events.subscribe(listen);
  hub.emit("peerRestored", id!);
  first.close();
  hub.emit("peerRestored", id!);
  expect(heard).toEqual(["peer.restored", "peer.restored", "peer.restored"]);
});
