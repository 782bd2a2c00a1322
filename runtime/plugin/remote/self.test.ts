/** `ctx.self` of the host, and over frames: the two ends without the channel between them. */
import { expect, test } from "bun:test";
import { itemMessage, itemSalt } from "@godwit/sdk";
import { generateIdentity, type Identity, verifySignature } from "../../identity/keys.ts";
import {
  isSignedForPlugin,
  meshSeedForPlugin,
  signForPlugin,
  signItemForPlugin,
} from "../../identity/plugin-words.ts";
import { silentLog } from "../../kernel/log.ts";
import { seededRandom } from "../../kernel/random.ts";
import { Scope } from "../../kernel/scope.ts";
import { FrameBed } from "../frames/testing.ts";
import type { ContextParts } from "../guest/parts.ts";
import { createSelf } from "../guest/self.ts";
import { openSelfDoor } from "../host/self-door.ts";
import type { RemoteParts } from "./parts.ts";
import { addSelfCalls } from "./self.ts";

const text = (words: string) => new TextEncoder().encode(words);

function rig(
  plugin = "discovery.a",
  network = "net",
  identity: Identity = generateIdentity(seededRandom(1)),
) {
  let endpoints = ["tcp://192.0.2.1:1"];
  const watchers = new Set<() => void>();
  const scope = new Scope("test");
  const door = openSelfDoor({
    plugin,
    scope,
    log: silentLog,
    backend: {
      id: identity.id,
      callsign: "DUN-A",
      network,
      tags: ["relay"],
      protocols: { min: 1, max: 2 },
      endpoints: () => endpoints,
      listening: () => ["tcp://[::]:1"],
      watch(fn) {
        watchers.add(fn);
        return () => void watchers.delete(fn);
      },
      sign: (of, message) => signForPlugin(identity, of, message, network),
      verify: (of, id, message, signature) => isSignedForPlugin(id, of, message, signature, network),
      signItem: (of, item) => signItemForPlugin(identity, of, item),
      meshSeeds: (of, purpose) =>
        [text("one"), text("two")].map((secret) => meshSeedForPlugin(secret, network, of, purpose)),
    },
  });
  const bed = new FrameBed(true);
  addSelfCalls({ ...bed.node, ctx: { self: door } } as unknown as RemoteParts);
  const guest = createSelf({ ...bed.plugin, scope } as unknown as ContextParts);
  bed.onOther = (end) => end === "plugin" && guest.onSelf();
  const set = (next: string[]) => {
    endpoints = next;
    for (const fn of watchers) fn();
  };
  return { identity, door, bed, guest: guest.self, scope, watchers, set };
}

test("a guest knows who it is, where it is dialled, and hears of changes until its end", async () => {
  const { identity, guest, scope, watchers, set } = rig();
  expect([guest.id, guest.callsign, guest.network, guest.tags]).toEqual([
    identity.id,
    "DUN-A",
    "net",
    ["relay"],
  ]);
  expect(guest.endpoints()).toEqual(["tcp://192.0.2.1:1"]);
  expect([guest.protocols, guest.listening()]).toEqual([{ min: 1, max: 2 }, ["tcp://[::]:1"]]);
  const changed = Promise.withResolvers<void>();
  guest.onChange(() => changed.resolve());
  set(["tcp://192.0.2.2:2"]);
  await changed.promise;
  expect(guest.endpoints()).toEqual(["tcp://192.0.2.2:2"]);
  await scope.close();
  expect(watchers.size).toBe(0);
  expect(() => guest.endpoints()).toThrow("the plugin has stopped");
});

test("what a plugin signs is verified by its like in the same mesh, and by nothing else", async () => {
  const { identity, guest, door } = rig();
  const message = text("here I am");
  const signature = await guest.sign(message);
  expect(signature.length).toBe(64);
  expect(await door.verify(identity.id, message, signature)).toBe(true);
  expect(await guest.verify(identity.id, message, signature)).toBe(true);
  for (const [plugin, network] of [
    ["discovery.b", "net"],
    ["discovery.a", "other"],
    ["service.a", "net"],
  ] as const)
    expect(await rig(plugin, network).door.verify(identity.id, message, signature)).toBe(false);
  // Not the plain signature: nothing that the node itself says can be had by this door.
  expect(verifySignature(identity.id, message, signature)).toBe(false);
  const stranger = generateIdentity(seededRandom(2)).id;
  for (const [id, said, by] of [
    [stranger, message, signature],
    [identity.id, text("here I am not"), signature],
    [identity.id, message, signature.subarray(1)],
    ["nobody", message, signature],
    [identity.id, new Uint8Array(4_097), signature],
  ] as const)
    expect(await guest.verify(id, said, by)).toBe(false);
});

test("a message of 4,096 bytes is signed, one more is refused", async () => {
  const { guest } = rig();
  expect((await guest.sign(new Uint8Array(4_096))).length).toBe(64);
  await expect(guest.sign(new Uint8Array(4_097))).rejects.toMatchObject({ code: "GODWIT_TOO_BIG" });
});

test("an item is signed as BEP 44 has it, under the plugin's own salt, and nothing else is", async () => {
  const { identity, guest } = rig("discovery.dht");
  const [label, value] = [Uint8Array.of(1, 2), text("12:Hello World!".slice(3))];
  const signature = await guest.signItem({ label, seq: 7, value });
  const signed = Buffer.concat([
    text("4:salt23:godwit discovery.dht "),
    label,
    text("3:seqi7e1:v12:Hello World!"),
  ]);
  expect(verifySignature(identity.id, signed, signature)).toBe(true);
  // The label cannot reach out of the salt: its length stands before it.
  expect(Buffer.from(itemMessage(itemSalt("discovery.dht", label), 7, value))).toEqual(signed);
  for (const item of [
    { label: new Uint8Array(17), seq: 0, value },
    { label, seq: -1, value },
    { label, seq: 2 ** 53, value },
    { label, seq: 0.5, value },
    { label, seq: 0, value: new Uint8Array(997) },
    { label, seq: 0, value: new Uint8Array(0) },
  ])
    await expect(guest.signItem(item)).rejects.toMatchObject({ code: "GODWIT_REQUEST_INVALID" });
  await expect(
    rig(`discovery.${"x".repeat(60)}`).guest.signItem({ label, seq: 0, value }),
  ).rejects.toMatchObject({
    code: "GODWIT_REQUEST_INVALID",
  });
});

test("mesh seeds: one for each live secret, alike at nodes of one mesh, apart for plugins, meshes and purposes", async () => {
  const { guest } = rig("discovery.dht");
  const seeds = await guest.meshSeeds("rendezvous");
  expect(seeds.map(({ length }) => length)).toEqual([32, 32]);
  const hex = async (of: ReturnType<typeof rig>, purpose = "rendezvous") =>
    (await of.guest.meshSeeds(purpose)).map((seed) => Buffer.from(seed).toString("hex"));
  const other = generateIdentity(seededRandom(2));
  expect(await hex(rig("discovery.dht", "net", other))).toEqual(await hex(rig("discovery.dht")));
  const all = [
    ...(await hex(rig("discovery.dht"))),
    ...(await hex(rig("discovery.dht", "other"))),
    ...(await hex(rig("discovery.dhu"))),
    ...(await hex(rig("discovery.dht"), "rendezvout")),
  ];
  expect(new Set(all).size).toBe(8);
  await expect(guest.meshSeeds("a\0b")).rejects.toMatchObject({ code: "GODWIT_ENCODE" });
});
