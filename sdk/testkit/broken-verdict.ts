/** How the conformance checks are themselves tested: what one says of a plugin that was broken on purpose. */
import { type Check, CheckFailure, runCheck, type Subject } from "./index.ts";

/** "passes", or the words of the first check whose name starts so. Throws what is no failure of a check. */
export async function verdict<Setup extends { dispose?(): void | Promise<void> }>(
  checks: readonly Check<Setup>[],
  name: string,
  subject: Subject<Setup>,
): Promise<string> {
  const check = checks.find((one) => one.name.startsWith(name));
  if (check === undefined) throw new Error(`there is no check "${name}"`);
  try {
    await runCheck(check, subject);
    return "passes";
  } catch (error) {
    if (error instanceof CheckFailure) return error.message;
    throw error;
  }
}
