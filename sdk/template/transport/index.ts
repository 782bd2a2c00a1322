/** my-plugin: links over TCP under a scheme of its own. Replace the medium; keep the shape. */
import {
  advertisedHosts,
  definePlugin,
  formatEndpoint,
  GodwitError,
  isListen,
  parseHostPort,
  planListen,
  type Timer,
  z,
} from "@godwit/sdk";
import { Tcp } from "@godwit/sdk/tcp";

const SCHEME = "my-plugin";
const RETRY_MS = 500;

/** The same as `config` in godwit-plugin.json says, and more exact. */
const config = z.strictObject({
  listen: z.array(z.string().refine(isListen, "expected address:port")).max(64).default([]),
});

export default definePlugin({
  id: "my-plugin",
  namespace: "transport",
  sdk: "SDK_RANGE",
  permissions: ["net.tcp"],
  config,
  start(ctx, { listen }) {
    const tcp = new Tcp(ctx, SCHEME);
    ctx.own(() => tcp.close());
    // Dialling: text in, a pipe out, or a GodwitError of kind `transport`.
    ctx.transport.register({
      schemes: [SCHEME],
      async dial(endpoint, signal) {
        const place = parseHostPort(endpoint.slice(`${SCHEME}://`.length));
        if (place.port === 0)
          throw new GodwitError("GODWIT_ENDPOINT_INVALID", `${endpoint} has no port`, { kind: "config" });
        return tcp.dial(endpoint, place, signal);
      },
    });
    // Listening: what comes in goes to `ctx.transport.accept` (Tcp does that), and where it can be reached is published.
    const tryToListen = () => {
      const addresses = ctx.network.addresses();
      const reason = tcp.listen(planListen(listen, addresses));
      ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
      ctx.transport.listening(
        tcp.listening.flatMap((bound) =>
          advertisedHosts(bound, addresses).map((host) => formatEndpoint(SCHEME, host, bound.port)),
        ),
      );
      // The version before this one may still hold the port: it goes when this one has started.
      if (reason !== "") retry = ctx.clock.after(RETRY_MS, tryToListen);
    };
    let retry: Timer | undefined;
    ctx.own(() => retry?.cancel());
    tryToListen();
  },
});
