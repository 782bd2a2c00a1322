/** This node as plugins get it (`Self` of the SDK). */
import type { Identity } from "../identity/keys.ts";
import {
  isSignedForPlugin,
  meshSeedForPlugin,
  signForPlugin,
  signItemForPlugin,
} from "../identity/plugin-words.ts";
import type { Heard } from "../kernel/hub.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { SelfBackend } from "../plugin/host/self-door.ts";
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from "../wire/constants.ts";
import type { HubEvents } from "./node-events.ts";

export function createSelfBackend(
  identity: Identity,
  { callsign, network, tags }: Pick<SelfBackend, "callsign" | "network" | "tags">,
  secrets: { readonly live: readonly Uint8Array[] },
  mesh: Mesh,
  hub: Heard<HubEvents>,
  listening: () => readonly string[],
): SelfBackend {
  const { id } = identity;
  const endpoints = () => mesh.ownRecord.endpoints;
  return {
    id,
    callsign,
    network,
    tags,
    protocols: { min: PROTOCOL_VERSION_MIN, max: PROTOCOL_VERSION_MAX },
    endpoints,
    listening,
    watch(fn) {
      const now = () => `${endpoints().join(" ")} ${listening().join(" ")}`;
      let told = now();
      const look = () => {
        if (now() === told) return;
        told = now();
        fn();
      };
      const stops = [hub.on("recordChanged", (of) => of === id && look()), hub.on("listeningChanged", look)];
      return () => {
        for (const stop of stops) stop();
      };
    },
    sign: (plugin, message) => signForPlugin(identity, plugin, message, network),
    verify: (plugin, of, message, signature) => isSignedForPlugin(of, plugin, message, signature, network),
    signItem: (plugin, item) => signItemForPlugin(identity, plugin, item),
    meshSeeds(plugin, purpose) {
      const { live } = secrets;
      return (live.length === 0 ? [undefined] : live).map((secret) =>
        meshSeedForPlugin(secret, network, plugin, purpose),
      );
    },
  };
}
