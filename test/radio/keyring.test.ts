/** What emulated radios seal, by code that knows nothing of the reader's, is read by the keys of this node. */
import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Mesh, Portnums } from "@meshtastic/protobufs";
import { Keyring } from "../../plugins/service-radio/keyring.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import {
  channelHash,
  cryptChannel,
  expandPsk,
  newKeyPair,
  nodeNumberOf,
  sealFor,
  sharedKey,
} from "./keys.ts";

const random = seededRandom(21);
const textOf = (data: string) =>
  toBinary(
    Mesh.DataSchema,
    create(Mesh.DataSchema, { portnum: Portnums.PortNum.TEXT_MESSAGE_APP, payload: Buffer.from(data) }),
  );
const packetOf = (from: number, to: number, id: number, channel: number, value: Uint8Array) =>
  create(Mesh.MeshPacketSchema, { from, to, id, channel, payloadVariant: { case: "encrypted", value } });
const sizes = [0, 1, 2, 7, 9, 15, 16, 17, 31, 32, 33, 100, 200, 233];

test.each([1, 2, 255, 16, 32])("on a channel with a key of that kind: %i", (kind) => {
  const psk = kind === 16 || kind === 32 ? random.bytes(kind) : Uint8Array.of(kind);
  const keyring = new Keyring({ channels: [{ name: "north", psk }] });
  const key = expandPsk(psk);
  for (const size of sizes) {
    const [from, id, text] = [random.below(2 ** 32), random.below(2 ** 32), "x".repeat(size)];
    const sealed = cryptChannel(key, from, id, textOf(text));
    const { packet, readBy } = keyring.read(
      packetOf(from, 0xffffffff, id, channelHash("north", key), sealed),
      () => {},
    );
    expect(readBy).toEqual({ by: "channel", name: "north" });
    const value = packet.payloadVariant.value as Mesh.Data;
    expect(Buffer.from(value.payload).toString()).toBe(text);
  }
});

test("for one radio by its key", () => {
  const [us, them] = [newKeyPair(random), newKeyPair(random)];
  const keyring = new Keyring({ channels: [], privateKey: us.secretKey });
  const [from, to] = [nodeNumberOf(them.publicKey), nodeNumberOf(us.publicKey)];
  expect(keyring.learn(from, them.publicKey)).toBeUndefined();
  expect(keyring.proofOf(from)).toBe("key");
  const shared = sharedKey(them.secretKey, us.publicKey);
  for (const size of sizes) {
    const [id, extra, text] = [random.below(2 ** 32), random.below(2 ** 32), "x".repeat(size)];
    const sealed = sealFor(shared, from, id, extra, textOf(text));
    const { packet, readBy } = keyring.read(packetOf(from, to, id, 0, sealed), () => {});
    expect(readBy).toEqual({ by: "key" });
    const value = packet.payloadVariant.value as Mesh.Data;
    expect(Buffer.from(value.payload).toString()).toBe(text);
  }
});
