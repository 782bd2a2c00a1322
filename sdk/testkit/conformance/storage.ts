/** What every `ctx.storage` does, the fake one included. */
import { STORAGE_LIMITS, type PluginStorage } from "../../src/index.ts";
import { type Check, demand, register, type Runner, type Subject } from "./check.ts";

export interface StorageSetup {
  /** Empty. */
  readonly storage: PluginStorage;
  dispose?(): void | Promise<void>;
}

const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);

async function refuses(what: string, code: string, act: () => Promise<unknown>): Promise<void> {
  const found = await act().then(
    () => "it was taken",
    (error: { code?: string }) => error.code ?? "an error without a code",
  );
  demand(found === code, `${what}: expected ${code}, found ${found}`);
}

export const storageChecks: readonly Check<StorageSetup>[] = [
  {
    name: "what was set is there, replaced or gone as asked",
    async run({ storage }) {
      demand((await storage.get("a")) === undefined, "a key that was never set has a value");
      await storage.set("a", bytes(3, 1));
      await storage.set("b.c_d-9", bytes(0, 0));
      await storage.set("a", bytes(2, 2));
      demand(Buffer.compare((await storage.get("a"))!, bytes(2, 2)) === 0, "the newer value is not there");
      demand((await storage.get("b.c_d-9"))?.length === 0, "an empty value is not there");
      demand((await storage.keys()).join() === "a,b.c_d-9", "keys() does not list them in order");
      await storage.delete("a");
      await storage.delete("a");
      demand((await storage.get("a")) === undefined, "a deleted key has a value");
    },
  },
  {
    name: "bytes are copied on the way in and out",
    async run({ storage }) {
      // A Buffer, whose `slice` copies nothing.
      const value = Buffer.alloc(4, 1);
      const setting = storage.set("a", value);
      value.fill(9);
      await setting;
      (await storage.get("a"))!.fill(8);
      demand(
        Buffer.compare((await storage.get("a"))!, bytes(4, 1)) === 0,
        "the value changed with the caller's bytes",
      );
    },
  },
  {
    name: "beyond its bounds it refuses, and the old value stays",
    async run({ storage }) {
      for (const key of ["", "A", "a/b", "../x", "x".repeat(STORAGE_LIMITS.keyChars + 1)])
        await refuses(`key ${JSON.stringify(key.slice(0, 10))}`, "GODWIT_ENCODE", () =>
          storage.set(key, bytes(1, 1)),
        );
      await storage.set("a", bytes(STORAGE_LIMITS.bytes - 1, 1));
      await refuses("one byte more", "GODWIT_TOO_BIG", () => storage.set("b", bytes(1, 1)));
      await refuses("a larger value", "GODWIT_TOO_BIG", () =>
        storage.set("a", bytes(STORAGE_LIMITS.bytes, 2)),
      );
      demand((await storage.get("a"))?.[0] === 1, "a refused value replaced the old one");
      await storage.delete("a");
      for (let index = 0; index < STORAGE_LIMITS.keys; index++)
        await storage.set(`k${index}`, bytes(1, index));
      await refuses("one key more", "GODWIT_TOO_BIG", () => storage.set("more", bytes(1, 1)));
      await storage.set("k0", bytes(2, 7));
    },
  },
];

export const storageConformance = (subject: Subject<StorageSetup>, runner?: Runner): void =>
  register("storage conformance", storageChecks, subject, runner);
