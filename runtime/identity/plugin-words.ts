/**
 * What a plugin signs with the node's key: never its bytes alone, but behind a prefix that names the mesh and the plugin, so that nothing it
 * signs is a record, a name or another plugin's word. Specified by docs/protocol/plugin-frames.md, "What a plugin signs".
 */
import { createHash, hkdfSync } from "node:crypto";
import {
  ITEM_LABEL_BYTES_MAX,
  ITEM_VALUE_BYTES_MAX,
  itemMessage,
  itemSalt,
  type SelfItem,
} from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { Writer } from "../wire/bytes.ts";
import { verifySignature } from "./keys.ts";
import type { Signer } from "./record.ts";

/** `plugin`: `namespace.id`, at most 255 bytes. | "godwit plugin 1\0" | SHA-256 of the network | plugin, its length first | message | */
const pluginMessage = (plugin: string, message: Uint8Array, network: string): Uint8Array =>
  new Writer(128 + message.length)
    .bytes(new TextEncoder().encode("godwit plugin 1\0"))
    .bytes(createHash("sha256").update(network).digest())
    .text(plugin)
    .bytes(message)
    .finish();

/** 64 bytes, the caller's. */
export const signForPlugin = (
  signer: Signer,
  plugin: string,
  message: Uint8Array,
  network: string,
): Uint8Array => signer.sign(pluginMessage(plugin, message, network));

/** Never throws: what is no id or no signature is false. */
export const isSignedForPlugin = (
  id: string,
  plugin: string,
  message: Uint8Array,
  signature: Uint8Array,
  network: string,
): boolean => verifySignature(id as NodeId, pluginMessage(plugin, message, network), signature);

/** BEP 44: of a salt. */
const SALT_BYTES_MAX = 64;

/**
 * 64 bytes, the caller's. What is signed begins with `4:salt` and goes on with the plugin's name, where all else that this key signs begins with
 * `godwit`: it is an item of that plugin and nothing else. Throws GODWIT_REQUEST_INVALID.
 */
export function signItemForPlugin(
  signer: Signer,
  plugin: string,
  { label, seq, value }: SelfItem,
): Uint8Array {
  const salt = itemSalt(plugin, label);
  if (label.length > ITEM_LABEL_BYTES_MAX || salt.length > SALT_BYTES_MAX)
    throw godwitError(
      "GODWIT_REQUEST_INVALID",
      `a label has at most ${ITEM_LABEL_BYTES_MAX} bytes, a salt 64`,
    );
  if (!Number.isSafeInteger(seq) || seq < 0)
    throw godwitError("GODWIT_REQUEST_INVALID", `${seq} is no sequence number: it is 0 to 2^53 - 1`);
  if (value.length === 0 || value.length > ITEM_VALUE_BYTES_MAX)
    throw godwitError("GODWIT_REQUEST_INVALID", `an item holds 1 to ${ITEM_VALUE_BYTES_MAX} bytes`);
  return signer.sign(itemMessage(salt, seq, value));
}

const OPEN_MESH = new TextEncoder().encode("godwit open mesh");

/**
 * 32 bytes, the caller's, for all nodes with this secret: HKDF-SHA256 (RFC 5869), of no use for finding it. `secret` undefined: an open mesh.
 * `purpose` as that of a seed of the node alone.
 */
export const meshSeedForPlugin = (
  secret: Uint8Array | undefined,
  network: string,
  plugin: string,
  purpose: string,
): Uint8Array =>
  new Uint8Array(
    hkdfSync(
      "sha256",
      secret ?? OPEN_MESH,
      createHash("sha256").update(network).digest(),
      `godwit plugin seed 1\0${plugin}\0${purpose}`,
      32,
    ),
  );
