/** The mesh of this node, and its life as a closed one: what each is given of configuration, store and plugins. */
import { descriptorMarks } from "@godwit/sdk/places";
import { ClosedMesh } from "../closed/closed-mesh.ts";
import { verifySignature } from "../identity/keys.ts";
import { openPrekeys } from "../identity/prekeys.ts";
import { createSealer } from "../identity/sealer.ts";
import { processHeap } from "../kernel/heap.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Heard, Hub } from "../kernel/hub.ts";
import type { Scope } from "../kernel/scope.ts";
import type { HubEvents } from "../view/node-events.ts";
import { Mesh } from "../mesh/mesh.ts";
import { tagsOf } from "./tags.ts";
import type { Ground } from "./ground.ts";
import type { Handshakes } from "./handshakes.ts";
import type { Knot } from "./knot.ts";
import { meshSettingsOf } from "./settings.ts";

/** Opens the mesh; nothing is dialled yet. The caller stops it, after the doors and before the transports. */
export async function openMesh(
  ground: Ground,
  handshakes: Handshakes,
  hub: Hub<HubEvents>,
  knot: Knot,
  scope: Scope,
): Promise<Mesh> {
  const { config, identity, store, time, secrets, clock, random, log, metrics, diskBytes, machine } = ground;
  const { network, callsign, location, tags } = config.node;
  return await Mesh.open({
    identity,
    network,
    liveSecrets: () => secrets.epochs,
    authority: config.network.authority,
    callsign,
    location,
    tags: tagsOf(tags),
    clock,
    time,
    random,
    log,
    metrics,
    heap: processHeap,
    store,
    ...meshSettingsOf(config, diskBytes),
    addresses: () => machine.addresses(),
    canDial: (endpoint) => knot.host?.canDial(endpoint) ?? false,
    // A link of a stranger keeps its descriptor for as long as it likes: who comes after it must find one.
    neighboursMax: () => Math.floor((descriptorMarks().strangers * 3) / 4),
    verify: verifySignature,
    openSealing: async (recordOf) => {
      // The first prekey rotates in while the mesh is still opening; opening publishes it anyway.
      const prekeys = await openPrekeys({
        ...{ store, random, clock, callsign },
        onRotate: () => knot.mesh?.onPrekey(),
      });
      scope.own(() => prekeys.stop());
      return {
        prekeys,
        sealer: createSealer({ identity, prekeys, recordOf, sessions: { network, clock, random } }),
      };
    },
    dial: (endpoint, signal, expected, terms) =>
      knot.host === undefined
        ? Promise.reject(godwitError("GODWIT_ENDPOINT_INVALID", "no transport is running yet"))
        : knot.host.dial(endpoint, signal, expected, terms),
    dialTimeoutMs: (endpoint) => knot.host?.dialTimeoutMs(endpoint),
    handshake: handshakes.open,
    events: hub,
    system: (from, plaintext) =>
      // While the mesh is still opening: the hop before keeps it.
      knot.closed === undefined
        ? Promise.reject(godwitError("GODWIT_STORE_FAILED", "the node is still starting"))
        : knot.closed.onSystem(from, plaintext),
  });
}

/** Stops with the scope. */
export function openClosedMesh(
  ground: Ground,
  mesh: Mesh,
  handshakes: Handshakes,
  hub: Heard<HubEvents>,
  scope: Scope,
): ClosedMesh {
  const { config, identity, secrets, clock, random, log, metrics } = ground;
  const own = scope.child("closed");
  const closed = new ClosedMesh({
    self: identity.id,
    network: config.node.network,
    callsign: config.node.callsign,
    authority: config.network.authority,
    mesh,
    secrets,
    clock: own.clock(clock),
    signal: own.signal,
    random,
    log,
    metrics,
    verify: verifySignature,
    handshake: handshakes.openPreferred,
    forgetSecrets: handshakes.forgetSecrets,
  });
  hub.on("peerUp", (peer) => closed.onPeerUp(peer));
  own.own(() => closed.stop());
  return closed;
}
