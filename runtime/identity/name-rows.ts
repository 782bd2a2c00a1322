/** A binding of a name, and how it lies in the store: what a later release wrote beside it is kept when it is written again. */
import { NODE_ID_CHARS, parseNodeId, type NodeId } from "../kernel/ids.ts";
import type { StoreOp } from "../store/types.ts";
import { parseCallsign } from "./address.ts";

export interface Entry {
  readonly name: string;
  source: "authority" | "pinned";
  /** The first is the holder, the others are told of. None: the authority's word about a node that gave it up. */
  claimants: NodeId[];
  /** The holder gave a pinned name up while these claimed it: it means nobody. */
  vacatedBy: NodeId | undefined;
  /** The operator decided: other claimants are ignored. */
  isSettled: boolean;
  /** Of the authority's proof; older proofs count no more. */
  serial: number;
  /** What a later release wrote in its row, kept for it. */
  readonly unknown?: Readonly<Record<string, unknown>>;
}

/** Somebody has it: who was pinned keeps it whatever others claim; two that the authority signed alike contradict each other. */
export const isHeld = ({ source, claimants, vacatedBy }: Entry): boolean =>
  vacatedBy === undefined && (source === "pinned" || claimants.length === 1);

export const isVouched = ({ source, isSettled, claimants }: Entry): boolean =>
  isSettled || (source === "authority" && claimants.length === 1);

/** As it lies in the store. */
export const rowOf = ({
  name,
  source,
  claimants,
  isSettled,
  serial,
  vacatedBy,
  unknown,
}: Entry): StoreOp => ({
  op: "put",
  in: "name",
  key: name,
  meta: JSON.stringify({ ...unknown, source, claimants, settled: isSettled, serial, vacated: vacatedBy }),
});

/** Undefined for a damaged row. */
export function parseEntry(name: string, meta: string): Entry | undefined {
  try {
    const row = JSON.parse(meta) as Record<string, unknown> | null;
    if (row === null || parseCallsign(name) !== name || !Array.isArray(row["claimants"])) return undefined;
    const readId = (id: unknown) =>
      parseNodeId(typeof id === "string" && id.length === NODE_ID_CHARS ? id : "");
    const claimants = row["claimants"].map(readId);
    const { source: _1, claimants: _2, settled: _3, serial: _4, vacated: _5, ...unknown } = row;
    return {
      name,
      unknown,
      source: row["source"] === "authority" ? "authority" : "pinned",
      claimants,
      isSettled: row["settled"] === true,
      serial: typeof row["serial"] === "number" ? row["serial"] : 0,
      vacatedBy: row["vacated"] === undefined ? undefined : readId(row["vacated"]),
    };
  } catch {
    return undefined;
  }
}
