/** `ctx.serial` across a channel of frames, the node's side. */
import type { SerialLine } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { openPump } from "../frames/flow-pump.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

const openSchema = z.object({
  path: z.string().min(1).max(255),
  baudRate: z.number(),
  rtscts: z.boolean().optional(),
});
const linesSchema = z.object({
  flow: z.number().int(),
  dtr: z.boolean().optional(),
  rts: z.boolean().optional(),
});

export function addSerialCalls({ calls, ctx, flows }: RemoteParts): void {
  const lines = new Map<number, SerialLine>();
  calls.add("serial.list", async () => ({ json: await ctx.serial.list() }));
  calls.add("serial.open", async (args, _bytes, signal) => {
    const { path, baudRate, rtscts } = parseJson(openSchema, args);
    const options = { path, baudRate, ...(rtscts === undefined ? {} : { rtscts }) };
    const line = await ctx.serial.open(options, signal);
    const flow = flows.newId();
    lines.set(flow, line);
    const source = {
      open: (handlers: Parameters<SerialLine["open"]>[0]) =>
        line.open({
          data: (bytes) => handlers.data(bytes),
          drain: () => handlers.drain(),
          closed(error) {
            lines.delete(flow);
            handlers.closed(error);
          },
        }),
      write: (bytes: Uint8Array) => line.write(bytes),
      pause: (paused: boolean) => line.pause(paused),
      close: () => line.close(),
    };
    return { json: { flow }, after: () => openPump(flows, flow, source, "stream") };
  });
  calls.add("serial.set", async (args) => {
    const { flow, dtr, rts } = parseJson(linesSchema, args);
    const line = lines.get(flow);
    if (line === undefined) throw godwitError("GODWIT_STOPPED", "the serial port is closed");
    await line.set({ dtr, rts });
    return {};
  });
}
