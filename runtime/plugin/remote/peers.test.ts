/** `ctx.peers` and `ctx.onRequest` of a plugin outside of the node's thread: the host's real doors here, the real context there. */
import { expect, test } from "bun:test";
import type { PeerFacts } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Scope } from "../../kernel/scope.ts";
import { decodeParts, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import type { ContextParts } from "../guest/parts.ts";
import { createPeers } from "../guest/peers.ts";
import { openPeersDoor, type PeersBackend } from "../host/peers-door.ts";
import type { RemoteParts } from "./parts.ts";
import { addPeersCalls } from "./peers.ts";
import { turns } from "./testing.ts";

const far = "b".repeat(52);

function rig() {
  const clock = new ManualClock();
  const scope = new Scope("host");
  const watchers = new Set<() => void>();
  const listeners = new Set<(from: string, message: Uint8Array) => void>();
  const sent: string[] = [];
  const known: PeerFacts[] = [];
  const backend: PeersBackend = {
    self: { id: "a".repeat(52), callsign: "DUN-A", network: "net" },
    list: () => known,
    watch: (fn) => (watchers.add(fn), () => void watchers.delete(fn)),
    send: (plugin, to, message) => sent.push(`${plugin} ${to} ${Buffer.from(message).toString()}`) > 0,
    subscribe: (_plugin, fn) => (listeners.add(fn), () => void listeners.delete(fn)),
  };
  const peers = openPeersDoor({ backend, plugin: "transport.far", scope, clock, log: silentLog });
  const bed = new FrameBed(true);
  let request: ((name: string, input: unknown) => Promise<unknown>) | undefined;
  const ctx = { peers, onRequest: (handler: typeof request) => void (request = handler) };
  addPeersCalls({ ...bed.node, ctx } as unknown as RemoteParts);
  const guest = createPeers({ ...bed.plugin, scope: new Scope("guest") } as unknown as ContextParts);
  bed.onOther = (end, type, _id, body) => {
    if (end !== "plugin" || type !== PluginFrame.event) return;
    const { json, bytes } = decodeParts(body);
    guest.onEvent(json as object, bytes);
  };
  return {
    ...{ bed, clock, scope, guest, watchers, listeners, sent, known },
    ask: (name: string, input: unknown) => request!(name, input),
  };
}

test("a plugin knows who it is and who is there, and what it says goes under its own name", () => {
  const { guest, known, sent } = rig();
  expect(guest.peers.self).toEqual({ id: "a".repeat(52), callsign: "DUN-A", network: "net" } as never);
  known.push({
    id: far,
    callsign: undefined,
    endpoints: ["tcp://192.0.2.1:1"],
    isLinked: true,
    via: undefined,
  });
  expect(guest.peers.list().map(({ id }) => id)).toEqual([far]);
  expect(guest.peers.send(far, Buffer.from("hi"))).toBe(true);
  expect(sent).toEqual([`transport.far ${far} hi`]);
});

test("a subscription is made once, however often a plugin asks: an event is told once", async () => {
  const { bed, guest, listeners, watchers, clock } = rig();
  const got: string[] = [];
  let changes = 0;
  guest.peers.onMessage((from, message) => void got.push(`${from} ${Buffer.from(message).toString()}`));
  guest.peers.onChange(() => void changes++);
  // As a plugin that is no friend of ours would.
  for (let i = 0; i < 10; i++)
    for (const method of ["peers.onMessage", "peers.onChange"]) bed.plugin.calls.askNow(method, {});
  expect([listeners.size, watchers.size]).toEqual([1, 1]);
  for (const tell of listeners) tell(far, Buffer.from("news"));
  for (let i = 0; i < 5; i++) for (const tell of watchers) tell();
  await clock.advance(200);
  await turns();
  expect([got, changes]).toEqual([[`${far} news`], 1]);
});

test("what is heard ends with the plugin", async () => {
  const { guest, scope, listeners, watchers } = rig();
  guest.peers.onMessage(() => {});
  guest.peers.onChange(() => {});
  await scope.close();
  expect([listeners.size, watchers.size]).toEqual([0, 0]);
  expect(() => guest.peers.list()).toThrow("the plugin has stopped");
});

test("what an operator asks a plugin is answered, or fails within half a minute", async () => {
  const { bed, guest, ask } = rig();
  guest.onRequest((name, input) =>
    name === "never" ? new Promise(() => {}) : Promise.resolve({ name, input }),
  );
  expect(await ask("show", { a: 1 })).toEqual({ name: "show", input: { a: 1 } });
  const late = ask("never", null).then(String, (error: unknown) => error);
  await turns();
  await bed.clock.advance(29_999);
  expect(bed.node.calls.askedCount).toBe(1);
  await bed.clock.advance(1);
  expect(await late).toMatchObject({
    code: "GODWIT_PLUGIN_FAILED",
    message: expect.stringContaining("within 30 s"),
  });
});
