/**
 * The oracle: what was sent, and whether every accepted message is in exactly the right inbox exactly once, with a
 * receipt signed by its recipient and a way that the wires allow. Counts by a nonce inside the body, so that nothing
 * that the mesh computes itself can hide a loss or a repeat.
 */
import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseNodeId } from "../../runtime/kernel/ids.ts";
import { verifySignature } from "../../runtime/identity/keys.ts";
import { decodeReceipt, receiptHash, receiptSigningBytes } from "../../runtime/wire/message.ts";
import { decodeEntry } from "../../runtime/custody/source/entry-row.ts";
import { parseProof } from "../../runtime/custody/source/proofs.ts";
import type { LabNode } from "../../scripts/lab.ts";
import { Lineage, type Mark } from "../sim/lineage.ts";
import type { Cluster, Message } from "./cluster.ts";

export const NONCE_CHARS = 10;
const FAULTS_SHOWN_MAX = 40;

export interface Sent {
  readonly nonce: string;
  readonly from: string;
  readonly to: string;
  readonly size: number;
  readonly sha: string;
  /** How often the sender's and the recipient's disk had been destroyed when it was first offered. */
  readonly fromEpoch: number;
  readonly toEpoch: number;
  /** Of the acceptance, on the disk of the sender. */
  mark?: Mark;
  /** When its sender was seen to have a receipt, on the disk of the recipient, and how often that had lost something by then. */
  seenDelivered?: { readonly mark: Mark; readonly epoch: number };
  id?: string;
  /** Last state that its sender showed. */
  state?: string;
  reason?: string | null;
  message?: Message;
}

/** One message in one inbox. */
interface Copy {
  readonly callsign: string;
  /** The disk that the inbox was on, and when it was read. */
  readonly disk: Lineage;
  readonly mark: Mark;
  readonly message: Message;
}

/** The nonce, then bytes that follow from it. */
export function makeBody(nonce: string, size: number): Uint8Array {
  const body = new Uint8Array(Math.max(NONCE_CHARS, size));
  for (let i = 0; i < NONCE_CHARS; i++) body[i] = nonce.charCodeAt(i);
  let state = Number.parseInt(nonce, 36) >>> 0;
  for (let i = NONCE_CHARS; i < body.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    body[i] = state >>> 24;
  }
  return body;
}

