/** This node as plugins get it (`Self` of the SDK). */
import type { Identity } from "../identity/keys.ts";
import { isSignedForPlugin, signForPlugin } from "../identity/plugin-words.ts";
import type { Heard } from "../kernel/hub.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { SelfBackend } from "../plugin/host/self-door.ts";

export function createSelfBackend(
  identity: Identity,
  { callsign, network }: Pick<SelfBackend, "callsign" | "network">,
  mesh: Mesh,
  hub: Heard<MeshEvents>,
): SelfBackend {
  const { id } = identity;
  const endpoints = () => mesh.ownRecord.endpoints;
  return {
    id,
    callsign,
    network,
    endpoints,
    watch(fn) {
      let told = endpoints().join(" ");
      return hub.on("recordChanged", (of) => {
        const now = endpoints().join(" ");
        if (of !== id || now === told) return;
        told = now;
        fn();
      });
    },
    sign: (plugin, message) => signForPlugin(identity, plugin, message, network),
    verify: (plugin, of, message, signature) => isSignedForPlugin(of, plugin, message, signature, network),
  };
}
