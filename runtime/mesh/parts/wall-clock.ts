/** This node's idea of the time joined to the mesh: it is looked at every minute, and neighbours that have a say are heard. */
import { BoundedMap } from "@godwit/sdk/bounded";
import { every } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { TIME_CHECK_MS } from "../../time/node-time.ts";
import type { Voice } from "../../time/voices.ts";
import type { PartOf, PartContext } from "../part.ts";

/** Linked for so long in all, a member of a closed mesh has a say, ms. */
const KNOWN_LINKED_MS = 600_000;
/** Neighbours whose clocks are remembered, the latest heard ones. */
const CLOCKS_MAX = 1_024;

export interface WallClock {
  /** What a neighbour's clock says now. */
  heard(id: NodeId, wallMs: number): void;
}

export function wallClockPart({ mesh, deps, kept, scope }: PartContext): PartOf<WallClock> {
  const { clock, time, events } = deps;
  /** Its wall clock less our monotonic one, ms. */
  const offsets = new BoundedMap<NodeId, number>({ name: "clocks of neighbours", max: CLOCKS_MAX });
  const standingOf = (id: NodeId): Voice["standing"] | undefined => {
    const { level, by, history } = kept.book.standing(id);
    // What the manager concludes from good behaviour, any stranger can earn.
    if (level === "trusted" && by !== "manager") return "trusted";
    const isKnown = (level === "member" || level === "trusted") && history.linkedMs >= KNOWN_LINKED_MS;
    return isKnown && deps.liveSecrets().length > 0 ? "known" : undefined;
  };
  const voices = (): Voice[] =>
    [...offsets].flatMap(([id, offsetMs]) => {
      const standing = mesh.peers.get(id) === undefined ? undefined : standingOf(id);
      return standing === undefined ? [] : [{ standing, wallMs: offsetMs + clock.monotonicMs() }];
    });
  time.onChange = (view) => {
    events.emit("clockChanged", view);
    if (time.isConfirmed) mesh.peers.sayHelloAgain();
  };
  return {
    engine: {
      heard(id, wallMs) {
        offsets.renew(id, wallMs - clock.monotonicMs());
        time.check(voices());
      },
    },
    start() {
      const tick = every(clock, TIME_CHECK_MS, () => {
        time.check(voices());
        void time.save();
      });
      scope.own(() => tick.cancel());
    },
    peerDown: ({ id }) => void offsets.delete(id),
  };
}
