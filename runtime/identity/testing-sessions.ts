/** Two nodes and a prekey for tests of mail sessions, as the code has them and, in raw bytes, as the reference does. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Random } from "@godwit/sdk";
import { seededRandom } from "../kernel/random.ts";
import { dhKeyFromSecret, generateIdentity, identityFromSeed, type DhKey, type Identity } from "./keys.ts";
import type { SendingSessions } from "./sending-sessions.ts";
import type { SendingKeys } from "./session-keys.ts";
import {
  referenceDh,
  referenceHash,
  referenceKeyOfId,
  referencePublic,
  referenceRoot,
  referenceSecretOfSeed,
} from "./testing-session-reference.ts";

/** The seeds of the vectors in docs/protocol/sealing.md. */
export const VECTOR_SENDER = identityFromSeed(
  Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
);
export const VECTOR_RECIPIENT = identityFromSeed(
  Buffer.from("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "hex"),
);
export const VECTOR_NETWORK = "telex";
const VECTOR_EPHEMERAL = new Uint8Array(32).fill(0x42);

/** Draws these bytes once, and nothing after. */
export function drawing(bytes: Uint8Array): Random {
  let isDrawn = false;
  return {
    ...seededRandom(0),
    bytes(length) {
      if (isDrawn || length !== bytes.length) throw new Error("drawn twice");
      isDrawn = true;
      return bytes.slice();
    },
  };
}

export interface TestPair {
  readonly ann: Identity;
  readonly bea: Identity;
  readonly prekey: { readonly keyId: number; readonly key: DhKey; readonly publicKey: Uint8Array };
  readonly secrets: Readonly<Record<"a" | "b" | "p" | "e", Uint8Array>>;
  readonly publics: Readonly<Record<"a" | "b" | "p" | "e", Uint8Array>>;
}

/** `seed`: an integer; undefined: the pair of the vectors. */
export function createPair(seed?: number): TestPair {
  const random = seededRandom(seed ?? 0);
  const ann = seed === undefined ? VECTOR_SENDER : generateIdentity(random);
  const bea = seed === undefined ? VECTOR_RECIPIENT : generateIdentity(random);
  const keyId = seed === undefined ? 0x01020304 : 1 + random.below(2 ** 32 - 1);
  const p = seed === undefined ? new Uint8Array(32).fill(7) : random.bytes(32);
  const e = seed === undefined ? VECTOR_EPHEMERAL : random.bytes(32);
  const key = dhKeyFromSecret(p);
  return {
    ...{ ann, bea },
    prekey: { keyId, key, publicKey: key.publicKey },
    secrets: { a: referenceSecretOfSeed(ann.seed), b: referenceSecretOfSeed(bea.seed), p, e },
    publics: {
      a: referenceKeyOfId(ann.publicKey),
      b: referenceKeyOfId(bea.publicKey),
      p: referencePublic(p),
      e: referencePublic(e),
    },
  };
}

/** The root of ann's session to bea with the ephemeral key of that pair, by the reference. */
export function rootOfPair({ ann, bea, prekey, secrets, publics }: TestPair): Uint8Array {
  return referenceRoot(
    {
      ...{ sender: ann.publicKey, recipient: bea.publicKey },
      ...{ keyId: prekey.keyId, prekey: publics.p, e: publics.e },
    },
    {
      ep: referenceDh(secrets.e, publics.p),
      ap: referenceDh(secrets.a, publics.p),
      eb: referenceDh(secrets.e, publics.b),
      ab: referenceDh(secrets.a, publics.b),
    },
  );
}

/** The code of what `fn` throws, or "nothing thrown". */
export function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return (error as { readonly code?: string }).code ?? String(error);
  }
  return "nothing thrown";
}

interface OpenSources {
  readonly SendingKeys: typeof SendingKeys;
  readonly SendingSessions: typeof SendingSessions;
}

/** What a sender keeps, of the sources as they stand, with private fields that can be walked. `change`: of each source. */
export async function openSources(change = (source: string) => source): Promise<OpenSources> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-sessions-"));
  try {
    const names = ["@godwit/sdk/bounded", "./session-keys.ts", "./sending-sessions.ts"];
    const paths = new Map(
      names.map((name) => [
        Bun.resolveSync(name, import.meta.dir),
        join(folder, `${basename(name, ".ts")}.ts`),
      ]),
    );
    for (const [path, open] of paths) {
      const place = (_: string, name: string): string => {
        const imported = Bun.resolveSync(name, dirname(path));
        return `from "${paths.get(imported) ?? imported}"`;
      };
      const source = readFileSync(path, "utf8")
        .replaceAll(/#(?=[a-z])/g, "$")
        .replaceAll(/from "([^"]+)"/g, place);
      await Bun.write(open, change(source));
    }
    const [, keys, sessions] = [...paths.values()];
    return { ...((await import(keys!)) as OpenSources), ...((await import(sessions!)) as OpenSources) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** All bytes that can be reached from an object. */
export function bytesIn(value: unknown, seen = new Set<unknown>()): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  if (typeof value !== "object" || value === null || seen.has(value)) return [];
  seen.add(value);
  const inside: unknown[] = Reflect.ownKeys(value).map((key) => Reflect.get(value, key) as unknown);
  if (value instanceof Map || value instanceof Set) inside.push(...value);
  return inside.flatMap((one) => bytesIn(one, seen));
}

/** Every key of a counter below 256 that whoever has `values` can derive, whatever place each of them is of; and the values on the way. */
export function reachableKeys(values: readonly Uint8Array[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  const walk = (value: Uint8Array, below: number): void => {
    // The two digits above are 0 in such a counter.
    for (let at = value, step = 0; step < (below > 1 ? 2 : 16); step++, at = referenceHash(at, 1)) {
      found.push(at, referenceHash(at, 3));
      if (below > 0) walk(referenceHash(at, 2), below - 1);
    }
  };
  for (const value of values) for (const below of [0, 1, 2, 3]) walk(value, below);
  return found;
}
