/**
 * transport.yggdrasil: links over the Yggdrasil overlay, which a daemon on this machine or a child of ours keeps. Reads the
 * daemon's address from its admin socket, listens on that address alone and dials nothing outside 200::/7. Must never
 * take away a peer that it did not add, and never see the key of a daemon that is not its own. README.md in this folder.
 */
import { definePlugin, type DialTerms, GodwitError } from "@godwit/sdk";
import { Tcp, type TcpPipe } from "@godwit/sdk/tcp";
import { parseAdmin } from "./admin.ts";
import { pathsIn, superviseYggdrasil } from "./child.ts";
import { ADMIN_DEFAULT, yggdrasilConfig } from "./config.ts";
import { hostOf, isOverlayAddress, parseEndpoint, SCHEME } from "./endpoint.ts";
import { OverlayFollower } from "./overlay.ts";

export default definePlugin({
  id: "yggdrasil",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.tcp", "net.unix", "process.spawn", "identity.derive", "files"],
  config: yggdrasilConfig,
  async start(ctx, config) {
    const folder = await ctx.folder();
    const paths = config.mode === "supervised" ? pathsIn(folder) : undefined;
    if (ctx.signal.aborted) return;
    const admin = paths === undefined ? parseAdmin(config.admin ?? ADMIN_DEFAULT)! : { unix: paths.admin };
    const tcp = new Tcp(ctx, SCHEME, { setting: "port" });
    ctx.own(() => tcp.close());
    const follower = new OverlayFollower(ctx, tcp, admin, config, folder);
    ctx.transport.register({
      schemes: [SCHEME],
      dial: (endpoint, signal, _expected, terms) =>
        dial({ tcp, follower, mayCall: config.peers_from_discovery }, endpoint, signal, terms),
    });
    if (paths !== undefined)
      ctx.spawn("yggdrasil", (signal) =>
        superviseYggdrasil(
          ctx,
          config,
          paths,
          (state) => follower.setChildTrouble(state.state === "waiting" ? state.reason : undefined),
          signal,
        ),
      );
    ctx.spawn("daemon", (signal) => follower.follow(signal));
  },
});

interface Dialler {
  readonly tcp: Tcp;
  readonly follower: OverlayFollower;
  readonly mayCall: boolean;
}

const dialFailed = (endpoint: string, why: string) =>
  new GodwitError("GODWIT_DIAL_FAILED", `${endpoint} cannot be reached: ${why}`, {
    kind: "transport",
    retry: "later",
  });

/** Rejects with GODWIT_ENDPOINT_INVALID, GODWIT_DIAL_FAILED or the signal's reason. */
async function dial(
  { tcp, follower, mayCall }: Dialler,
  endpoint: string,
  signal: AbortSignal,
  terms: DialTerms | undefined,
): Promise<TcpPipe> {
  const target = parseEndpoint(endpoint);
  signal.throwIfAborted();
  // Without the daemon's interface the system would send it to whatever router it has.
  await follower.ready(signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw dialFailed(endpoint, error instanceof Error ? error.message : String(error));
  });
  const peers = mayCall
    ? target.peers.filter((peer) => terms?.refusal(hostOf(peer) ?? "") === undefined)
    : [];
  if (peers.length > 0 && follower.peerings.want(peers)) follower.look();
  const pipe = await tcp.dial(endpoint, target, signal, terms);
  if (isOverlayAddress(pipe.localAddress)) return pipe;
  pipe.close();
  throw dialFailed(endpoint, "the way there does not lead through the overlay");
}
