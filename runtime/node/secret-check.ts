/**
 * Network secrets that a person made up: a node that never ran does not begin with one, because then it can still be another. Where one
 * lives already it is told, with what replaces it on every member.
 */
import { existsSync } from "node:fs";
import { whyMadeUp } from "../closed/secret-strength.ts";
import { type Config, configError, type ConfigProblem } from "../config/load.ts";

const ADVICE = "replace it on every member with: godwit secret rotate --out FILE";

/** Made by the first start, and by `godwit join`, whose secret is an older mesh's. */
const SIGNS_OF_LIFE = ["godwit.db", "network.key"] as const;

/** Answers what to warn of. Throws ConfigError where the secret is only now being made. */
export function checkSecrets({ node, origin }: Config): string[] {
  const isMany = node.networkSecrets.length > 1;
  const problems = node.networkSecrets.flatMap((secret, index): ConfigProblem[] => {
    const why = whyMadeUp(secret.reveal());
    return why === undefined
      ? []
      : [
          {
            path: `node.network_secret${isMany ? `[${index}]` : ""}`,
            expected: "a secret that nobody made up: whoever records one handshake can try them all",
            found: `one that ${why} (not shown)`,
            suggestion: "make one with: godwit secret new --out FILE",
          },
        ];
  });
  if (problems.length === 0) return [];
  if (!SIGNS_OF_LIFE.some((name) => existsSync(`${node.stateDir}/${name}`)))
    throw configError(origin, problems);
  return problems.map(({ path, found }) => `${path} is ${found}; ${ADVICE}`);
}
