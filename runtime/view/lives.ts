/** What the node knows of identities that live twice, its own and those of neighbours, in words for its health. */
import type { OutboxEntry } from "../custody/source/entry.ts";
import { shortId } from "../kernel/ids.ts";
import type { Life } from "../membership/other-lives.ts";
import type { Mesh } from "../mesh/mesh.ts";

/** Neighbours told of by name; the others are counted. */
const NAMED_MAX = 3;
const ADVICE = "stop one of the two, or give it an identity of its own";

type Seen = Pick<Mesh, "otherLives" | "records"> & { readonly peers: Pick<Mesh["peers"], "doubles"> };

export function lifeTroubles({ otherLives, peers, records }: Seen): { name: string; reason: string }[] {
  const own = ownWords(otherLives.life, otherLives.returnsInMs);
  const doubles = peers.doubles.now;
  if (own === undefined && doubles.length === 0) return [];
  const names = doubles
    .slice(0, NAMED_MAX)
    .map((id) =>
      [shortId(id), records.get(id)?.record.callsign].filter((word) => word !== undefined).join(" "),
    );
  const others = doubles.length - names.length;
  const list = others > 0 ? `${names.join(", ")} and ${others} more` : names.join(", ");
  return [
    ...(own === undefined ? [] : [{ name: "identity", reason: own }]),
    ...(doubles.length === 0
      ? []
      : [
          {
            name: "doubles",
            reason: `seen on two machines at once in the last half hour: ${list}; ${ADVICE}`,
          },
        ]),
  ];
}

/** Why an own message is still here, in words; null: it is not, or nothing is known yet. */
export function outboxReason(
  { otherLives, custody }: Pick<Mesh, "otherLives" | "custody">,
  entry: OutboxEntry,
): string | null {
  const isOpen = entry.state === "queued" || entry.state === "relayed";
  if (isOpen && otherLives.life === "standing-down")
    return "this node stands down: another machine runs under its identity";
  return custody.outbox.waitReason(entry);
}

function ownWords(life: Life, returnsInMs: number): string | undefined {
  switch (life) {
    case "alone":
      return undefined;
    case "behind":
      return "state_dir is older than what the mesh remembers of this node: docs/restoring.md";
    case "doubled":
      return `another machine runs under this identity and stands down; this one goes on; ${ADVICE}`;
    case "standing-down":
      return `another machine runs under this identity; this one stands down, keeps its mail and looks again in ${Math.ceil(returnsInMs / 60_000)} min; ${ADVICE}`;
    case "returning":
      return "another machine ran under this identity; looking whether it is gone";
  }
}
