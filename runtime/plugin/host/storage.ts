/**
 * What a plugin instance keeps: `ctx.storage`, its key space in the node's store, within its bounds; `ctx.folder`, for
 * programs that want files; and `ctx.deriveSeed`, secrets that need no keeping.
 */
import { chmod, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { STORAGE_LIMITS, type PluginStorage } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import type { Store } from "../../store/types.ts";

/** `source`: `<namespace>.<instance>`. */
export function openPluginStorage(store: Store, source: string, scope: Scope): PluginStorage {
  const prefix = `${source}/`;
  let loading: Promise<Map<string, number>> | undefined;
  /** Bytes of each key's value. */
  const sizes = (): Promise<Map<string, number>> => {
    if (scope.isClosed) return Promise.reject(godwitError("GODWIT_STOPPED", "the plugin has stopped"));
    loading ??= store.load("plugin").then(
      (rows) =>
        new Map(
          rows
            .filter(({ key }) => key.startsWith(prefix))
            .map(({ key, bodyBytes }) => [key.slice(prefix.length), bodyBytes]),
        ),
      (error: unknown) => {
        loading = undefined;
        throw error;
      },
    );
    return loading;
  };
  return {
    async get(key) {
      const held = await sizes();
      return held.has(key) ? await store.body("plugin", prefix + key) : undefined;
    },
    async set(key, value) {
      const copy = new Uint8Array(value);
      if (!new RegExp(`^[a-z0-9._-]{1,${STORAGE_LIMITS.keyChars}}$`).test(key))
        throw godwitError("GODWIT_ENCODE", "a key has 1 to 64 characters of a-z 0-9 . _ -");
      const held = await sizes();
      const before = held.get(key);
      let total = copy.length + key.length;
      for (const [other, bytes] of held) if (other !== key) total += other.length + bytes;
      if ((before === undefined && held.size >= STORAGE_LIMITS.keys) || total > STORAGE_LIMITS.bytes)
        throw godwitError(
          "GODWIT_TOO_BIG",
          `a plugin keeps at most ${STORAGE_LIMITS.keys} keys and ${STORAGE_LIMITS.bytes} bytes`,
        );
      // Counted at once, so that calls side by side cannot pass the bounds together.
      held.set(key, copy.length);
      try {
        await store.commit([{ op: "put", in: "plugin", key: prefix + key, meta: "", body: copy }]);
      } catch (error) {
        if (before === undefined) held.delete(key);
        else held.set(key, before);
        throw error;
      }
    },
    async delete(key) {
      const held = await sizes();
      if (!held.has(key)) return;
      await store.commit([{ op: "delete", in: "plugin", key: prefix + key }]);
      held.delete(key);
    },
    keys: async () => [...(await sizes()).keys()].sort(),
  };
}

const PURPOSE_CHARS_MAX = 64;

/** `derive`: 32 bytes of the identity for a label, independent of those of every other label. */
export function derivePluginSeed(
  derive: (label: string) => Uint8Array,
  source: string,
  purpose: string,
): Uint8Array {
  checkPurpose(purpose);
  return derive(`plugin\0${source}\0${purpose}`);
}

/** Throws GODWIT_ENCODE. No NUL in it, or one plugin's purpose could be another's. */
export function checkPurpose(purpose: string): void {
  if (!new RegExp(`^[\\x20-\\x7e]{1,${PURPOSE_CHARS_MAX}}$`).test(purpose))
    throw godwitError("GODWIT_ENCODE", "a purpose has 1 to 64 characters of printable ASCII");
}

export async function openPluginFolder(stateDir: string, source: string): Promise<string> {
  const path = join(resolve(stateDir), "plugin-files", source);
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw godwitError("GODWIT_STATE_UNUSABLE", `cannot make the folder ${path}: ${why}`, cause);
  }
  return path;
}
