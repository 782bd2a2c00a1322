/** `ctx.self` of the host, and over frames: the two ends without the channel between them. */
import { expect, test } from "bun:test";
import { generateIdentity, type Identity, verifySignature } from "../../identity/keys.ts";
import { isSignedForPlugin, signForPlugin } from "../../identity/plugin-words.ts";
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
      endpoints: () => endpoints,
      watch(fn) {
        watchers.add(fn);
        return () => void watchers.delete(fn);
      },
      sign: (of, message) => signForPlugin(identity, of, message, network),
      verify: (of, id, message, signature) => isSignedForPlugin(id, of, message, signature, network),
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
  expect([guest.id, guest.callsign, guest.network]).toEqual([identity.id, "DUN-A", "net"]);
  expect(guest.endpoints()).toEqual(["tcp://192.0.2.1:1"]);
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
