/** `godwit events`: what happens, as it happens, until Ctrl-C. */
import type { NodeEvent } from "../../view/contract/node.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";

/** Characters of one event; ours are far smaller. */
const EVENT_CHARS_MAX = 1024 * 1024;

export const events: CommandModule = {
  async run(context) {
    const family = context.option("family");
    const path = family === undefined ? "/events" : `/events?family=${encodeURIComponent(family)}`;
    const response = await (await context.client()).fetch("GET", path);
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop()!;
        if (rest.length > EVENT_CHARS_MAX)
          throw godwitError("GODWIT_DECODE", "the node sent an endless event");
        for (const line of lines) if (line.startsWith("data: ")) print(context, line.slice(6));
      }
    } catch (error) {
      if (context.io.signal.aborted) return exitCodes.fine;
      throw error;
    }
    if (context.io.signal.aborted) return exitCodes.fine;
    throw godwitError("GODWIT_STOPPED", "the node ended the stream: it stops or restarts");
  },
};

function print({ io, isJson, paint }: CommandContext, data: string): void {
  if (isJson) return io.stdout(`${data}\n`);
  const event = JSON.parse(data) as NodeEvent;
  const fields = Object.entries(event.data).map(([key, value]) => `${key}=${String(value)}`);
  const text = `${event.type.padEnd(18)} ${fields.join(" ")}`;
  io.stdout(`${paint.dim(render.safeLine(event.at))}  ${render.safeLine(text).trimEnd()}\n`);
}
