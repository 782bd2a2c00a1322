/** A discovery that goes wrong in the way its table names, a moment after it started. */
import { definePlugin, type PluginContext } from "@godwit/sdk";

interface Table {
  readonly fault: string;
}
const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};
/** Found by nobody else, so that it stays alive. */
const held: unknown[] = [];

const faults: Readonly<Record<string, (ctx: PluginContext) => void | Promise<void>>> = {
  none() {},
  throws(ctx) {
    ctx.clock.after(20, () => {
      throw new Error("thrown by the plugin");
    });
  },
  rejects(ctx) {
    ctx.clock.after(20, () => void Promise.reject(new Error("rejected by the plugin")));
  },
  throws_at_start() {
    throw new Error("thrown at its start");
  },
  spins(ctx) {
    ctx.clock.after(20, () => {
      for (;;);
    });
  },
  leaks(ctx) {
    const leak = () => {
      for (let i = 0; i < 20; i++) held.push(new Uint8Array(2 ** 20).fill(7));
      ctx.clock.after(20, leak);
    };
    ctx.clock.after(20, leak);
  },
  floods(ctx) {
    const flood = () => {
      for (let i = 0; i < 50_000; i++) ctx.discovery.withdraw(`tcp://192.0.2.1:${i}`);
      ctx.clock.after(0, flood);
    };
    ctx.clock.after(20, flood);
  },
  exits(ctx) {
    ctx.clock.after(20, () => process.exit(7));
  },
  never_starts: () => new Promise(() => {}),
};

export default definePlugin({
  id: "faults",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: [],
  config,
  async start(ctx, { fault }) {
    await faults[fault]!(ctx);
  },
});
