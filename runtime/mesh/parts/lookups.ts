/** Questions for names and records joined to the mesh: between an edge node and its gateways, over slow links alone. */
import { briefOf } from "../../identity/brief.ts";
import { decodeRecord, hasNameGrant } from "../../identity/record.ts";
import { GodwitError } from "../../kernel/errors.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { LookupAnswers } from "../../membership/lookup-answers.ts";
import { LookupQuestions } from "../../membership/lookup-questions.ts";
import { FrameType } from "../../wire/constants.ts";
import { decodeLookup, decodeLookupReply } from "../../wire/lookup-messages.ts";
import type { PartOf, PartContext } from "../part.ts";
import { createDirectory } from "./directory.ts";

export function lookupsPart({ mesh, deps, kept }: PartContext): PartOf<LookupQuestions> {
  const { identity, network, authority, clock, random, metrics, time, callsign, location, verify } = deps;
  const { records, names, book } = kept;
  const self = identity.id;
  const directory = createDirectory({ self, callsign, location }, kept);
  const nodesOf = (address: string): readonly NodeId[] | undefined => {
    const resolution = directory.resolve(address, false);
    if (resolution.kind === "nodes") return resolution.nodes;
    return resolution.kind === "unknown" ? [] : undefined;
  };
  const send = (to: NodeId, frame: Uint8Array) => mesh.peers.tell(to, "control", frame, "lookups");
  const refused = metrics.counter("godwit_lookups_refused_total");

  const questions = new LookupQuestions({
    clock,
    random,
    metrics,
    records,
    hasAuthority: authority !== undefined,
    isGranted: (binding) => authority !== undefined && hasNameGrant(binding, authority, network, verify),
    observe(record) {
      if (record.id !== self && !mesh.isRefused(record.id)) names.observe(record);
    },
    runMs: () => time.runMs,
    gateways: () => mesh.router.gateways,
    neighbours: () => mesh.router.slowNeighboursAlone,
    answerMs: (gateway) => mesh.peers.get(gateway)?.best?.session.answerMs ?? 0,
    answers(gateway) {
      // Whoever signs brief records of its own knows of questions; an earlier release would not even say no.
      const record = records.get(gateway)?.record;
      return record === undefined || briefOf(record) !== undefined;
    },
    takeAirtime: (to, bytes, by) =>
      mesh.router.takeAirtime(to, bytes, by === undefined ? "control" : "answer", by),
    send,
    nodesOf,
  });

  const answers = new LookupAnswers({
    clock,
    metrics,
    recordOf: (id) => records.get(id)?.record,
    isBlocked: (id) => book.isBlocked(id),
    holderOf: (name) => nodesOf(name)?.[0],
    machinesAt: (place) => nodesOf(place) ?? [],
    isReachable: (id) => mesh.router.reachable(id),
    isSound(record) {
      try {
        decodeRecord(record, network, verify);
        return true;
      } catch (error) {
        if (error instanceof GodwitError) return false;
        throw error;
      }
    },
    askOn: (by, lookup) => questions.askOn(by, lookup),
    frameBytesMax: (to) => mesh.peers.get(to)?.frameBytesMax ?? 0,
    takeAirtime: (to, bytes) => mesh.router.takeAirtime(to, bytes, "answer"),
    send,
  });

  return {
    engine: questions,
    frames: [
      {
        types: [FrameType.lookup, FrameType.lookupReply],
        take(from, type, frame) {
          // The mesh tells whoever has another link, and nothing bounds what a fast one costs.
          if (!mesh.router.isSlowNeighbour(from)) return refused.add(1, { reason: "fast" });
          if (type === FrameType.lookup) {
            const lookup = decodeLookup(frame);
            if (lookup !== undefined) answers.onLookup(from, lookup);
          } else {
            const reply = decodeLookupReply(frame);
            if (reply !== undefined) questions.onReply(from, reply);
          }
        },
      },
    ],
    peerDown({ id }) {
      answers.onGone(id);
      questions.onGone(id);
    },
    // Its beacon made it: there is one more to ask.
    routeChanged(destination) {
      if (mesh.router.isSlowNeighbour(destination)) questions.onGateways();
    },
    defaultRouteChanged(isThere) {
      if (isThere) questions.onGateways();
    },
    directoryChanged: () => answers.onDirectory(),
    stop() {
      questions.stop();
      answers.stop();
    },
  };
}
