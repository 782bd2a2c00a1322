/** A row of the transit box: what is known of a bundle beside its sealed bytes. Reads what earlier releases wrote; readers skip fields they do not know. */
import { formatBase32, parseBase32, type BundleId, type NodeId } from "../../kernel/ids.ts";
import {
  hasFields,
  isAbsentOr,
  isBetween,
  isNullOr,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "../../kernel/json.ts";
import type { SlottedRow } from "../../store/types.ts";
import {
  decodeBundleHeader,
  encodeBundleHeader,
  type BundleHeader,
  type Journey,
  type TraceEntry,
} from "../../wire/bundle.ts";
import { isTrace, type Lifetime } from "../context.ts";

/** JSON of the `meta` column. */
export interface TransitMeta {
  /** Immutable header in base32. */
  readonly header: string;
  readonly from: NodeId | null;
  /** What was left of its life at `atRunMs` (custody/context.ts). */
  readonly remainingMs: number;
  readonly atRunMs?: number;
  /** For releases that count no running time. */
  readonly atWallMs: number;
  readonly hops: number;
  readonly trace: readonly TraceEntry[];
  /** It waits for the other machines of its location, and was opened here in a mail session. */
  readonly inSession?: true;
}

const isTransitMeta = hasFields({
  header: isText(1_024),
  from: isNullOr(isText(64)),
  remainingMs: isBetween(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  atRunMs: isAbsentOr(isTime),
  atWallMs: isTime,
  hops: isBetween(0, 255),
  trace: isTrace,
  inSession: isAbsentOr(isOneOf(true)),
});

/** Undefined for a damaged row. */
export const readTransitMeta = (meta: string): TransitMeta | undefined =>
  parseMeta<TransitMeta>(meta, isTransitMeta);

export interface TransitRow {
  readonly id: BundleId;
  /** Its place in the order of arrival. */
  readonly order: number;
  readonly header: BundleHeader;
  readonly hops: number;
  readonly trace: readonly TraceEntry[];
  readonly lifetime: Lifetime;
  readonly from: NodeId | undefined;
  readonly sealedBytes: number;
  /** Of its blocks, where they are known. */
  readonly sums?: Uint8Array | undefined;
}

/** Undefined for a damaged row. */
export function readTransitRow({ key, meta, order, bodyBytes }: SlottedRow): TransitRow | undefined {
  const read = readTransitMeta(meta);
  const headerBytes = read === undefined ? undefined : parseBase32(read.header);
  if (read === undefined || headerBytes === undefined) return undefined;
  const { remainingMs, atRunMs, hops, trace, from } = read;
  try {
    return {
      id: key as BundleId,
      order,
      header: decodeBundleHeader(headerBytes),
      hops,
      trace,
      lifetime: atRunMs === undefined ? { remainingMs } : { remainingMs, atRunMs },
      from: from ?? undefined,
      sealedBytes: bodyBytes,
    };
  } catch {
    return undefined;
  }
}

/** `atRunMs`, `atWallMs`: now. */
export function transitMeta(
  header: BundleHeader,
  { remainingMs, hops, trace }: Journey,
  from: NodeId | undefined,
  { atRunMs, atWallMs }: { readonly atRunMs: number; readonly atWallMs: number },
  isInSession: boolean,
): string {
  const meta: TransitMeta = {
    header: formatBase32(encodeBundleHeader(header)),
    from: from ?? null,
    remainingMs: Math.floor(remainingMs),
    atRunMs,
    atWallMs,
    hops,
    trace,
    ...(isInSession ? { inSession: true as const } : {}),
  };
  return JSON.stringify(meta);
}
