/**
 * The one list of built-in plugins. `test/architecture.test.ts` lets nothing else of the runtime import from plugins/. A node
 * loads the code of those that its tables name: the others would cost each start 10 ms.
 */
import type { Plugin, PluginNamespace } from "@godwit/sdk";

const row = (namespace: PluginNamespace, id: string, load: () => Promise<{ readonly default: Plugin }>) => ({
  namespace,
  id,
  load: async () => (await load()).default,
});

export const builtinPlugins = [
  row("transport", "tcp", () => import("../plugins/transport-tcp/index.ts")),
  row("transport", "udp", () => import("../plugins/transport-udp/index.ts")),
  row("transport", "websocket", () => import("../plugins/transport-websocket/index.ts")),
  row("transport", "yggdrasil", () => import("../plugins/transport-yggdrasil/index.ts")),
  row("transport", "wireguard", () => import("../plugins/transport-wireguard/index.ts")),
  row("transport", "memory", () => import("../plugins/transport-memory/index.ts")),
  row("transport", "tor", () => import("../plugins/transport-tor/index.ts")),
  row("discovery", "static", () => import("../plugins/discovery-static/index.ts")),
  row("service", "telex", () => import("../plugins/service-telex/index.ts")),
] as const;
