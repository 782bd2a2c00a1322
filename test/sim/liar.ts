/**
 * Plants a liar in a simulated node: it advertises metric 0 for everything it hears of, acknowledges bundles for others
 * and drops them. Everything else it does as any node: probes, hellos, proofs and mail for itself.
 */
import type { BundleId } from "../../runtime/kernel/ids.ts";
import type { Mesh } from "../../runtime/mesh/mesh.ts";
import type { Peer } from "../../runtime/peer/peer.ts";
import { decodeBundleFrame, decodeOffer, encodeCustodyAck } from "../../runtime/wire/bundle.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import * as route from "../../runtime/wire/route-messages.ts";
import type { SimNode } from "./node.ts";

/** `drops`: which bundles; without it all of them. It sends nothing of its own further than to its neighbours. */
export function makeLiar(
  mesh: Mesh,
  { id: self }: SimNode,
  drops: (id: BundleId) => boolean = () => true,
): void {
  const { custody, peers } = mesh;
  const onFrame = custody.onFrame.bind(custody);
  custody.onFrame = (from, type, frame) => {
    const found =
      type === FrameType.bundle
        ? decodeBundleFrame(frame).bundle
        : type === FrameType.offer
          ? decodeOffer(frame)
          : undefined;
    if (found === undefined || found.header.destination === self || !drops(found.id))
      return onFrame(from, type, frame);
    peers.get(from)?.send("control", encodeCustodyAck([found.id]));
  };
  const get = peers.get.bind(peers);
  const patched = new WeakSet<Peer>();
  peers.get = (id) => {
    const peer = get(id);
    if (peer === undefined || patched.has(peer)) return peer;
    patched.add(peer);
    const send = peer.send.bind(peer);
    peer.send = (lane, frame) => send(lane, frame[0] === FrameType.routeUpdate ? attract(frame) : frame);
    return peer;
  };
}

/** The same update with every finite metric 0. */
function attract(frame: Uint8Array): Uint8Array {
  const { kind, tag, serial, entries } = route.decodeUpdateHeader(frame.slice());
  if (kind !== route.UpdateKind.table) return frame;
  const writer = route.beginUpdate(tag, serial, frame.length);
  while (entries.remaining > 0) {
    const { destination, any, bulk, proof } = route.readUpdateEntry(entries);
    route.appendUpdateEntry(writer, destination, free(any), free(bulk), proof);
  }
  return writer.finish();
}

const free = (plane: route.PlaneRoute): route.PlaneRoute =>
  plane.metric >= route.METRIC_INFINITE ? plane : { ...plane, metric: 0, bottleneck: 0 };
