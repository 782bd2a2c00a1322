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
import { formatTarget } from "../config/targets.ts";
import type { Config } from "../config/load.ts";
import type { Log } from "../kernel/log.ts";

export interface Shown {
  readonly view: NodeView;
  readonly forwards: ForwardTable;
  readonly plugins: PluginDesk;
  readonly pages: PagesDesk;
  readonly version: string;
  /** Listeners that a service manager opened. */
  readonly passed: readonly PassedListener[];
}

/** Whether everybody may read what is open on loopback: `api.public_read`. The log tells each time that it begins. */
export class PublicRead {
  readonly #log: Log;
  #isOn = false;

  constructor(log: Log) {
    this.#log = log;
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  configure({ api }: Config): void {
    if (api.publicRead && !this.#isOn)
      this.#log.warn("mesh and metrics readable by whoever reaches the api", {
        setting: "api.public_read",
        listen: api.listen.map(formatTarget),
      });
    this.#isOn = api.publicRead;
  }
}

export interface OpenedApi {
  readonly servers: ApiServers;
  readonly tokens: ConfiguredTokenStore;
  readonly publicRead: PublicRead;
}

/** Listens at once; closes with the scope. Throws GODWIT_LISTEN_FAILED. */
export async function openApi(ground: Ground, shown: Shown, scope: Scope): Promise<OpenedApi> {
  const { config, store, clock, random, log, recent, metrics } = ground;
  const { passed, ...parts } = shown;
  const tokens = await openTokenStore({ store, random, clock, configured: tokensOf(config) });
  const { listen, socket: socketPath, isProfiled } = config.api;
  const profiler = {
    isOverTcp: isProfiled,
    take: (seconds: number, signal: AbortSignal) => profileProcess(seconds, clock, signal),
  };
  const publicRead = new PublicRead(log);
  publicRead.configure(config);
  const isReadPublic = () => publicRead.isOn;
  const app = createApi({
    ...{ ...parts, tokens, isReadPublic, profiler, clock, log, recent, metrics },
    signal: scope.signal,
  });
  const servers = await startApiServers({ app, clock, log, metrics, listen, socketPath, passed }, scope);
  return { servers, tokens, publicRead };
}
