import { expect, test } from "bun:test";
import type { Connection } from "./access.ts";
import { EVENTS_QUEUED_MAX, HEARTBEAT_MS } from "./events.ts";
import { SUBSCRIBERS_MAX } from "./routes-mesh.ts";
import { createRig, type Rig } from "./testing.ts";
import type { NodeEvent } from "../view/contract/node.ts";

const connection: Connection = { authority: "socket", peer: undefined, hosts: new Set() };
const event = (n: number, family: NodeEvent["family"] = "link"): NodeEvent => ({
  family,
  type: `${family}.up`,
  at: "2026-01-01T00:00:00.000Z",
  data: { n },
});

async function open(rig: Rig, query = "") {
  const response = await rig.app.request(`/events${query}`, {}, { connection });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const next = async () => {
    const { done, value } = await reader.read();
    return done ? undefined : new TextDecoder().decode(value);
  };
  return { response, next, cancel: () => reader.cancel() };
}

test("the first bytes come at once, then events as they happen", async () => {
  const rig = createRig();
  const { response, next, cancel } = await open(rig);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  expect(await next()).toStartWith("retry: 2000\n");
  const waiting = next();
  rig.node.emit(event(1));
  expect(await waiting).toBe(`event: link.up\ndata: ${JSON.stringify(event(1))}\n\n`);
  rig.node.emit(event(2));
  rig.node.emit({ ...event(3), type: "link\nup", data: { text: "a\nb" } });
  const both = (await next())!;
  expect(both.match(/^event: /gm)).toHaveLength(2);
  expect(both).toContain("event: link_up\n");
  await cancel();
  expect(rig.node.subscribers).toBe(0);
});

test("a quiet stream beats within 8 s, for ever, and stops when nobody listens", async () => {
  expect(HEARTBEAT_MS).toBeWithin(5_000, 8_001);
  const rig = createRig();
  const { next, cancel } = await open(rig);
  await next();
  for (let i = 0; i < 3; i++) {
    const beat = next();
    await rig.clock.advance(HEARTBEAT_MS);
    expect(await beat).toBe(": heartbeat\n\n");
  }
  await cancel();
  expect(rig.clock.nextAtMs()).toBeUndefined();
});

test("a reader that does not read loses the oldest, is told how many, and memory stays bounded", async () => {
  const rig = createRig();
  const { next, cancel } = await open(rig);
  await next();
  for (let n = 0; n < EVENTS_QUEUED_MAX + 50; n++) rig.node.emit(event(n));
  let text = "";
  while (!text.includes(`"n":${EVENTS_QUEUED_MAX + 49}}`)) text += await next();
  expect(text).toStartWith("event: events.lost\n");
  expect(text).toContain('"data":{"count":50}');
  expect(text).toContain('"n":50}');
  expect(text).not.toContain('"n":49}');
  expect(text.match(/^event: link.up/gm)).toHaveLength(EVENTS_QUEUED_MAX);
  await cancel();
});

test("families filter; a wrong one is named", async () => {
  const rig = createRig();
  const { next, cancel } = await open(rig, "?family=message,%20peer");
  await next();
  rig.node.emit(event(1, "link"));
  rig.node.emit(event(2, "peer"));
  expect(await next()).toStartWith("event: peer.up");
  await cancel();
  const wrong = await rig.app.request("/events?family=messages", {}, { connection });
  expect(wrong.status).toBe(400);
});

test("subscribers are bounded and counted down; HEAD subscribes nobody", async () => {
  const rig = createRig();
  const streams = await Promise.all(Array.from({ length: SUBSCRIBERS_MAX }, () => open(rig)));
  expect((await rig.app.request("/events", {}, { connection })).status).toBe(503);
  expect((await rig.app.request("/events", { method: "HEAD" }, { connection })).status).toBe(200);
  for (const { cancel } of streams) await cancel();
  expect(rig.node.subscribers).toBe(0);
  const again = await open(rig);
  expect(again.response.status).toBe(200);
  await again.cancel();
});

test("stopping ends every stream", async () => {
  const rig = createRig();
  const { next } = await open(rig);
  await next();
  const last = next();
  rig.stop.abort();
  expect(await last).toBeUndefined();
  expect(rig.node.subscribers).toBe(0);
  expect(rig.clock.nextAtMs()).toBeUndefined();
  const late = await open(rig);
  expect(await late.next()).toBeUndefined();
});
