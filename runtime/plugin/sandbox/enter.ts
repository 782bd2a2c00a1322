/** The two starts of a sandboxed process. */
import { runGuestProcess } from "../guest/process.ts";

export async function enterGuest(_words: readonly string[]): Promise<never> {
  return await runGuestProcess(() => {});
}
