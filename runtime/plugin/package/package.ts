/**
 * The file in which a plugin travels, `<id>-<version>.gwp`: publisher, signature, manifest, one file of code. Owns its
 * bytes and what a manifest may say; must never run, resolve or unpack anything, so that a package can be shown before
 * its code is trusted. There are no file names inside, hence none that could lead out of a folder. Specified by
 * docs/plugins.md, "The package".
 */
import { createHash } from "node:crypto";
import type { z } from "zod";
import { type Identity, SIGNATURE_BYTES, verifySignature } from "../../identity/keys.ts";
import { godwitError, type GodwitError } from "../../kernel/errors.ts";
import { inWords } from "../../kernel/schema-words.ts";
import { formatNodeId, type NodeId } from "../../kernel/ids.ts";
import type * as Manifest from "./manifest.ts";

export const MANIFEST_FILE = "godwit-plugin.json";
export const MANIFEST_BYTES_MAX = 64 * 1_024;
export const CODE_BYTES_MAX = 16 * 2 ** 20;

const MAGIC = Buffer.from("GWPLUG1\n");
const KEY_BYTES = 32;
const SIGNED_AT = MAGIC.length + KEY_BYTES + SIGNATURE_BYTES;
/** Before the manifest: its length and that of the code, each four bytes, big-endian. */
const MANIFEST_AT = SIGNED_AT + 8;
export const PACKAGE_BYTES_MAX = MANIFEST_AT + MANIFEST_BYTES_MAX + CODE_BYTES_MAX;
/** Keeps a signature over a package from being one over anything else. */
const CONTEXT = Buffer.from("godwit plugin package 1\0");

export interface PluginPackage {
  readonly manifest: PluginManifest;
  readonly publisher: NodeId;
  /** One ES module; a view of the package's bytes: never write to it. */
  readonly code: Uint8Array;
  /** SHA-256 of the whole file, 64 hex digits. */
  readonly hash: string;
}

export type { PluginManifest } from "./manifest.ts";
type PluginManifest = Manifest.PluginManifest;

/** A node without packages needs no schema of one. */
const manifests = (): typeof Manifest => require("./manifest.ts") as typeof Manifest;

/** Throws GODWIT_PLUGIN_PACKAGE naming what is wrong with which key. */
export function parseManifest(bytes: Uint8Array): PluginManifest {
  if (bytes.length > MANIFEST_BYTES_MAX)
    throw malformed(`its manifest has ${bytes.length} bytes, at most ${MANIFEST_BYTES_MAX} are read`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw malformed("its manifest is not JSON in UTF-8");
  }
  const result = manifests().manifestSchema.safeParse(value, { jitless: true });
  if (!result.success) {
    const [issue] = result.error.issues;
    throw malformed(
      `its manifest is wrong at ${issue?.path.join(".") || "the top"}: ${issue === undefined ? "" : inWords(issue)}`,
    );
  }
  tableSchema(result.data);
  return result.data;
}

/** What judges the plugin's own table. Throws GODWIT_PLUGIN_PACKAGE when the manifest's JSON Schema is none. */
export function tableSchema({ config }: PluginManifest): z.ZodType {
  try {
    return manifests().schemaOf(config);
  } catch (error) {
    throw malformed(
      `its JSON Schema cannot be used: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** The bytes of a package, owned by the caller. Throws GODWIT_PLUGIN_PACKAGE when a part is too large or wrong. */
export function encodePackage(manifest: Uint8Array, code: Uint8Array, publisher: Identity): Uint8Array {
  parseManifest(manifest);
  if (code.length === 0 || code.length > CODE_BYTES_MAX)
    throw malformed(`its code has ${code.length} bytes, 1 to ${CODE_BYTES_MAX} are allowed`);
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(manifest.length, 0);
  lengths.writeUInt32BE(code.length, 4);
  const body = Buffer.concat([lengths, manifest, code]);
  const head = [MAGIC, publisher.publicKey, publisher.sign(signedText(body))];
  return new Uint8Array(Buffer.concat([...head, body]));
}

/**
 * Checks form and signature; whether the publisher is trusted is asked elsewhere. Throws GODWIT_PLUGIN_PACKAGE (no
 * package, cut short, too large, a bad manifest) or GODWIT_PLUGIN_SIGNATURE (altered, or not signed by that key).
 */
export function decodePackage(bytes: Uint8Array): PluginPackage {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) throw malformed("it is no plugin package");
  if (file.length < MANIFEST_AT) throw malformed("it is cut short");
  const manifestBytes = file.readUInt32BE(SIGNED_AT);
  const codeBytes = file.readUInt32BE(SIGNED_AT + 4);
  if (manifestBytes > MANIFEST_BYTES_MAX || codeBytes > CODE_BYTES_MAX)
    throw malformed(
      `it says ${manifestBytes} bytes of manifest and ${codeBytes} of code, at most ${MANIFEST_BYTES_MAX} and ${CODE_BYTES_MAX} are read`,
    );
  const codeAt = MANIFEST_AT + manifestBytes;
  if (file.length < codeAt + codeBytes) throw malformed("it is cut short");
  if (file.length > codeAt + codeBytes) throw malformed("something follows its end");
  const publisher = formatNodeId(file.subarray(MAGIC.length, MAGIC.length + KEY_BYTES));
  const signature = file.subarray(MAGIC.length + KEY_BYTES, SIGNED_AT);
  if (!verifySignature(publisher, signedText(file.subarray(SIGNED_AT)), signature))
    throw godwitError(
      "GODWIT_PLUGIN_SIGNATURE",
      `the package was altered, or publisher ${publisher} did not sign it; get it anew`,
    );
  return {
    manifest: parseManifest(file.subarray(MANIFEST_AT, codeAt)),
    publisher,
    code: file.subarray(codeAt),
    hash: createHash("sha256").update(file).digest("hex"),
  };
}

const signedText = (body: Uint8Array): Uint8Array =>
  Buffer.concat([CONTEXT, createHash("sha256").update(body).digest()]);

const malformed = (what: string): GodwitError =>
  godwitError("GODWIT_PLUGIN_PACKAGE", `the plugin package cannot be used: ${what}`);
