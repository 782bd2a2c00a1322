/** What the rules of a configuration really let in, in words for `godwit config check`. Pure. */
import type { Config } from "./load.ts";
import { formatTarget } from "./targets.ts";

const ID_CHARS = 52;

type Said = Pick<Config, "forwardAllow" | "names"> & {
  readonly api: Pick<Config["api"], "listen" | "publicRead">;
  readonly trust: Pick<Config["trust"], "trusted" | "rules">;
  readonly authority: boolean;
};

/** One line for each thing that gives a right, or looks as if it did. */
export function admitted({ api, forwardAllow, names, trust, authority }: Said): string[] {
  const boundTo = (name: string): string => {
    const id = names.get(name);
    if (id !== undefined) return `node ${id}, by [names]`;
    return authority
      ? "the node that the authority signed the name for"
      : `nobody before [names] binds it or \`godwit names resolve ${name} ID\` decides: whoever claims a name first holds it for mail, not for rights`;
  };
  const forwards = forwardAllow.flatMap(({ from }, index) =>
    from.map((who) => {
      const rule = `forward_allow[${index}] from "${who}" admits`;
      if (who === "trusted")
        return `${rule} ${trust.trusted.length} nodes of trust.trusted, those of \`godwit trust ID trusted\`, and those of trust.rules about callsigns that are bound; none that was promoted for being linked long`;
      return who.length === ID_CHARS ? `${rule} that node` : `${rule} ${boundTo(who)}`;
    }),
  );
  const rules = trust.rules.flatMap(({ level, callsigns }, index) => {
    if (level !== "trusted") return [];
    const rule = `trust.rules[${index}]`;
    return callsigns.length === 0
      ? [`${rule} chooses links and gives no rights: anybody can have an address`]
      : [
          `${rule} gives rights only where its callsigns are bound by [names], the authority or \`godwit names resolve\`: ${callsigns.join(", ")}`,
        ];
  });
  const where = api.listen.map(formatTarget).join(" or ");
  const readers =
    api.publicRead && where !== ""
      ? [`api.public_read lets whoever reaches ${where} read /mesh and /metrics without a token`]
      : [];
  return [...readers, ...forwards, ...rules];
}
