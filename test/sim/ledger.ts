/**
 * The oracle of delivery: every accepted message ends in exactly one inbox, or expires, or is refused or withdrawn with
 * a reason. Counts by a nonce inside the body, so that nothing the mesh computes itself can hide a loss or a repeat.
 */
import type { Life as IdentityLife } from "../../runtime/membership/other-lives.ts";
import { formatHex, type BundleId, type MessageId, type NodeId } from "../../runtime/kernel/ids.ts";
import type { InboxEntry } from "../../runtime/custody/recipient/inbox.ts";
import type { OutboxEntry } from "../../runtime/custody/source/entry.ts";
import {
  decodeReceipt,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
} from "../../runtime/wire/message.ts";
import type { SimDisk } from "../../runtime/store/memory.ts";
import type { Collection } from "../../runtime/store/types.ts";
import type { Mark } from "./lineage.ts";
import { NETWORK, type Life, type SimNode } from "./node.ts";

/** A nonce, then filler that follows from it. */
export function makeBody(nonce: number, bytes: number): Uint8Array {
  const body = new Uint8Array(Math.max(8, bytes));
  new DataView(body.buffer).setUint32(0, nonce);
  new DataView(body.buffer).setUint32(4, body.length);
  for (let i = 8; i < body.length; i++) body[i] = (nonce * 31 + i * 7) & 255;
  return body;
}

/** Undefined when the body, of `size` bytes, is not one of ours, whole. */
export function nonceOf(body: Uint8Array, size = body.length): number | undefined {
  if (body.length < 8) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const nonce = view.getUint32(0);
  if (view.getUint32(4) !== size) return undefined;
  const stride = Math.max(1, body.length >> 8);
  for (let i = 8; i < body.length; i += stride)
    if (body[i] !== ((nonce * 31 + i * 7) & 255)) return undefined;
  return nonce;
}

export interface Delivery {
  readonly node: SimNode;
  readonly mark: Mark;
  readonly id: MessageId;
  readonly isUnconfirmed: boolean;
  /** What the machine knew of others under its identity. */
  readonly life: IdentityLife | undefined;
}

export interface SentMessage {
  readonly nonce: number;
  readonly source: SimNode;
  readonly to: string;
  /** Nodes that may have it. */
  readonly targets: readonly SimNode[];
  readonly lifetimeMs: number;
  readonly isTransient: boolean;
  readonly sentAtMs: number;
  id: MessageId | undefined;
  acceptedAtMs: number | undefined;
  /** Of the acceptance, on the disk of the source. */
  mark: Mark | undefined;
  isWithdrawn: boolean;
  /** All that it was sealed into, as far as its source told. */
  readonly bundles: Set<BundleId>;
  /** What its recipient has to have on its disk to open it: the session that it names, or the prekey. */
  readonly openedWith: Map<
    BundleId,
    { readonly recipient: NodeId; readonly in: Collection; readonly key: string }
  >;
  /** Of those, what its recipient could not open at some time. */
  readonly unopenable: Set<BundleId>;
  /** "on": its source forgot it when others had it. "lost": one of them forgot it, too. */
  handed: "no" | "on" | "lost";
  /** State told last, and the life that told it: a crash may lose an end that was not durable yet. */
  lastState: string | undefined;
  lastLife: Life | undefined;
  readonly deliveries: Delivery[];
}

/** No message that lives so long ends within a run. */
const HANDED_ON_LIFETIME_MS = 24 * 3_600_000;
/** A disk still knows of it. */
const isHeld = ({ node, mark, id }: Delivery): boolean => node.lineage.holds(mark, `inbox/${id}`);

/** Its recipient has not lost what opens it: nobody can seal anew what its source forgot. Cheap seals need no key. */
function isOpenable({ openedWith, unopenable, targets }: SentMessage, bundle: BundleId): boolean {
  if (unopenable.has(bundle)) return false;
  const needed = openedWith.get(bundle);
  if (needed === undefined) return true;
  const { recipient, key } = needed;
  return targets.some(
    ({ id, disk, identity }) => id === recipient && (identity.isCheap || isThere(disk, needed.in, key)),
  );
}

