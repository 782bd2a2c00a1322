/**
 * Dials of endpoints that another named (`DialTerms`): what a test of a transport needs to see that each address is judged behind
 * the look-up, and that nothing is connected to which did not pass. Owns nothing, connects nowhere.
 */
import { GodwitError } from "../src/errors.ts";
import type { DialTerms } from "../src/context.ts";

/** Hosts that all are this machine: spellings that only the resolver understands, and a name. Those of IPv6 in brackets. */
export const LOOPBACK_SPELLINGS: readonly string[] = [
  ...["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost"],
  ...["[::ffff:127.0.0.1]", "[::1]"],
];

/** What those are once they are resolved. */
export const LOOPBACK_RESOLVED = /^(?:127\.0\.0\.1|::1|::ffff:127\.0\.0\.1)$/;

/** Notes what is judged, and refuses it. */
export class RefusingTerms implements DialTerms {
  readonly judged: string[] = [];

  refusal(address: string): string {
    this.judged.push(address);
    return "not to be dialled";
  }
}

/** "connected", and then it is closed again; else the error's code, or its text where it has none. */
export const dialOutcome = (dialling: Promise<{ close(): void }>): Promise<string> =>
  dialling.then(
    (pipe) => (pipe.close(), "connected"),
    (error: unknown) => (error instanceof GodwitError ? error.code : String(error)),
  );
