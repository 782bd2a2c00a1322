/**
 * What the node knows of names that several nodes claim, in words for its health. Anybody can claim a name, so that alone is told
 * and makes no node ill; that mail waits for an operator does.
 */
import { shortId } from "../kernel/ids.ts";
import type { Names } from "../identity/names.ts";

/** Names told of by name; the others are counted: anybody can claim any number. */
const NAMED_MAX = 3;

export function conflictTroubles(
  names: Pick<Names, "list" | "resolve">,
): { name: string; reason: string; isNotice: boolean }[] {
  const contested = names.list().filter(({ conflict }) => conflict !== null);
  if (contested.length === 0) return [];
  const told = contested.slice(0, NAMED_MAX).map(({ name, node, source, conflict }) => {
    const isVacant = source === "pinned" && names.resolve(name).kind === "conflict";
    const holder = isVacant
      ? `${shortId(node)} gave it up, mail to it waits`
      : names.resolve(name).kind === "conflict"
        ? "the authority signed it twice, mail to it waits"
        : `${shortId(node)} holds it and keeps its mail`;
    return `${name} is claimed by ${shortId(conflict!)} (${holder})`;
  });
  const more = contested.length - told.length;
  const list = more > 0 ? `${told.join("; ")}; and ${more} more` : told.join("; ");
  const isNotice = contested.every(({ name }) => names.resolve(name).kind !== "conflict");
  return [{ name: "names", reason: `${list}: godwit names resolve settles it`, isNotice }];
}
