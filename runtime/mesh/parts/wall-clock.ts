/** This node's idea of the time joined to the mesh: it is looked at every minute, and neighbours that have a say are heard. */
import { every } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { NeighbourClocks } from "../../time/neighbour-clocks.ts";
import { TIME_CHECK_MS } from "../../time/node-time.ts";
import type { Voice } from "../../time/voices.ts";
import type { PartOf, PartContext } from "../part.ts";

/** Linked for so long in all, a member of a closed mesh has a say, ms. */
const KNOWN_LINKED_MS = 600_000;

export function wallClockPart({ mesh, deps, kept, scope }: PartContext): PartOf<NeighbourClocks> {
  const { clock, time, events } = deps;
  const clocks = new NeighbourClocks(clock);
  const standingOf = (id: NodeId): Voice["standing"] | undefined => {
    const { level, history } = kept.book.standing(id);
    // What the manager concludes from good behaviour, any stranger can earn, and an address or a pinned name any can have.
    if (kept.book.hasRights(id)) return "trusted";
    const isKnown = (level === "member" || level === "trusted") && history.linkedMs >= KNOWN_LINKED_MS;
    return isKnown && deps.liveSecrets().length > 0 ? "known" : undefined;
  };
  time.voices = () => clocks.voices(standingOf);
  time.onChange = (view) => {
    events.emit("clockChanged", view);
    if (time.isConfirmed) mesh.peers.sayHelloAgain();
  };
  scope.own(events.on("trustChanged", () => time.check()));
  return {
    engine: clocks,
    start() {
      every(clock, TIME_CHECK_MS, () => {
        time.check();
        void time.save();
      });
    },
    linkUp: () => time.check(),
    peerDown: ({ id }) => clocks.forget(id),
  };
}
