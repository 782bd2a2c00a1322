/**
 * The one list of built-in plugins. `test/architecture.test.ts` lets nothing else of the runtime import from plugins/. A node
 * loads the code of those that its tables name: the others would cost each start 10 ms.
 */
import type { Plugin } from "@godwit/sdk";

type Row = Pick<Plugin, "id" | "namespace"> & { load(): Promise<Plugin> };

export const builtinPlugins: readonly Row[] = [
  {
    id: "tcp",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-tcp/index.ts")).default,
  },
  {
    id: "udp",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-udp/index.ts")).default,
  },
  {
    id: "websocket",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-websocket/index.ts")).default,
  },
  {
    id: "yggdrasil",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-yggdrasil/index.ts")).default,
  },
  {
    id: "wireguard",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-wireguard/index.ts")).default,
  },
  {
    id: "memory",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-memory/index.ts")).default,
  },
  {
    id: "tor",
    namespace: "transport",
    load: async () => (await import("../plugins/transport-tor/index.ts")).default,
  },
  {
    id: "static",
    namespace: "discovery",
    load: async () => (await import("../plugins/discovery-static/index.ts")).default,
  },
  {
    id: "telex",
    namespace: "service",
    load: async () => (await import("../plugins/service-telex/index.ts")).default,
  },
];
