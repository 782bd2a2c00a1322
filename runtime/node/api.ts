/** The API of this node: its tokens, its routes over the view, its listeners. */
import { createApi } from "../api/app.ts";
import { type ApiServers, startApiServers } from "../api/server.ts";
import { type ConfiguredTokenStore, openTokenStore } from "../api/tokens.ts";
import type { PassedListener } from "../api/http.ts";
import { profileProcess } from "../kernel/profile.ts";
import type { Scope } from "../kernel/scope.ts";
import type { ForwardTable, NodeView } from "../view/contract/node.ts";
import type { PagesDesk } from "../view/contract/pages.ts";
import type { PluginDesk } from "../view/contract/plugins.ts";
import type { Ground } from "./ground.ts";
import { tokensOf } from "./settings.ts";

export interface Shown {
  readonly view: NodeView;
  readonly forwards: ForwardTable;
  readonly plugins: PluginDesk;
  readonly pages: PagesDesk;
  readonly version: string;
  /** Listeners that a service manager opened. */
  readonly passed: readonly PassedListener[];
}

/** Listens at once; closes with the scope. Throws GODWIT_LISTEN_FAILED. */
export async function openApi(
  ground: Ground,
  shown: Shown,
  scope: Scope,
): Promise<{ readonly servers: ApiServers; readonly tokens: ConfiguredTokenStore }> {
  const { config, store, clock, random, log, recent, metrics } = ground;
  const { passed, ...parts } = shown;
  const tokens = await openTokenStore({ store, random, clock, configured: tokensOf(config) });
  const { listen, socket: socketPath, isProfiled } = config.api;
  const profiler = {
    isOverTcp: isProfiled,
    take: (seconds: number, signal: AbortSignal) => profileProcess(seconds, clock, signal),
  };
  const own = { tokens, clock, log, recent, metrics, signal: scope.signal };
  const app = createApi({ ...parts, ...own, profiler });
  const servers = await startApiServers({ app, clock, log, metrics, listen, socketPath, passed }, scope);
  return { servers, tokens };
}
