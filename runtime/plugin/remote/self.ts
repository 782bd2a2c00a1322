/** `ctx.self` of a plugin outside of the node's thread: the node's side of those calls. */
import { z } from "zod";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

/** A signature has 64 bytes; what is longer is none. */
const claim = z.object({ id: z.string().max(64), signature: z.base64().max(128) });

const item = z.object({ label: z.base64().max(64), seq: z.number() });
const seeds = z.object({ purpose: z.string().max(64) });

export function addSelfCalls({ calls, ctx, port }: RemoteParts): void {
  let isWatched = false;
  calls.add("self", () => {
    const { id, callsign, network, tags, protocols } = ctx.self;
    return { json: { id, callsign, network, tags, protocols } };
  });
  calls.add("self.endpoints", () => ({ json: ctx.self.endpoints() }));
  calls.add("self.listening", () => ({ json: ctx.self.listening() }));
  calls.add("self.sign", async (_args, bytes) => ({ bytes: await ctx.self.sign(bytes) }));
  calls.add("self.verify", async (args, bytes) => {
    const { id, signature } = parseJson(claim, args);
    return { json: await ctx.self.verify(id, bytes, Buffer.from(signature, "base64")) };
  });
  calls.add("self.signItem", async (args, value) => {
    const { label, seq } = parseJson(item, args);
    return { bytes: await ctx.self.signItem({ label: Buffer.from(label, "base64"), seq, value }) };
  });
  calls.add("self.meshSeeds", async (args) => ({
    bytes: Buffer.concat(await ctx.self.meshSeeds(parseJson(seeds, args).purpose)),
  }));
  calls.add("self.onChange", () => {
    if (!isWatched) ctx.self.onChange(() => port.sendParts(PluginFrame.event, 0, { event: "self" }));
    isWatched = true;
    return {};
  });
}
