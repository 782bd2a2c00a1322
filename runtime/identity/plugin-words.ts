/**
 * What a plugin signs with the node's key: never its bytes alone, but behind a prefix that names the mesh and the plugin, so that nothing it
 * signs is a record, a name or another plugin's word. Specified by docs/protocol/plugin-frames.md, "What a plugin signs".
 */
import { createHash } from "node:crypto";
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
