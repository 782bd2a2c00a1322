/** This node's own record joined to the mesh: the books and the router have each new one before anybody else. */
import { OwnRecord } from "../../membership/own-record.ts";
import type { PartOf, PartContext } from "../part.ts";

export function ownRecordPart({ mesh, deps, kept, scope }: PartContext): PartOf<OwnRecord> {
  const { identity, network, callsign, location, tags = [], clock, log } = deps;
  const record = new OwnRecord({
    identity,
    network,
    callsign,
    location,
    tags,
    clock,
    log,
    signal: scope.signal,
    nextSequence: () => kept.boot.nextRecordSequence(),
    prekey: () => kept.prekeys.current(),
    nameProof: kept.nameProof,
    published: (bytes) => {
      kept.records.offer(bytes);
      mesh.router.recordChanged();
    },
  });
  return { engine: record, load: () => record.publish() };
}
