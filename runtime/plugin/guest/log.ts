/** The log of a guest: lines go to the node as frames, at a bounded rate. */
import type { Log, LogFields } from "@godwit/sdk";
import { TokenBucket } from "../../kernel/backoff.ts";
import { systemClock } from "../../kernel/clock.ts";
import { asGodwitError } from "../../kernel/errors.ts";
import type { FramePort } from "../frames/port.ts";
import { PluginFrame } from "../frames/frames.ts";

/** The node takes no more than it wants to write down; what is beyond is dropped here already. */
const LOGS = { perSecond: 100, burst: 400 } as const;

/** Errors become their message; the node writes the time and the plugin's name. */
export function createLog(
  port: FramePort,
  base: LogFields,
  bucket = new TokenBucket(systemClock, LOGS.perSecond, LOGS.burst),
): Log {
  const write = (level: "debug" | "info" | "warn" | "error") => (phrase: string, fields?: LogFields) => {
    if (!bucket.take()) return;
    const flat: Record<string, string | number | boolean | null> = {};
    for (const [name, value] of Object.entries({ ...base, ...fields })) {
      if (value === undefined) continue;
      if (value instanceof Error) flat[name] = asGodwitError(value).message;
      else if (typeof value === "object" && value !== null) flat[name] = value.join(", ");
      else flat[name] = typeof value === "string" ? value.slice(0, 4_096) : value;
    }
    port.sendParts(PluginFrame.log, 0, { level, event: phrase.slice(0, 200), fields: flat });
  };
  return {
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    child: (fields) => createLog(port, { ...base, ...fields }, bucket),
  };
}
