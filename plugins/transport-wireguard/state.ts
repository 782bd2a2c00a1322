/** What the plugin keeps in its folder, each file for its owner alone: the WireGuard key, preshared keys, plain devices. */
import { chmod, rename } from "node:fs/promises";
import { join } from "node:path";
import { readPrivate, writePrivate } from "@godwit/sdk/process";
import { z } from "zod/mini";
import { Secret } from "@godwit/sdk/secret";
import { clamped, keyText, KEY_BYTES, parseKey, publicKeyOf } from "./keys.ts";

const KEY_FILE = "private.key";
/** Announced to the others and not in force yet. */
const NEXT_KEY_FILE = "private.key.next";
const PRESHARED_FILE = "preshared.json";
const DEVICES_FILE = "devices.json";

const key = z.string().check(z.refine((text) => parseKey(text) !== undefined));
const pairs = z.object({
  /** Public key of this node that they belong to. */
  own: key,
  pairs: z.record(
    key,
    z.object({
      current: z.optional(key),
      next: z.optional(key),
      usesNext: z.optional(z.boolean()),
      atMs: z.number(),
    }),
  ),
});
const devices = z.record(z.string().check(z.regex(/^[a-z0-9-]{1,32}$/)), key);

export type StoredPairs = z.infer<typeof pairs>["pairs"];
export type StoredDevices = z.infer<typeof devices>;

const write = (folder: string, name: string, text: string): Promise<void> =>
  writePrivate(join(folder, name), text);
const read = (folder: string, name: string): Promise<string | undefined> => readPrivate(join(folder, name));

const saveKey = (folder: string, secret: Secret, name = KEY_FILE): Promise<void> =>
  write(folder, name, `${keyText(secret.reveal())}\n`);

export const saveNextKey = (folder: string, secret: Secret): Promise<void> =>
  saveKey(folder, secret, NEXT_KEY_FILE);

/** Puts the announced key in the place of the old one. */
export const adoptNextKey = (folder: string): Promise<void> =>
  rename(join(folder, NEXT_KEY_FILE), join(folder, KEY_FILE));

/** This node's key, made at the first call. Rejects where the file is damaged: a new key would lock this node out. */
export async function openKey(
  folder: string,
  random: { bytes(length: number): Uint8Array },
): Promise<Secret> {
  // It died between the announcement and the change.
  if ((await read(folder, NEXT_KEY_FILE)) !== undefined) await adoptNextKey(folder);
  const text = await read(folder, KEY_FILE);
  if (text === undefined) {
    const secret = clamped(random.bytes(KEY_BYTES));
    await saveKey(folder, secret);
    return secret;
  }
  await chmod(join(folder, KEY_FILE), 0o600);
  const bytes = parseKey(text.trim());
  if (bytes === undefined)
    throw new Error(`${join(folder, KEY_FILE)} is damaged: restore it, or remove it for a new key`);
  return new Secret(bytes);
}

/** Of another key of this node, or damaged: none. */
export async function loadPairs(folder: string, secret: Secret): Promise<StoredPairs> {
  const found = pairs.safeParse(parseJson(await read(folder, PRESHARED_FILE)));
  return found.success && found.data.own === keyText(publicKeyOf(secret)) ? found.data.pairs : {};
}

export const savePairs = (folder: string, secret: Secret, held: StoredPairs): Promise<void> =>
  write(folder, PRESHARED_FILE, JSON.stringify({ own: keyText(publicKeyOf(secret)), pairs: held }));

export async function loadDevices(folder: string): Promise<StoredDevices> {
  const text = await read(folder, DEVICES_FILE);
  if (text === undefined) return {};
  const found = devices.safeParse(parseJson(text));
  if (!found.success) throw new Error(`${join(folder, DEVICES_FILE)} is damaged: restore or remove it`);
  return found.data;
}

export const saveDevices = (folder: string, held: StoredDevices): Promise<void> =>
  write(folder, DEVICES_FILE, JSON.stringify(held));

function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
