/** Terms of a dial, applied to the addresses of a name: text in, what is left out. */
import type { DialTerms } from "./context.ts";
import { GodwitError } from "./errors.ts";

/**
 * The addresses of `endpoint` that may be connected to, in their order; all of them without terms. To be called at each dial, behind the look-up of
 * the name and before the first connection. Throws GODWIT_ENDPOINT_REFUSED where some were found and none is left.
 */
export function withinTerms<Found extends { readonly address: string }>(
  endpoint: string,
  found: readonly Found[],
  terms: DialTerms | undefined,
): readonly Found[] {
  if (terms === undefined) return found;
  let first: string | undefined;
  const left = found.filter(({ address }) => {
    const why = terms.refusal(address);
    if (why !== undefined) first ??= `${address} is ${why}`;
    return why === undefined;
  });
  if (left.length === 0 && first !== undefined) throw endpointRefused(endpoint, first);
  return left;
}

/** Another named `endpoint`, and this node does not go there on another's word. */
export const endpointRefused = (endpoint: string, why: string): GodwitError =>
  new GodwitError("GODWIT_ENDPOINT_REFUSED", `${endpoint} is not dialled: ${why}`, {
    kind: "transport",
    retry: "later",
  });
