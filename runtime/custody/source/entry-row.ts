/**
 * The row of an outbox message: JSON with names of one letter, without what its key says, what is as usual, and what its receipt says
 * again, because every byte of it is written two to three times and four rows are to fit a page. Reads the rows of earlier releases, which
 * had it all by name. What it does not know is a later release's, and is written back as it was.
 */
import {
  formatHex,
  NODE_ID_BYTES,
  nodeIdBytes,
  type BundleId,
  type MessageId,
  type NodeId,
} from "../../kernel/ids.ts";
import {
  type Check,
  hasFields,
  isAbsentOr,
  isCount,
  isFlag,
  isListOf,
  isMatch,
  isNullOr,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "../../kernel/json.ts";
import { PRIORITY_DEFAULT } from "../../wire/constants.ts";
import { CONTENT_TYPE_BYTES_MAX, decodeReceipt, SUBJECT_BYTES_MAX } from "../../wire/message.ts";
import { PAGE_ROWS_MAX, type StoreOp } from "../../store/types.ts";
import { Reader, Writer } from "../../wire/bytes.ts";
import { EPHEMERAL_BYTES, SESSION_ID_BYTES } from "../../wire/sealed.ts";
import { type CustodyContext, isTrace, type SessionSeal } from "../context.ts";
import { finalStates, type OutboxEntry, outboxStates, type StoredReceipt, type Target } from "./entry.ts";
import { IDEMPOTENCY_KEY_BYTES_MAX } from "./order.ts";
import { parseProof, proofOf, type ReceiptProof, writtenProof } from "./proofs.ts";

const TARGETS_MAX = 64;
/** In place of a proof; releases that do not know it take the proof for lost. */
const OF_SESSION = "session";
const SESSION_KEY_BYTES = 32;
/** Said only where it is another; part of the format. */
const USUAL = {
  contentType: "text/plain",
  priority: PRIORITY_DEFAULT,
  lifetimeMs: 72 * 3_600_000,
  failoverDelayMs: 60_000,
} as const;
/** Content types that are said by their number here; part of the format: only to be added to. */
const CONTENT_TYPES: readonly string[] = [
  "application/octet-stream",
  "application/json",
  "text/plain; charset=utf-8",
];
/** Of an encoded receipt, bytes: its message and its bundle. docs/protocol/delivery.md */
const RECEIPT_IDS = { from: 1, to: 33 } as const;
/** Its end: the time of the last holder, and before that who that was. */
const LAST_TIME_BYTES = 6;

/** As it lies in the row. Bytes are base64url. */
interface Row {
  /** To. */
  readonly t: string;
  /** Mail epoch (hex) and counter: its name inside the seal. */
  readonly e?: string | undefined;
  readonly c: number;
  /** Size of the body, bytes. */
  readonly z: number;
  /** Made at, wall clock. */
  readonly m: number;
  /** Running time at that moment. */
  readonly r?: number | undefined;
  /** Wall clock of the moment that `r` names, where it is not `m`. */
  readonly w?: number | undefined;
  readonly l?: number | undefined;
  /** Left of its lifetime at `r`, where it is not all. */
  readonly n?: number | undefined;
  readonly u?: string | undefined;
  /** Content type, or its number in `CONTENT_TYPES`. */
  readonly y?: string | number | undefined;
  readonly p?: number | undefined;
  /** 1: another machine may take it. */
  readonly f?: 1 | undefined;
  readonly d?: number | undefined;
  readonly k?: string | undefined;
  /** Number in `outboxStates`; absent: queued. */
  readonly s?: number | undefined;
  /** Why, in words. */
  readonly v?: string | undefined;
  /** Delivered at, where the receipt does not say it. */
  readonly a?: number | undefined;
  /**
   * Node ("" for the `t` that names one), bundle, sealed bytes, id and bytes of the key unless it was the identity's own, how it was
   * sealed in a session, if it was, and how its header begins there in the compact form.
   */
  readonly g?: readonly RowTarget[] | undefined;
  readonly b?: readonly string[] | undefined;
  /** 1: renamed. */
  readonly x?: 1 | undefined;
  /** 1: in no session. */
  readonly i?: 1 | undefined;
  /** Keys that were lost. */
  readonly o?: readonly string[] | undefined;
  /**
   * Who signed the receipt: a number in `g`, and its bytes without both ids, which are those of this row, and, with a 1 behind, without the last
   * holder, who signed it; or a node, and all its bytes.
   */
  readonly q?: readonly [number | NodeId, string, 1?] | undefined;
  /** What proves it (proofs.ts): its name, or itself; or `session`. */
  readonly h?: string | undefined;
}
type RowTarget = readonly [string, string, number, number?, string?, string?, string?];

const known = "teczmrwlnuypfdksvagbxioqh";

const isId = isMatch(/^[0-9a-f]{32}$/);
const isHex = isMatch(/^(?:[0-9a-f]{2})*$/);
const isBase64 = isMatch(/^[A-Za-z0-9_-]*$/);

/** What a row has to be. */
const isRow: Check = hasFields({
  t: isText(64),
  e: isAbsentOr(isMatch(/^[0-9a-f]{16}$/)),
  c: isCount,
  z: isCount,
  m: isTime,
  r: isAbsentOr(isTime),
  w: isAbsentOr(isTime),
  l: isAbsentOr(isTime),
  n: isAbsentOr(isTime),
  u: isAbsentOr(isText(SUBJECT_BYTES_MAX)),
  y: isAbsentOr((value) => isText(CONTENT_TYPE_BYTES_MAX)(value) || isOneOf(...CONTENT_TYPES.keys())(value)),
  p: isAbsentOr(isOneOf(0, 1, 2, 3)),
  f: isAbsentOr(isOneOf(1)),
  d: isAbsentOr(isTime),
  k: isAbsentOr(isText(IDEMPOTENCY_KEY_BYTES_MAX)),
  s: isAbsentOr(isOneOf(...outboxStates.keys())),
  v: isAbsentOr(isText(4_096)),
  a: isAbsentOr(isTime),
  g: isAbsentOr(
    isListOf(
      (value) =>
        Array.isArray(value) &&
        isText(64)(value[0]) &&
        isBase64(value[1]) &&
        isCount(value[2]) &&
        isAbsentOr(isCount)(value[3]) &&
        isAbsentOr(isBase64)(value[4]) &&
        isAbsentOr(isBase64)(value[5]) &&
        isAbsentOr(isBase64)(value[6]),
      TARGETS_MAX,
    ),
  ),
  b: isAbsentOr(isListOf(isBase64, TARGETS_MAX)),
  x: isAbsentOr(isOneOf(1)),
  i: isAbsentOr(isOneOf(1)),
  o: isAbsentOr(isListOf(isHex, TARGETS_MAX)),
  q: isAbsentOr(
    (value) => Array.isArray(value) && (isCount(value[0]) || isText(64)(value[0])) && isBase64(value[1]),
  ),
  h: isAbsentOr(isText(1_024)),
});

/** What a row of a release before 0.3 has to be; fields that an earlier one did not write may be missing. */
const isNamedRow: Check = hasFields({
  id: isId,
  to: isText(64),
  epoch: isAbsentOr(isMatch(/^[0-9a-f]{16}$/)),
  counter: isCount,
  subject: isText(SUBJECT_BYTES_MAX),
  contentType: isText(CONTENT_TYPE_BYTES_MAX),
  priority: isOneOf(0, 1, 2, 3),
  size: isCount,
  createdAtMs: isTime,
  lifetimeMs: isTime,
  failover: isFlag,
  failoverDelayMs: isTime,
  idempotencyKey: isAbsentOr(isText(IDEMPOTENCY_KEY_BYTES_MAX)),
  state: isOneOf(...outboxStates),
  reason: isNullOr(isText(4_096)),
  deliveredAtMs: isNullOr(isTime),
  receipt: isNullOr(
    hasFields({
      by: isText(64),
      atMs: isTime,
      isUnconfirmed: isFlag,
      trace: isTrace,
      receiptHex: isHex,
      hashesHex: isListOf(isHex, TARGETS_MAX),
      signatureHex: isHex,
    }),
  ),
  targets: isListOf(
    hasFields({
      node: isText(64),
      bundle: isText(64),
      sealedBytes: isCount,
      key: isNullOr(hasFields({ id: isCount, publicHex: isMatch(/^[0-9a-f]{64}$/) })),
    }),
    TARGETS_MAX,
  ),
  isRenamed: isAbsentOr(isFlag),
  formerBundles: isAbsentOr(isListOf(isText(64), TARGETS_MAX)),
  lostKeys: isAbsentOr(isListOf(isHex, TARGETS_MAX)),
  remainingMs: isTime,
  atRunMs: isAbsentOr(isTime),
  atWallMs: isTime,
});

export function encodeEntry(entry: OutboxEntry): string {
  const { contentType, priority, lifetimeMs, failoverDelayMs, receipt, targets, createdAtMs } = entry;
  const isFinal = finalStates.includes(entry.state);
  const state = outboxStates.indexOf(entry.state);
  // To the microsecond: it is what they are put in order by.
  const atRunMs = entry.atRunMs === undefined ? undefined : Math.round(entry.atRunMs * 1_000) / 1_000;
  const row: Row = {
    t: entry.to,
    e: entry.epoch,
    c: entry.counter,
    z: entry.size,
    m: createdAtMs,
    r: atRunMs,
    w: unless(createdAtMs, entry.atWallMs),
    l: unless(USUAL.lifetimeMs, lifetimeMs),
    n: unless(lifetimeMs, entry.remainingMs),
    u: unless("", entry.subject),
    y: unless(USUAL.contentType, numberedType(contentType)),
    p: unless(USUAL.priority, priority),
    f: entry.failover ? 1 : undefined,
    d: unless(USUAL.failoverDelayMs, failoverDelayMs),
    k: entry.idempotencyKey,
    s: unless(0, state),
    v: entry.reason ?? undefined,
    a: unless(receipt?.atMs, entry.deliveredAtMs ?? undefined),
    g: targets.length === 0 ? undefined : targets.map((target) => rowTarget(target, entry.to, isFinal)),
    b: entry.formerBundles?.map(toBase64),
    x: entry.isRenamed === true ? 1 : undefined,
    i: entry.isSessionless === true && !isFinal ? 1 : undefined,
    o: entry.lostKeys,
    q: receipt === null ? undefined : rowReceipt(receipt, entry),
    h: receipt === null ? undefined : rowProof(receipt),
  };
  return JSON.stringify(entry.later === undefined ? row : { ...entry.later, ...row });
}

/**
 * Undefined for a damaged row. `shared` answers what lies in the collection of proofs; a receipt whose proof was lost there is still
 * believed, and proves nothing to others.
 */
export function decodeEntry(
  id: string,
  meta: string,
  shared: (name: string) => ReceiptProof | undefined,
): OutboxEntry | undefined {
  const row = parseMeta<Row>(meta, isRow);
  if (row === undefined) return decodeNamed(id, meta);
  if (!isId(id)) return undefined;
  try {
    const targets = (row.g ?? []).map((target) => targetOf(target, row.t));
    const receipt = receiptOf(row, id as MessageId, targets, shared);
    const lifetimeMs = row.l ?? USUAL.lifetimeMs;
    const later = laterOf(row);
    return {
      id: id as MessageId,
      to: row.t,
      epoch: row.e as string,
      counter: row.c,
      subject: row.u ?? "",
      contentType: typeof row.y === "number" ? CONTENT_TYPES[row.y]! : (row.y ?? USUAL.contentType),
      priority: (row.p ?? USUAL.priority) as OutboxEntry["priority"],
      size: row.z,
      createdAtMs: row.m,
      lifetimeMs,
      failover: row.f === 1,
      failoverDelayMs: row.d ?? USUAL.failoverDelayMs,
      ...(row.k === undefined ? {} : { idempotencyKey: row.k }),
      state: outboxStates[row.s ?? 0]!,
      reason: row.v ?? null,
      deliveredAtMs: row.a ?? receipt?.atMs ?? null,
      receipt,
      targets,
      ...(row.x === 1 ? { isRenamed: true } : {}),
      ...(row.i === 1 ? { isSessionless: true } : {}),
      ...(row.b === undefined
        ? {}
        : { formerBundles: row.b.map((bundle) => fromBase64(bundle) as BundleId) }),
      ...(row.o === undefined ? {} : { lostKeys: row.o }),
      remainingMs: row.n ?? lifetimeMs,
      ...(row.r === undefined ? {} : { atRunMs: row.r }),
      atWallMs: row.w ?? row.m,
      ...(later === undefined ? {} : { later }),
    };
  } catch {
    return undefined;
  }
}

function laterOf(row: Row): Record<string, unknown> | undefined {
  let later: Record<string, unknown> | undefined;
  for (const name in row)
    if (name.length > 1 || !known.includes(name))
      (later ??= {})[name] = (row as unknown as Record<string, unknown>)[name];
  return later;
}

const unless = <T>(usual: T, value: T): T | undefined => (value === usual ? undefined : value);
function numberedType(contentType: string): string | number {
  const number = CONTENT_TYPES.indexOf(contentType);
  return number < 0 ? contentType : number;
}
const toBase64 = (hex: string): string => Buffer.from(hex, "hex").toString("base64url");
const fromBase64 = (text: string): string => Buffer.from(text, "base64url").toString("hex");

function rowTarget(target: Target, to: string, isFinal: boolean): RowTarget {
  const { node, bundle, sealedBytes, key, session, start } = target;
  const who = node === to ? "" : node;
  if (key === null) return [who, toBase64(bundle), sealedBytes];
  // Nothing is sealed to it any more; and what opened it is nowhere but here.
  if (isFinal) return [who, toBase64(bundle), sealedBytes, key.id];
  const sealed = [who, toBase64(bundle), sealedBytes, key.id, toBase64(key.publicHex)] as const;
  if (session === undefined) return sealed;
  const inSession = [...sealed, encodeSession(session)] as const;
  return start === undefined ? inSession : [...inSession, Buffer.from(start).toString("base64url")];
}

function targetOf([node, bundle, sealedBytes, keyId, key, session, start]: RowTarget, to: string): Target {
  const named = keyId === undefined ? null : { id: keyId, publicHex: fromBase64(key ?? "") };
  return {
    node: (node === "" ? to : node) as NodeId,
    bundle: fromBase64(bundle) as BundleId,
    sealedBytes,
    key: named,
    ...(session === undefined || named === null ? {} : { session: decodeSession(session, named.id) }),
    ...(start === undefined ? {} : { start: new Uint8Array(Buffer.from(start, "base64url")) }),
  };
}

/** Session id 8, counter u16, key 32, and the ephemeral key where that travels along. */
function encodeSession({ id, counter, key, agreed }: SessionSeal): string {
  const writer = new Writer(80).bytes(id).u16(counter).bytes(key);
  if (agreed !== undefined) writer.bytes(agreed.ephemeral);
  return Buffer.from(writer.finish()).toString("base64url");
}

/** Throws GODWIT_DECODE. */
function decodeSession(text: string, keyId: number): SessionSeal {
  const reader = new Reader(new Uint8Array(Buffer.from(text, "base64url")));
  const [id, counter, key] = [reader.bytes(SESSION_ID_BYTES), reader.u16(), reader.bytes(SESSION_KEY_BYTES)];
  const agreed = reader.remaining === 0 ? undefined : { keyId, ephemeral: reader.bytes(EPHEMERAL_BYTES) };
  return { id, counter, key, agreed };
}

function rowReceipt({ by, encoded, trace }: StoredReceipt, { id, targets }: OutboxEntry): Row["q"] {
  const bytes = Buffer.from(encoded);
  const ids = bytes.subarray(RECEIPT_IDS.from, RECEIPT_IDS.to).toString("hex");
  const index = targets.findIndex(({ node, bundle }) => node === by && ids === id + bundle);
  if (index < 0) return [by, bytes.toString("base64url")];
  const first = bytes.subarray(0, RECEIPT_IDS.from);
  const rest = bytes.subarray(RECEIPT_IDS.to);
  if (trace.at(-1)?.node !== by) return [index, Buffer.concat([first, rest]).toString("base64url")];
  const timeAt = rest.length - LAST_TIME_BYTES;
  const parts = [first, rest.subarray(0, timeAt - NODE_ID_BYTES), rest.subarray(timeAt)];
  return [index, Buffer.concat(parts).toString("base64url"), 1];
}

const rowProof = ({ isSession, proof }: StoredReceipt): string | undefined =>
  isSession ? OF_SESSION : proof === undefined ? undefined : (proof.name ?? writtenProof(proof));

function receiptOf(
  { q, h }: Row,
  id: MessageId,
  targets: readonly Target[],
  shared: (name: string) => ReceiptProof | undefined,
): StoredReceipt | null {
  if (q === undefined) return null;
  const [who, text, isLast] = q;
  const proof = h === undefined || h === OF_SESSION ? undefined : (parseProof(h) ?? shared(h));
  const storedAs = { isSession: h === OF_SESSION, proof };
  const bytes = Buffer.from(text, "base64url");
  if (typeof who === "string") return storedReceipt(who, new Uint8Array(bytes), storedAs);
  const { node, bundle } = targets[who]!;
  const ids = Buffer.from(id + bundle, "hex");
  const whole: Uint8Array[] = [bytes.subarray(0, RECEIPT_IDS.from), ids, bytes.subarray(RECEIPT_IDS.from)];
  if (isLast === 1) {
    const timeAt = bytes.length - LAST_TIME_BYTES;
    whole.splice(2, 1, bytes.subarray(RECEIPT_IDS.from, timeAt), nodeIdBytes(node), bytes.subarray(timeAt));
  }
  return storedReceipt(node, new Uint8Array(Buffer.concat(whole)), storedAs);
}

/** Throws GODWIT_DECODE. */
function storedReceipt(
  by: NodeId,
  encoded: Uint8Array,
  storedAs: Pick<StoredReceipt, "isSession" | "proof">,
): StoredReceipt {
  const { atMs, isUnconfirmed, trace } = decodeReceipt(encoded);
  return { by, atMs, isUnconfirmed, trace, encoded, ...storedAs };
}

/** As releases before 0.3 wrote it. */
interface NamedRow extends Omit<OutboxEntry, "receipt"> {
  readonly receipt: {
    readonly by: NodeId;
    readonly receiptHex: string;
    readonly hashesHex: readonly string[];
    readonly signatureHex: string;
  } | null;
}

function decodeNamed(id: string, meta: string): OutboxEntry | undefined {
  const row = parseMeta<NamedRow>(meta, isNamedRow);
  if (row?.id !== id) return undefined;
  const { receipt } = row;
  if (receipt === null) return { ...row, receipt };
  const { by, receiptHex, hashesHex, signatureHex } = receipt;
  const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
  try {
    // Empty: this release wrote the row for an earlier one, of a receipt that nothing proves to others.
    const proof = signatureHex === "" ? undefined : proofOf(bytesOf(signatureHex), hashesHex.map(bytesOf));
    return { ...row, receipt: storedReceipt(by, bytesOf(receiptHex), { isSession: false, proof }) };
  } catch {
    return undefined;
  }
}

/** The row as releases up to 0.2 read it, field by field: without an epoch, which they take from the store, and without running time. */
export function earlierRow(entry: OutboxEntry): object {
  const { id, to, counter, subject, contentType, priority, size, createdAtMs, lifetimeMs } = entry;
  const { failover, failoverDelayMs, idempotencyKey, state, reason, deliveredAtMs, receipt } = entry;
  const { isRenamed, formerBundles, lostKeys, remainingMs, atWallMs } = entry;
  const before = {
    ...{ id, to, counter, subject, contentType, priority, size, createdAtMs, lifetimeMs },
    ...{ failover, failoverDelayMs, idempotencyKey, reason, deliveredAtMs },
    receipt: receipt === null ? null : earlierReceipt(receipt),
    ...{ isRenamed, lostKeys, remainingMs, atWallMs },
  };
  // They know no sessions, and would seal it into another bundle than its row says: it is theirs to seal.
  if (entry.targets.some(({ session }) => session !== undefined)) {
    const bundles = entry.targets.map(({ bundle }) => bundle);
    return { ...before, state: "queued", targets: [], formerBundles: [...(formerBundles ?? []), ...bundles] };
  }
  // They ask for the whole key where one is named.
  const targets = entry.targets.map((target) => ({
    ...target,
    key: target.key === null || target.key.publicHex === "" ? null : target.key,
  }));
  return { ...before, state, targets, formerBundles };
}

const earlierReceipt = ({ by, atMs, isUnconfirmed, trace, encoded, proof }: StoredReceipt): object => ({
  ...{ by, atMs, isUnconfirmed, trace },
  receiptHex: formatHex(encoded),
  // Without its proof it is still believed.
  hashesHex: (proof?.hashes ?? []).map(formatHex),
  signatureHex: proof === undefined ? "" : formatHex(proof.signature),
});

/**
 * In the order of arrival, a page at a time. Those of a release that counted no running time begin to age now, durably; damaged ones are set
 * aside. Rejects with GODWIT_STORE_FAILED.
 */
export async function* loadEntries(
  { store, time }: Pick<CustodyContext, "store" | "time">,
  shared: (name: string) => ReceiptProof | undefined,
): AsyncGenerator<readonly { readonly entry: OutboxEntry; readonly order: number }[]> {
  for (let after: number | undefined; ;) {
    const rows = await store.page("outbox", { order: "oldest-first", limit: PAGE_ROWS_MAX, after });
    const ops: StoreOp[] = [];
    const entries: { readonly entry: OutboxEntry; readonly order: number }[] = [];
    for (const { key, meta, order } of rows) {
      let entry = decodeEntry(key, meta, shared);
      if (entry === undefined) ops.push({ op: "set-aside", in: "outbox", key });
      if (entry === undefined) continue;
      if (entry.atRunMs === undefined && !finalStates.includes(entry.state)) {
        entry = { ...entry, atRunMs: time.runMs };
        ops.push(putEntry(entry));
      }
      entries.push({ entry, order });
    }
    yield entries;
    if (ops.length > 0) await store.commit(ops).catch(() => {});
    after = rows.at(-1)?.order;
    if (after === undefined) return;
  }
}

export const putEntry = (entry: OutboxEntry): StoreOp & { op: "put" } => ({
  op: "put",
  in: "outbox",
  key: entry.id,
  meta: encodeEntry(entry),
});