export const formatNonce = (number: number): string => number.toString(36).padStart(NONCE_CHARS, "0");
/** A receipt is signed, written and on its way by then. */
const RECEIPT_MS = 1_000;
const deliveredMs = ({ message }: Copy): number => Date.parse(message.trace.at(-1)?.at ?? "");
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export class Ledger {
  readonly #cluster: Cluster;
  readonly #sent = new Map<string, Sent>();
  readonly #byId = new Map<string, Sent>();
  /** Disks destroyed, replaced by a copy or damaged so far, by callsign. */
  readonly #epochs = new Map<string, number>();
  readonly #disks = new Map<string, Lineage>();
  readonly #damaged = new Set<string>();
  /** When the machine on that disk could not know that another one runs under its identity. */
  readonly #alone: { readonly disk: Lineage; readonly fromMs: number; readonly untilMs: number }[] = [];
  /** When the machine on that disk ended, which nobody starts again in the mesh. */
  readonly #gone = new Map<Lineage, number>();
  /** By nonce: what was read and removed, and in the end what is there. */
  readonly #found = new Map<string, Copy[]>();
  /** By message id: read, and its removal was not answered. */
  readonly #doubtful = new Map<string, { copy: Copy; body: Uint8Array }>();
  readonly faults: string[] = [];
  #next = 1;
  accepted = 0;
  ended = 0;
  /** Read and removed from an inbox while the chaos went on. */
  taken = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  epochOf(callsign: string): number {
    return this.#epochs.get(callsign) ?? 0;
  }

  /** What the disk of a node can still know. */
  diskOf(callsign: string): Lineage {
    const disk = this.#disks.get(callsign) ?? new Lineage();
    this.#disks.set(callsign, disk);
    return disk;
  }

  /** Something of its disk was overwritten, and nobody can say what. */
  noteTorn(callsign: string): void {
    this.#damaged.add(callsign);
    this.noteRestored(callsign, undefined);
  }

  noteDestroyed(callsign: string): void {
    this.noteRestored(callsign, undefined);
  }

  /** The disk is the copy that was made at `copy`. */
  noteRestored(callsign: string, copy: Mark | undefined): void {
    this.#epochs.set(callsign, this.epochOf(callsign) + 1);
    this.diskOf(callsign).restore(copy);
  }

  /** From when a second machine ran until this one had heard of it, epoch ms: both may deliver what is on its way meanwhile. */
  noteAlone(disk: Lineage, fromMs: number, untilMs: number): void {
    this.#alone.push({ disk, fromMs, untilMs });
  }

  /** A second machine was killed, epoch ms: what it delivered last it may have told nobody, and its sender hands it to the other one. */
  noteGone(disk: Lineage, atMs: number): void {
    this.#gone.set(disk, atMs);
  }

  /** Rows that cannot be read any more, as `<collection>/<message id>`. */
  noteDamaged(callsign: string, rows: readonly string[]): void {
    this.#damaged.add(callsign);
    this.diskOf(callsign).lose(rows);
  }

  offer(from: string, to: string, size: number): { sent: Sent; body: Uint8Array } {
    const nonce = formatNonce(this.#next++);
    const body = makeBody(nonce, size);
    const sent: Sent = {
      nonce,
      from,
      to,
      size: body.length,
      sha: sha256(body),
      fromEpoch: this.epochOf(from),
      toEpoch: this.epochOf(to),
    };
    this.#sent.set(nonce, sent);
    return { sent, body };
  }

  accept(sent: Sent, id: string): void {
    const other = this.#byId.get(id);
    if (other !== undefined && other !== sent)
      this.#fault(`${describe(other)} has the id of ${sent.nonce}, too`);
    sent.id = id;
    sent.mark = this.diskOf(sent.from).mark();
    this.#byId.set(id, sent);
    this.accepted++;
  }

  /** Accepted and not at an end, of senders whose disk still knows of it. */
  get open(): Sent[] {
    return [...this.#byId.values()].filter((sent) => !isFinal(sent) && !this.#isSourceLost(sent));
  }

  /** Reads what a sender shows now. Ends are kept, because a node forgets its oldest. */
  async readOutbox(node: LabNode): Promise<void> {
    for (const message of await node.box<Message>("outbox")) {
      const sent = this.#byId.get(message.id);
      if (sent === undefined || isFinal(sent)) continue;
      sent.state = message.state;
      sent.reason = message.reason;
      if (!isFinal(sent)) continue;
      sent.seenDelivered = { mark: this.diskOf(sent.to).mark(), epoch: this.epochOf(sent.to) };
      sent.message = message;
      this.ended++;
    }
  }

  /** Reads and removes about half of what came last: only what a node remembers keeps such a message from coming again. */
  async take(node: LabNode): Promise<void> {
    const { callsign } = node;
    const epoch = this.epochOf(callsign);
    const { messages } = await node.json<{ messages: Message[] }>("/messages?limit=200");
    for (const message of messages) {
      if (Number.parseInt(message.id[0]!, 16) % 2 === 0) continue;
      const response = await node.api(`/messages/${message.id}/body`);
      const body = await response.bytes();
      if (!response.ok || this.epochOf(callsign) !== epoch) return;
      const disk = this.diskOf(callsign);
      const copy = { callsign, disk, mark: disk.mark(), message };
      this.#doubtful.set(message.id, { copy, body });
      const removed = await node.api(`/messages/${message.id}`, { method: "DELETE" });
      if (removed.status !== 204) return;
      this.#doubtful.delete(message.id);
      this.taken++;
      this.#identify(copy, body);
    }
  }

  /** Reads every inbox, body by body, and compares. */
  async judge(): Promise<void> {
    for (const node of this.#cluster.nodes) {
      await this.judgeInbox(node, this.diskOf(node.callsign));
    }
    for (const { copy, body } of this.#doubtful.values()) this.#identify(copy, body);
    for (const sent of this.#sent.values()) this.#judgeOne(sent, this.#found.get(sent.nonce) ?? []);
  }

  /** What lies in one inbox, but for messages of these ids: a copy of a disk has them from its original. */
  async judgeInbox(node: LabNode, disk: Lineage, except: ReadonlySet<string> = new Set()): Promise<void> {
    const { callsign } = node;
    const inbox = await node.box<Message>("inbox");
    const ids = new Set(inbox.map(({ id }) => id));
    if (ids.size !== inbox.length) this.#fault(`${callsign} lists a message twice`);
    const queue = inbox.filter(({ id }) => !except.has(id));
    const mark = disk.mark();
    const readers = Array.from({ length: 8 }, async () => {
      for (let message = queue.pop(); message !== undefined; message = queue.pop()) {
        const response = await node.api(`/messages/${message.id}/body`);
        const body = await response.bytes();
        this.#doubtful.delete(message.id);
        if (response.ok) this.#identify({ callsign, disk, mark, message }, body);
        // A body that damage touched is withheld with 410, never shown.
        else if (response.status === 410 && this.#damaged.has(callsign)) disk.lose([`inbox/${message.id}`]);
        else if (disk.holds(mark, `inbox/${message.id}`))
          this.#fault(`${callsign} does not show the body of ${message.id}: ${response.status}`);
      }
    });
    await Promise.all(readers);
  }

  /** The receipts in the stores of ended nodes, checked with the recipient's key alone. Answers how many. */
  verifyReceipts(): number {
    let verified = 0;
    for (const node of this.#cluster.nodes) {
      const self = parseNodeId(this.#cluster.id(node.callsign));
      const db = new Database(join(node.stateDir, "godwit.db"), { readonly: true });
      try {
        const proofs = new Map(
          (db.query("SELECT key, meta FROM proof").all() as { key: string; meta: string }[]).map(
            ({ key, meta }) => [key, parseProof(meta)],
          ),
        );
        const rows = db.query("SELECT key, meta FROM outbox").all() as { key: string; meta: string }[];
        for (const { key, meta } of rows) {
          const row = decodeEntry(key, meta, (name) => proofs.get(name));
          // What damage touched is told by the node, and proves nothing.
          if (row === undefined && this.#damaged.has(node.callsign)) continue;
          if (row === undefined) this.#fault(`${node.callsign} holds a row that nobody can read`);
          const sent = this.#byId.get(key);
          const receipt = row?.receipt ?? null;
          if (receipt === null || sent === undefined) continue;
          const { by, encoded, proof } = receipt;
          const signer = parseNodeId(this.#cluster.id(sent.to));
          const isGood =
            by === signer &&
            proof !== undefined &&
            decodeReceipt(encoded).messageId === key &&
            proof.hashes.some((hash) => Buffer.compare(hash, receiptHash(encoded)) === 0) &&
            verifySignature(signer, receiptSigningBytes("chaos", by, self, proof.hashes), proof.signature);
          if (!isGood) this.#fault(`the receipt of ${describe(sent)} does not prove anything`);
          verified++;
        }
      } finally {
        db.close();
      }
    }
    return verified;
  }

  #identify(copy: Copy, body: Uint8Array): void {
    const { callsign, message } = copy;
    const nonce = Buffer.from(body.subarray(0, NONCE_CHARS)).toString("latin1");
    const sent = this.#sent.get(nonce);
    if (sent === undefined) return this.#fault(`${callsign} holds a body that nobody sent: ${nonce}`);
    if (sha256(body) !== sent.sha) this.#fault(`${describe(sent)} arrived changed at ${callsign}`);
    if (sent.to !== callsign) this.#fault(`${describe(sent)} is in the inbox of ${callsign}`);
    if (this.#cluster.callsignOf(message.from) !== sent.from)
      this.#fault(`${describe(sent)} claims to come from ${message.from}`);
    this.#found.set(nonce, [...(this.#found.get(nonce) ?? []), copy]);
  }

  #judgeOne(sent: Sent, copies: readonly Copy[]): void {
    for (const [at, copy] of copies.entries()) {
      const { message } = copy;
      if (
        copies
          .slice(0, at)
          .some((earlier) => isRepeat(earlier, copy) && !this.#wereApart(sent, earlier, copy))
      )
        this.#fault(
          `${describe(sent)} came ${copies.length} times (${copies.map((c) => `${c.callsign} ${c.message.id}`).join(", ")})`,
        );
      this.#checkWay(sent, message, "inbox");
    }
    if (sent.id === undefined || this.#isSourceLost(sent)) return; // never accepted, or its promise went with a disk
    if (sent.state !== "delivered")
      return this.#fault(`${describe(sent)} is ${sent.state ?? "unknown"}: ${sent.reason ?? "no reason"}`);
    if (copies.length === 0 && !this.#isInboxLost(sent))
      this.#fault(`${describe(sent)} is lost: its sender has a receipt`);
    const { message } = sent;
    if (message?.receipt?.by !== this.#cluster.id(sent.to))
      this.#fault(`${describe(sent)} has a receipt of ${message?.receipt?.by ?? "nobody"}`);
    if (message !== undefined) this.#checkWay(sent, message, "receipt");
  }

  #wereApart(sent: Sent, a: Copy, b: Copy): boolean {
    if (a.disk === b.disk) return false;
    if ([a, b].some((copy) => this.#wasAlone(copy) || this.#wasUnheard(sent, copy))) return true;
    return this.#wasUnderWay(a, b) || this.#wasUnderWay(b, a);
  }

  /** The machine that delivered it is gone for good, and with it what knew of that; another copy had left its source before that could have a receipt. */
  #wasUnderWay(delivered: Copy, stray: Copy): boolean {
    const goneMs = this.#gone.get(delivered.disk);
    if (goneMs === undefined || deliveredMs(stray) < goneMs) return false;
    return Date.parse(stray.message.trace[0]?.at ?? "") < deliveredMs(delivered) + RECEIPT_MS;
  }

  #wasAlone(copy: Copy): boolean {
    const { disk } = copy;
    const atMs = deliveredMs(copy);
    return this.#alone.some((one) => one.disk === disk && atMs >= one.fromMs && atMs <= one.untilMs);
  }

  /** Delivered as its machine was killed for good, and what the sender has is the receipt of another delivery. */
  #wasUnheard({ message }: Sent, copy: Copy): boolean {
    const goneMs = this.#gone.get(copy.disk);
    if (goneMs === undefined || deliveredMs(copy) < goneMs - RECEIPT_MS) return false;
    return message === undefined || message.trace.at(-1)?.at !== copy.message.trace.at(-1)?.at;
  }

  #checkWay(sent: Sent, message: Message, where: string): void {
    const way = message.trace.map(({ node }) => this.#cluster.callsignOf(node));
    const isRight =
      way[0] === sent.from &&
      way.at(-1) === sent.to &&
      way.every((name, i) => i === 0 || this.#cluster.areLinked(way[i - 1]!, name));
    if (!isRight)
      this.#fault(`${describe(sent)} shows an impossible way in its ${where}: ${way.join(" > ")}`);
  }

  #isSourceLost(sent: Sent): boolean {
    return sent.mark === undefined || !this.diskOf(sent.from).holds(sent.mark, `outbox/${sent.id ?? ""}`);
  }

  /** It may have come before the recipient's disk lost something, and be gone with that. */
  #isInboxLost({ to, toEpoch, id, seenDelivered }: Sent): boolean {
    if (seenDelivered === undefined || seenDelivered.epoch !== toEpoch) return true;
    return !this.diskOf(to).holds(seenDelivered.mark, `inbox/${id ?? ""}`);
  }

  #fault(text: string): void {
    if (this.faults.length < FAULTS_SHOWN_MAX) this.faults.push(text);
  }
}

/** Two inboxes that are there now, or one and the same before it was lost. */
function isRepeat(earlier: Copy, later: Copy): boolean {
  const { id } = earlier.message;
  if (earlier.mark.branch === later.mark.branch) return true;
  return [earlier, later].every(({ disk, mark }) => disk.holds(mark, `inbox/${id}`));
}

const isFinal = ({ state }: Sent): boolean =>
  state !== undefined && state !== "queued" && state !== "relayed";

const describe = ({ nonce, from, to, size, id }: Sent): string =>
  `message ${nonce} (${id ?? "not accepted"}) ${from} > ${to}, ${size} B,`;
