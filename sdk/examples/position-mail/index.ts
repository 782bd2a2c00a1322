/**
 * position-mail: tells somebody where this node is, whenever it has moved. It has no socket and needs none: the service `position` of another
 * plugin of its node (position-source, or whatever offers it) is all that it was granted.
 */
import { definePlugin, type ServiceContext, z } from "@godwit/sdk";

const RETRY_MS = 1_000;
const METRES_PER_DEGREE = 111_320;

const config = z.strictObject({
  to: z.string().min(1).max(64),
  /** Nothing is sent for less. */
  metres: z.number().min(1).default(100),
});
/** What another plugin says is judged like what any stranger says. */
const position = z.object({ lat: z.number().min(-90).max(90), lon: z.number().min(-180).max(180) });
type Position = z.output<typeof position>;

export default definePlugin({
  id: "position-mail",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: ["service:position"],
  config,
  start(ctx, { to, metres }) {
    const source = ctx.services.use("position");
    let told: Position | undefined;
    const onPosition = (now: Position) => {
      if (told !== undefined && distance(told, now) < metres) return;
      told = now;
      ctx.spawn("send", async () => {
        const body = new TextEncoder().encode(`${now.lat.toFixed(5)} ${now.lon.toFixed(5)}\n`);
        await ctx.mesh
          .send({ to, subject: "position", body })
          .catch((error: Error) => ctx.log.warn("position not sent", { error: error.message }));
      });
    };
    ctx.spawn("follow", async (signal) => {
      while (!signal.aborted) {
        // It may come later, stop, and come again.
        await source.whenThere(signal);
        await follow(ctx, onPosition).catch((error: Error) =>
          ctx.log.debug("position refuses", { error: error.message }),
        );
        await pause(ctx, RETRY_MS);
      }
    });
  },
});

/** Until the channel ends. */
async function follow(ctx: ServiceContext, onPosition: (now: Position) => void): Promise<void> {
  const channel = await ctx.services.use("position").openChannel("follow", {}, { signal: ctx.signal });
  const over = Promise.withResolvers<void>();
  channel.open({
    message({ json }) {
      const parsed = position.safeParse(json);
      if (parsed.success) onPosition(parsed.data);
    },
    drain() {},
    closed: () => over.resolve(),
  });
  await over.promise;
}

/** Metres, near enough for what has moved. */
function distance(from: Position, to: Position): number {
  const east = (to.lon - from.lon) * Math.cos((from.lat * Math.PI) / 180);
  return Math.hypot(to.lat - from.lat, east) * METRES_PER_DEGREE;
}

async function pause({ clock, signal }: ServiceContext, ms: number): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = clock.after(ms, resolve);
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  await promise;
  timer.cancel();
  signal.removeEventListener("abort", onAbort);
}
