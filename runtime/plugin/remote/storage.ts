/** What a plugin outside of the node's thread keeps, and what it gets of the identity: the node's side of those calls. */
import { z } from "zod";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

const keySchema = z.object({ key: z.string().max(64) });
const purposeSchema = z.object({ purpose: z.string().max(64) });

export function addStorageCalls({ calls, ctx }: RemoteParts): void {
  // Asked for when it is used: a host may have none.
  const storage = () => ctx.storage;
  calls.add("storage.get", async (args) => {
    const bytes = await storage().get(parseJson(keySchema, args).key);
    return bytes === undefined ? { json: false } : { json: true, bytes };
  });
  calls.add("storage.set", async (args, bytes) => {
    await storage().set(parseJson(keySchema, args).key, bytes);
    return {};
  });
  calls.add("storage.delete", async (args) => {
    await storage().delete(parseJson(keySchema, args).key);
    return {};
  });
  calls.add("storage.keys", async () => ({ json: await storage().keys() }));
  calls.add("seed", async (args) => ({
    bytes: await ctx.deriveSeed(parseJson(purposeSchema, args).purpose),
  }));
  calls.add("folder", async () => ({ json: await ctx.folder() }));
}
