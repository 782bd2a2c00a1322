/** The one list of built-in plugins. `test/architecture.test.ts` lets nothing else of the runtime import from plugins/. */
import type { Plugin } from "@godwit/sdk";
import discoveryStatic from "../plugins/discovery-static/index.ts";
import serviceTelex from "../plugins/service-telex/index.ts";
import transportMemory from "../plugins/transport-memory/index.ts";
import transportTcp from "../plugins/transport-tcp/index.ts";
import transportUdp from "../plugins/transport-udp/index.ts";
import transportWebsocket from "../plugins/transport-websocket/index.ts";
import transportWireguard from "../plugins/transport-wireguard/index.ts";
import transportYggdrasil from "../plugins/transport-yggdrasil/index.ts";
import transportTor from "../plugins/transport-tor/index.ts";

export const builtinPlugins: readonly Plugin[] = [
  transportTcp,
  transportUdp,
  transportWebsocket,
  transportYggdrasil,
  transportWireguard,
  transportMemory,
  transportTor,
  discoveryStatic,
  serviceTelex,
];
