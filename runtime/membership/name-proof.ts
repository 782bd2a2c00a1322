/** Where the authority's proof of this node's own callsign is kept. */
import type { NameProof } from "../identity/record.ts";
import { formatHex, parseHex } from "../kernel/ids.ts";
import type { Store, StoreOp } from "../store/types.ts";

const NAME_PROOF_KEY = "name-proof";

export const nameProofRow = (callsign: string, { serial, signature }: NameProof): StoreOp => ({
  op: "put",
  in: "setting",
  key: NAME_PROOF_KEY,
  meta: `${callsign} ${serial} ${formatHex(signature)}`,
});

/** The proof for `callsign` that the operator adopted; one for a name that the node had before is of no use. */
export async function loadNameProof(
  store: Store,
  callsign: string | undefined,
): Promise<NameProof | undefined> {
  const row = (await store.load("setting")).find(({ key }) => key === NAME_PROOF_KEY);
  const match = /^(\S+) (\d{1,10}) ([0-9a-f]{128})$/.exec(row?.meta ?? "");
  return match === null || match[1] !== callsign
    ? undefined
    : { serial: Number(match[2]), signature: parseHex(match[3]!, match[3]!.length / 2)! };
}
