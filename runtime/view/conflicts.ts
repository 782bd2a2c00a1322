/**
 * What the node knows of names that several nodes claim, in words for its health. Anybody can claim a name, so that alone is told
 * and makes no node ill; that mail waits for an operator does. Whoever asks for health needs no token: must not walk all names.
 */
import { shortId } from "../kernel/ids.ts";
import { OWN_NAME_ADVICE, type Names } from "../identity/names.ts";

/** Names told of by name; the others are counted: anybody can claim any number. */
const NAMED_MAX = 3;

/** `own` is this node's callsign. What no decision here changes is told with what does. */
export function conflictTroubles(
  names: Pick<Names, "conflicts" | "resolve">,
  own?: string,
): { name: string; reason: string; isNotice: boolean }[] {
  const { named, count, vacantCount } = names.conflicts(NAMED_MAX);
  if (count === 0) return [];
  const told = named.map(({ name, node, source, conflict }) => {
    const isWaiting = names.resolve(name).kind === "conflict";
    const holder =
      source === "configured"
        ? name === own
          ? OWN_NAME_ADVICE
          : `[names] gives it to ${shortId(node)}`
        : isWaiting && source === "pinned"
          ? `${shortId(node)} gave it up, mail to it waits`
          : isWaiting
            ? "the authority signed it twice, mail to it waits"
            : `${shortId(node)} holds it and keeps its mail`;
    return `${name} is claimed by ${shortId(conflict!)} (${holder})`;
  });
  const more = count - told.length;
  const list = more > 0 ? `${told.join("; ")}; and ${more} more` : told.join("; ");
  const isOpen = more > 0 || named.some(({ source }) => source !== "configured");
  const reason = isOpen ? `${list}: godwit names resolve settles it` : list;
  return [{ name: "names", reason, isNotice: vacantCount === 0 }];
}
