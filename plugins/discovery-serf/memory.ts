/**
 * What an instance keeps over restarts: where members were, those that had failed included, so that all are called again; and the keyring, since
 * keys change while it runs. Damaged memory is no memory.
 */
import type { PluginStorage } from "@godwit/sdk";
import { z } from "zod/mini";
import type { At } from "./wire/messages.ts";
import { formatKey, Keyring, KEYS_MAX, parseKey } from "./wire/keyring.ts";

const MEMBERS_KEY = "members";
const KEYS_KEY = "keys";
/** Some 100 KiB at most, of the 1 MiB that an instance has. */
export const REMEMBERED_MAX = 512;

const membersSchema = z.array(z.tuple([z.string(), z.string(), z.number()]));
const keysSchema = z.object({ configured: z.string(), keys: z.array(z.string()) });

export interface Remembered {
  readonly name: string;
  readonly at: At;
}

async function read<T>(
  storage: PluginStorage,
  key: string,
  schema: z.ZodMiniType<T>,
): Promise<T | undefined> {
  const bytes = await storage.get(key);
  if (bytes === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined;
  }
}

const write = (storage: PluginStorage, key: string, value: unknown): Promise<void> =>
  storage.set(key, new TextEncoder().encode(JSON.stringify(value)));

export async function recallMembers(storage: PluginStorage): Promise<Remembered[]> {
  const found = (await read(storage, MEMBERS_KEY, membersSchema)) ?? [];
  return found.slice(0, REMEMBERED_MAX).map(([name, address, port]) => ({ name, at: { address, port } }));
}

export const rememberMembers = (storage: PluginStorage, members: readonly Remembered[]): Promise<void> =>
  write(
    storage,
    MEMBERS_KEY,
    members.slice(0, REMEMBERED_MAX).map(({ name, at }) => [name, at.address, at.port]),
  );

/** The ring as it was last, unless the operator has configured another key since. */
export async function openKeyring(storage: PluginStorage, configured: Uint8Array): Promise<Keyring> {
  const kept = await read(storage, KEYS_KEY, keysSchema);
  const keys = (kept?.keys ?? []).slice(0, KEYS_MAX).flatMap((text) => parseKey(text) ?? []);
  const isSameConfiguration = kept?.configured === formatKey(configured);
  return new Keyring(isSameConfiguration && keys.length > 0 ? keys : [configured]);
}

export const keepKeyring = (
  storage: PluginStorage,
  configured: Uint8Array,
  keyring: Keyring,
): Promise<void> =>
  write(storage, KEYS_KEY, { configured: formatKey(configured), keys: keyring.keys.map(formatKey) });
