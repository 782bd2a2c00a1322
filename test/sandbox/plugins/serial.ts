/** A plugin with a serial port: echoes what comes, and opens the port again whenever it is gone. */
import { definePlugin, type SerialLine } from "@godwit/sdk";

interface Table {
  readonly port: string;
}
const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};

const RETRY_MS = 20;

export default definePlugin({
  id: "serial",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["serial:*"],
  config,
  start(ctx, { port }) {
    const seen = { opened: 0, gone: 0, bytes: 0, isOpen: false, refused: "" };
    const echo = (line: SerialLine) =>
      new Promise<void>((resolve) => {
        line.open({
          data(bytes) {
            seen.bytes += bytes.length;
            if (!line.write(bytes)) line.pause(true);
          },
          drain: () => line.pause(false),
          closed: () => resolve(),
        });
      });
    ctx.spawn("port", async (signal) => {
      while (!signal.aborted) {
        try {
          const line = await ctx.serial.open({ path: port, baudRate: 115_200 }, signal);
          seen.opened++;
          seen.isOpen = true;
          await echo(line);
          seen.isOpen = false;
          seen.gone++;
        } catch (error) {
          seen.refused = String(error);
        }
        await new Promise<void>((resolve) => void ctx.clock.after(RETRY_MS, resolve));
      }
    });
    ctx.onRequest(async () => seen);
  },
});
