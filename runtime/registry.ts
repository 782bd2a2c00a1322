/**
 * The one list of built-in plugins. `test/architecture.test.ts` lets nothing else of the runtime import from plugins/. A node
 * loads the code of those that its tables name: the others would cost each start 10 ms.
 */
import type { Plugin, PluginNamespace } from "@godwit/sdk";

const row = (namespace: PluginNamespace, id: string, load: () => Promise<{ readonly default: Plugin }>) => ({
  namespace,
  id,
  load: async () => {
    await import("./kernel/schema-language.ts");
    return (await load()).default;
  },
});

/** Of each built-in transport: the schemes that it dials, and what throws for an endpoint that it never could. */
export interface Dialling {
  readonly schemes: readonly string[];
  load(): Promise<(endpoint: string) => unknown>;
}

export const builtinDialling: Readonly<Record<string, Dialling>> = {
  tcp: {
    schemes: ["tcp"],
    load: async () => (await import("../plugins/transport-tcp/endpoint.ts")).parseTcpEndpoint,
  },
  udp: {
    schemes: ["udp"],
    load: async () => (await import("../plugins/transport-udp/endpoint.ts")).parseUdpEndpoint,
  },
  websocket: {
    schemes: ["ws", "wss"],
    load: async () => (await import("../plugins/transport-websocket/endpoint.ts")).parseWebSocketEndpoint,
  },
  yggdrasil: {
    schemes: ["yggdrasil"],
    load: async () => (await import("../plugins/transport-yggdrasil/endpoint.ts")).parseEndpoint,
  },
  wireguard: {
    schemes: ["wg"],
    load: async () => (await import("../plugins/transport-wireguard/endpoint.ts")).parseWgEndpoint,
  },
  memory: { schemes: ["memory"], load: async () => () => {} },
  tor: {
    schemes: ["tor"],
    load: async () => (await import("../plugins/transport-tor/endpoint.ts")).parseTorEndpoint,
  },
  meshtastic: {
    schemes: ["meshtastic"],
    load: async () => (await import("../plugins/transport-meshtastic/endpoint.ts")).parseMeshtasticEndpoint,
  },
};

export const builtinPlugins = [
  row("transport", "tcp", () => import("../plugins/transport-tcp/index.ts")),
  row("transport", "udp", () => import("../plugins/transport-udp/index.ts")),
  row("transport", "websocket", () => import("../plugins/transport-websocket/index.ts")),
  row("transport", "yggdrasil", () => import("../plugins/transport-yggdrasil/index.ts")),
  row("transport", "wireguard", () => import("../plugins/transport-wireguard/index.ts")),
  row("transport", "memory", () => import("../plugins/transport-memory/index.ts")),
  row("transport", "tor", () => import("../plugins/transport-tor/index.ts")),
  row("transport", "meshtastic", () => import("../plugins/transport-meshtastic/index.ts")),
  row("discovery", "static", () => import("../plugins/discovery-static/index.ts")),
  row("discovery", "mdns", () => import("../plugins/discovery-mdns/index.ts")),
  row("discovery", "dht", () => import("../plugins/discovery-dht/index.ts")),
  row("discovery", "serf", () => import("../plugins/discovery-serf/index.ts")),
  row("service", "telex", () => import("../plugins/service-telex/index.ts")),
  row("service", "radio", () => import("../plugins/service-radio/index.ts")),
] as const;

/** What the command line does with a Meshtastic radio that no node has. */
export const loadRadioSetup = async () => {
  await import("./kernel/schema-language.ts");
  return await import("../plugins/service-radio/setup/index.ts");
};
