/**
 * Own mail that waits for longer than the operator expects, in words for the node's health: for whom, for what and since when. What only its
 * recipient can change, by coming back, is told and makes no node ill. Whoever asks for health needs no token: that one is not told for whom.
 */
import type { Overdue } from "../custody/source/overdue.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";

/** Waits told of one by one; the others are counted. */
const NAMED_MAX = 3;
const MINUTE_MS = 60_000;

interface Seen {
  readonly peers: Pick<Mesh["peers"], "count">;
  readonly members: Pick<Mesh["members"], "stateOf">;
  readonly custody: {
    readonly directory: Pick<Mesh["custody"]["directory"], "resolve">;
    readonly outbox: { readonly awake: Pick<Mesh["custody"]["outbox"]["awake"], "overdue"> };
  };
}

interface Wait {
  readonly whom: string;
  readonly words: string;
  /** Somebody on this side can do something about it. */
  readonly isIll: boolean;
}

export function overdueTroubles(
  mesh: Seen,
): { name: string; reason: string; detail: string; isNotice: boolean }[] {
  const { awake } = mesh.custody.outbox;
  // What waits for its turn while others to the same node go is on its way.
  const waits = awake.overdue
    .filter(({ waitsFor, isMoving }) => waitsFor !== "turn" || !isMoving)
    .map((one) => waitOf(mesh, one))
    .sort((a, b) => Number(b.isIll) - Number(a.isIll));
  if (waits.length === 0) return [];
  const told = waits.slice(0, NAMED_MAX);
  const more = waits.length - told.length;
  const list = (words: readonly string[]) =>
    `${words.join("; ")}${more > 0 ? `; and for ${more} more` : ""}: \`godwit outbox\` says what each waits for, \`godwit outbox rm\` withdraws it`;
  return [
    {
      name: "mail",
      reason: list(told.map(({ words }) => `mail waits ${words}`)),
      detail: list(told.map(({ whom, words }) => `mail to ${whom} waits ${words}`)),
      isNotice: waits.every(({ isIll }) => !isIll),
    },
  ];
}

function waitOf(mesh: Seen, { whom, waitsFor, ageMs }: Overdue): Wait {
  const since = durationWords(ageMs);
  switch (waitsFor) {
    case "address":
      return {
        whom,
        isIll: true,
        words: `for ${since}: nobody it could be sealed to is known under that name`,
      };
    case "receipt":
      return { whom, isIll: false, words: `for its receipt, ${since} by now: others carry it` };
    case "turn":
      return { whom, isIll: true, words: `for ${since} although a way leads there` };
    case "way":
      if (mesh.peers.count === 0)
        return { whom, isIll: true, words: `for ${since}: this node has no neighbour` };
      return isAway(mesh, whom)
        ? { whom, isIll: false, words: `for ${since}: who it is for is away, and it goes when they are back` }
        : { whom, isIll: true, words: `for ${since}: no route leads to it although it lives` };
  }
}

/** Nobody in the mesh holds any of those that it means for alive. */
function isAway({ custody, members }: Seen, whom: string): boolean {
  const resolution = custody.directory.resolve(whom, false);
  const nodes: readonly NodeId[] = resolution.kind === "nodes" ? resolution.nodes : [];
  return nodes.every((node) => !["alive", "suspect"].includes(members.stateOf(node) ?? "failed"));
}

function durationWords(ms: number): string {
  const minutes = Math.floor(ms / MINUTE_MS);
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1_440)} days`;
}