/** A session goes by the name of what is kept of it as well: docs/protocol/sealing.md. */
function isThere(disk: SimDisk, collection: Collection, key: string): boolean {
  const rows = disk.rows(collection);
  if (collection !== "session" || rows.has(key)) return rows.has(key);
  const [source, nameHex] = key.split(" ");
  return [...rows].some(
    ([name, { meta }]) =>
      name.startsWith(`${source!} `) &&
      Buffer.from(meta.split(" ")[3] ?? "", "base64url")
        .toString("hex")
        .startsWith(nameHex!),
  );
}

const finalStates: readonly string[] = ["delivered", "expired", "refused", "withdrawn"];

/**
 * Two machines with one identity, of which one had not heard of the other when it delivered: as long as no way leads from one to the other
 * nobody can know, and receipts may wait until the one that stands down comes back.
 */
const wereApart = (a: Delivery, b: Delivery): boolean =>
  a.node !== b.node &&
  (a.life === "alone" || b.life === "alone") &&
  // A copy knows nothing of what the original has granted to the other machines of its location since.
  (a.node.id === b.node.id || a.node.original !== undefined || b.node.original !== undefined);

export class Ledger {
  readonly messages = new Map<number, SentMessage>();
  readonly #byId = new Map<MessageId, SentMessage>();
  /** By identity and message id: what came, at whichever of its disks. */
  readonly #inboxes = new Map<NodeId, Map<MessageId, Delivery[]>>();
  readonly #nowMs: () => number;
  readonly #fault: (text: string) => void;
  delivered = 0;
  duplicatesExcused = 0;
  /** Messages that others had when their source forgot them. */
  handedOn = 0;

  constructor(nowMs: () => number, fault: (text: string) => void) {
    this.#nowMs = nowMs;
    this.#fault = fault;
  }

  sent(message: SentMessage): void {
    this.messages.set(message.nonce, message);
  }

  accepted(message: SentMessage, id: MessageId): void {
    const other = this.#byId.get(id);
    if (other !== undefined)
      this.#fault(`messages ${other.nonce} and ${message.nonce} of n${message.source.index} have one id`);
    message.id = id;
    message.acceptedAtMs = this.#nowMs();
    message.mark = message.source.lineage.mark();
    this.#byId.set(id, message);
  }

  onDelivered(node: SimNode, entry: InboxEntry, body: Uint8Array): void {
    const nonce = nonceOf(body, entry.size);
    const message = nonce === undefined ? undefined : this.messages.get(nonce);
    if (message === undefined || nonce === undefined)
      return this.#fault(`n${node.index} delivered a body that nobody sent`);
    if (entry.from !== message.source.id || !message.targets.some((target) => target.id === node.id))
      return this.#fault(`message ${nonce} from n${message.source.index} reached n${node.index} by mistake`);
    const { id, isUnconfirmed } = entry;
    // The message id is made of it at both ends.
    if (entry.to !== message.to) this.#fault(`message ${nonce} to ${message.to} came to ${entry.to}`);
    const fresh: Delivery = {
      node,
      mark: node.lineage.mark(),
      id,
      isUnconfirmed,
      life: node.lifeAtDelivery(id),
    };
    for (const earlier of message.deliveries) this.#compare(message, earlier, fresh);
    message.deliveries.push(fresh);
    const inbox = this.#inboxes.get(node.id) ?? new Map<MessageId, Delivery[]>();
    inbox.set(id, [...(inbox.get(id) ?? []), fresh]);
    this.#inboxes.set(node.id, inbox);
    this.delivered++;
  }

