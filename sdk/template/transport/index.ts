/** my-plugin: links over TCP under a scheme of its own. Replace the medium; keep the shape. */
import {
  advertisedHosts,
  definePlugin,
  formatEndpoint,
  GodwitError,
  isListen,
  parseHostPort,
  planListen,
  z,
} from "@godwit/sdk";
import { Tcp } from "@godwit/sdk/tcp";

const SCHEME = "my-plugin";

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
    const addresses = ctx.network.addresses();
    const reason = tcp.listen(planListen(listen, addresses));
    if (reason !== "") ctx.health({ state: "degraded", reason });
    ctx.transport.listening(
      tcp.listening.flatMap((bound) =>
        advertisedHosts(bound, addresses).map((host) => formatEndpoint(SCHEME, host, bound.port)),
      ),
    );
  },
});