  /** A second delivery is excused where the design says so: no disk knows of the first, or it was not confirmed. */
  #compare(message: SentMessage, earlier: Delivery, fresh: Delivery): void {
    const isFirstGone = !isHeld(earlier);
    // A source that lost its disk may have told the other machines of the location nothing.
    const isUnsure = earlier.node !== fresh.node && (earlier.isUnconfirmed || fresh.isUnconfirmed);
    if (isFirstGone || isUnsure || wereApart(earlier, fresh)) {
      this.duplicatesExcused++;
      return;
    }
    this.#fault(
      `message ${message.nonce} n${message.source.index}>${message.to} delivered twice: n${earlier.node.index}, n${fresh.node.index}`,
    );
  }

  /** A node opened its store: what it delivered must be there, and what is there was delivered, perhaps unseen. */
  async onOpened(node: SimNode): Promise<void> {
    const { mesh } = node;
    if (mesh === undefined) return;
    const known = this.#inboxes.get(node.id) ?? new Map<MessageId, Delivery[]>();
    const isKnown = (id: MessageId) =>
      this.#inboxes
        .get(node.id)
        ?.get(id)
        ?.some(({ mark }) => node.lineage.holds(mark, `inbox/${id}`)) === true;
    const before = [...known.keys()].filter(isKnown);
    const everything = { order: "newest-first", limit: mesh.custody.inbox.count } as const;
    const entries = await mesh.custody.inbox.page(everything);
    const there = new Set(entries.map(({ id }) => id));
    for (const id of before)
      if (!there.has(id))
        this.#fault(`message ${id} vanished from the inbox of n${node.index} over a restart`);
    for (const entry of entries) {
      if (isKnown(entry.id)) continue;
      const body = await mesh.custody.inbox.body(entry.id);
      if (!isKnown(entry.id)) this.onDelivered(node, entry, body);
    }
    for (const message of this.messages.values()) if (message.source === node) this.#checkSource(message);
  }

  /** The state of a message at its source changed. */
  onChanged(node: SimNode, entry: OutboxEntry): void {
    const message = this.#byId.get(entry.id);
    if (message === undefined || message.source !== node) return;
    for (const { bundle, node: recipient, session, key } of entry.targets) {
      message.bundles.add(bundle);
      if (session !== undefined && session.agreed === undefined)
        message.openedWith.set(bundle, {
          recipient,
          in: "session",
          key: `${node.id} ${formatHex(session.id)}`,
        });
      else if (key !== null)
        message.openedWith.set(bundle, {
          recipient,
          in: "setting",
          key: `prekey/${key.id.toString(16).padStart(8, "0")}`,
        });
    }
    const was = message.lastLife === node.life ? message.lastState : undefined;
    message.lastState = entry.state;
    message.lastLife = node.life;
    if (entry.state === "delivered") this.#checkReceipt(node, message, entry);
    if (entry.state === "expired") this.#checkExpiry(message);
    // Only keys that went with a disk make a message unreadable.
    if (
      entry.state === "refused" &&
      (entry.reason === null || message.targets.every((t) => t.diskEpoch === 0))
    )
      this.#fault(`message ${message.nonce} refused without a cause: ${entry.reason}`);
    if (entry.state === "withdrawn" && !message.isWithdrawn)
      this.#fault(`message ${message.nonce} withdrawn by nobody`);
    if (was === "delivered" && entry.state !== "delivered")
      this.#fault(`message ${message.nonce} was delivered and is ${entry.state}`);
  }

  #checkReceipt(node: SimNode, message: SentMessage, entry: OutboxEntry): void {
    const here = message.targets.includes(node);
    if (entry.receipt === null) {
      if (!here) this.#fault(`message ${message.nonce} delivered without a receipt`);
      return;
    }
    const { by, encoded: receipt, isSession, proof } = entry.receipt;
    // What a session proves nobody else can check: that it was delivered is looked at below.
    if (!isSession) {
      const { hashes, signature } = proof!;
      const signed = receiptSigningBytes(NETWORK, by, node.id, hashes);
      const isListed = hashes.some((hash) => Buffer.from(hash).equals(receiptHash(receipt)));
      if (!isListed || !node.identity.verify(by, signed, signature))
        this.#fault(`receipt of message ${message.nonce} does not verify`);
    }
    const { messageId, status } = decodeReceipt(receipt);
    if (messageId !== entry.id || status !== ReceiptStatus.delivered)
      this.#fault(`receipt of message ${message.nonce} is for another`);
    if (!this.#isThere(message, by))
      this.#fault(`message ${message.nonce} has a receipt of ${by.slice(0, 10)}, who never had it`);
  }

  /** The receipt may be read before the recipient's own event: then its store has it already. */
  #isThere(message: SentMessage, by: NodeId): boolean {
    return message.deliveries.some(({ node }) => node.id === by);
  }

  #checkExpiry(message: SentMessage): void {
    if (message.acceptedAtMs === undefined) return;
    const ageMs = this.#nowMs() - message.sentAtMs;
    if (ageMs < message.lifetimeMs - 1)
      this.#fault(`message ${message.nonce} expired after ${ageMs} of ${message.lifetimeMs} ms`);
  }

  /** What a source accepted is in its outbox, whatever happened, as long as its disk can know of it. */
  #checkSource(message: SentMessage): void {
    const { source, id } = message;
    if (id === undefined || !this.#isBound(message)) return;
    const entry = source.sent(id);
    if (entry === undefined)
      this.#fault(`message ${message.nonce} is gone from the outbox of n${source.index}`);
    else if (entry.state === "delivered") this.#checkReceipt(source, message, entry);
  }

  /** Accepted, on a disk that still knows of it. */
  #isBound({ source, id, mark, isTransient }: SentMessage): boolean {
    return mark !== undefined && !isTransient && source.lineage.holds(mark, `outbox/${id ?? ""}`);
  }

  /** What cannot be opened now is dropped when it comes, whatever is put back later. */
  onLostKeys(): void {
    for (const message of this.messages.values())
      for (const bundle of message.bundles) if (!isOpenable(message, bundle)) message.unopenable.add(bundle);
  }

  /**
   * A disk has just lost something; `before` is what it was. What a source forgot with it binds those who had taken it
   * over, until one of them forgets it as well.
   */
  onLoss(before: SimDisk, nodes: readonly SimNode[]): void {
    this.onLostKeys();
    for (const message of this.messages.values()) {
      const { id, bundles, deliveries } = message;
      if (id === undefined || bundles.size === 0 || deliveries.length > 0 || this.#isBound(message)) continue;
      const isOn = (disk: SimDisk) =>
        [...bundles].some((bundle) => disk.rows("transit").has(bundle) && isOpenable(message, bundle));
      // Whoever gave it to the one that lost it may have its word for it.
      if (isOn(before) || before.rows("inbox").has(id)) message.handed = "lost";
      else if (message.handed === "no" && nodes.some(({ disk }) => isOn(disk))) {
        this.handedOn++;
        message.handed = "on";
      }
    }
  }

  /** Forgotten by its source, not by others, and not there yet. */
  #isUnderWay(message: SentMessage): boolean {
    const { handed, isWithdrawn, isTransient, lifetimeMs, deliveries, bundles } = message;
    const isEnding = isWithdrawn || isTransient || lifetimeMs < HANDED_ON_LIFETIME_MS;
    if (deliveries.length > 0 || handed !== "on" || isEnding) return false;
    return [...bundles].some((bundle) => isOpenable(message, bundle));
  }

  /** Accepted and not ended yet, as far as anybody can still know of it. */
  get open(): SentMessage[] {
    return [...this.messages.values()].filter((message) => {
      const { source, id } = message;
      if (id === undefined || !this.#isBound(message)) return this.#isUnderWay(message);
      const state = source.sent(id)?.state;
      return state === undefined || !finalStates.includes(state);
    });
  }

  /** After everything has come to rest. */
  checkEnd(): void {
    for (const message of this.messages.values()) {
      this.#checkSource(message);
      const { source, id } = message;
      if (id === undefined) continue;
      if (!this.#isBound(message)) {
        if (this.#isUnderWay(message))
          this.#fault(`message ${message.nonce} n${source.index}>${message.to} was handed on and is lost`);
        continue;
      }
      const entry = source.sent(id);
      if (entry === undefined || !finalStates.includes(entry.state)) {
        const why = entry === undefined ? "unknown" : source.mesh!.custody.outbox.waitReason(entry);
        this.#fault(
          `message ${message.nonce} n${source.index}>${message.to} is still ${entry?.state ?? "unknown"}: ${why}; deliveries ${message.deliveries.length}`,
        );
      } else if (entry.state === "delivered" && message.deliveries.length === 0)
        this.#fault(`message ${message.nonce} counts as delivered and is in no inbox`);
    }
  }

  /** Final states and how often. */
  get outcomes(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const message of this.messages.values()) {
      const state = message.isTransient
        ? message.deliveries.length > 0
          ? "transient_delivered"
          : "transient_lost"
        : message.id === undefined
          ? "not_accepted"
          : !this.#isBound(message)
            ? "source_destroyed"
            : (message.source.sent(message.id)?.state ?? "unknown");
      counts[state] = (counts[state] ?? 0) + 1;
    }
    return counts;
  }
}
