/** Nodes of TestMesh that seal as real ones do, with prekeys and records that tests change. For tests only. */
import { createSealer } from "../identity/sealer.ts";
import { generateDhKey, generateIdentity, type DhKey, type Identity } from "../identity/keys.ts";
import { type Prekey, PROTOCOL_CAPABILITIES } from "../identity/record.ts";
import { formatHex, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import type { CustodyLimits, Sealer, SessionRoots } from "./context.ts";
import { type Bundle, BundleKind, decodeBundleFrame, makeBundle } from "../wire/bundle.ts";
import { FrameType } from "../wire/constants.ts";
import {
  encodeReceipt,
  encodeReceiptBody,
  type Receipt,
  receiptHash,
  receiptSigningBytes,
  ReceiptStatus,
  sessionSaid,
} from "../wire/message.ts";
import type { Target } from "./source/entry.ts";
import { TestMesh, type TestNode, testSign } from "./testing.ts";

/** What a node has beside its disk, as far as sealing goes; a restart keeps it. */
export class SealingNode {
  readonly identity: Identity;
  readonly prekeys = new Map<number, DhKey>();
  current!: Prekey;
  capabilities = PROTOCOL_CAPABILITIES;
  callsign: string | undefined;
  readonly #callsigns = new Map<number, string | undefined>();
  /** Of its record. */
  sequence = 0;
  readonly #listeners: (() => void)[] = [];
  readonly #random;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.identity = generateIdentity(this.#random);
    this.rotate();
  }

  rotate(): void {
    const key = generateDhKey(this.#random);
    const keyId = 1 + this.#random.below(2 ** 31);
    this.prekeys.set(keyId, key);
    this.#callsigns.set(keyId, this.callsign);
    this.publish(keyId);
  }

  /** As a start under another name does. */
  rename(callsign: string): void {
    this.callsign = callsign;
    this.rotate();
  }

  /** A record that names this one, which is here or was. */
  publish(keyId: number): void {
    const key = this.prekeys.get(keyId);
    if (key !== undefined) this.current = { keyId, publicKey: key.publicKey };
    this.sequence++;
  }

  /** All but the current one are deleted. */
  forgetOldPrekeys(): void {
    for (const keyId of this.prekeys.keys()) if (keyId !== this.current.keyId) this.prekeys.delete(keyId);
    for (const listener of this.#listeners) listener();
  }

  find(keyId: number): DhKey | undefined {
    return this.prekeys.get(keyId);
  }

  callsignOf(keyId: number): string | undefined {
    return this.#callsigns.get(keyId);
  }

  onGone(listener: () => void): void {
    this.#listeners.push(listener);
  }
}

export class SealingMesh extends TestMesh {
  readonly sealing = new Map<NodeId, SealingNode>();
  readonly #byIdentity = new Map<NodeId, SealingNode>();

  /** A line of nodes that seal for real. */
  async sealingLine(names: readonly string[], limits: Partial<CustodyLimits> = {}): Promise<TestNode[]> {
    const nodes = await this.line(names, limits);
    for (const [index, node] of nodes.entries()) {
      const sealing = new SealingNode(1_000 + index);
      this.sealing.set(node.id, sealing);
      this.#byIdentity.set(sealing.identity.id, sealing);
      node.crash();
    }
    for (const node of nodes) await this.restart(node);
    return nodes;
  }

  of(node: TestNode): SealingNode {
    return this.sealing.get(node.id)!;
  }

  /** A new start: its sessions are new ones. The same `life` as before is a resumed snapshot. */
  async restart(node: TestNode, life = node.life + 1): Promise<void> {
    if (node.custody !== undefined) node.crash();
    node.life = life - 1;
    node.sealer = this.#sealerOf(node, life);
    await node.start();
  }

  /** The real one, for nodes whose ids are no keys. */
  #sealerOf(node: TestNode, life: number): Sealer {
    const own = this.of(node);
    const idOf = (id: NodeId): NodeId => this.sealing.get(id)!.identity.id;
    const random = seededRandom(7_000 * life + node.name.charCodeAt(0));
    const real = createSealer({
      identity: own.identity,
      prekeys: own,
      recordOf: (id) => {
        const of = this.#byIdentity.get(id);
        return of === undefined
          ? undefined
          : {
              prekey: of.current,
              capabilities: of.capabilities,
              sequence: of.sequence,
              callsign: of.callsign,
            };
      },
      sessions: { network: "test", clock: this.clock, random },
    });
    const sessions = real.sessions!;
    const testIdOf = (id: NodeId) => [...this.sealing].find(([, { identity }]) => identity.id === id)![0];
    const rootsOf = (roots: SessionRoots): SessionRoots => ({
      find: (id, session) => roots.find(testIdOf(id), session),
      since: (id) => roots.since(testIdOf(id)),
    });
    return {
      keyFor: (to) => real.keyFor(idOf(to)),
      seal: (to, ...rest) => real.seal(idOf(to), ...rest),
      sealOnce: (to, ...rest) => real.sealOnce(idOf(to), ...rest),
      inSegments: (to, ...rest) => real.inSegments(idOf(to), ...rest),
      open: (from, sealed, associated, roots) => real.open(idOf(from), sealed, associated, rootsOf(roots)),
      openInSegments: (from, opening, bytes, associated, roots) =>
        real.openInSegments(idOf(from), opening, bytes, associated, rootsOf(roots)),
      segmentsUnder: real.segmentsUnder,
      sessions: {
        ...sessions,
        isKnownTo: (id) => sessions.isKnownTo(idOf(id)),
        compactTo: (id) => sessions.compactTo(idOf(id)),
        take: (to) => sessions.take(idOf(to)),
        proven: (to, id, kept) => sessions.proven(idOf(to), id, kept),
        lost: (to, id, isUsed) => sessions.lost(idOf(to), id, isUsed),
        end: (to, id) => sessions.end(idOf(to), id),
        isLost: (to, id) => sessions.isLost(idOf(to), id),
      },
    };
  }
}

/** Forms of the bundles with mail that the node sent, in order, each once for each time that it went. */
export const formsOf = (mesh: TestMesh, node: TestNode): number[] =>
  mesh.log.flatMap(({ from, type, bytes }) => {
    if (from !== node.name || type !== FrameType.bundle) return [];
    const { bundle } = decodeBundleFrame(bytes);
    return bundle.header.kind === BundleKind.message ? [bundle.sealed[0]!] : [];
  });

/** Of one receipt to `to` in the name of `by`, signed by `signer`. */
export function receiptBundle(by: TestNode, to: TestNode, receipt: Receipt, signer = by): Bundle {
  const encoded = encodeReceipt(receipt);
  const signature = testSign(signer.id, receiptSigningBytes("test", by.id, to.id, [receiptHash(encoded)]));
  const header = {
    kind: BundleKind.receipt,
    priority: 1,
    source: by.id,
    destination: to.id,
    lifetimeMs: 60_000,
  } as const;
  return makeBundle(header, encodeReceiptBody([encoded], signature));
}

/** `by` says that it does not know the session of that copy, signed by `signer`. */
export function sessionUnknown(by: TestNode, to: TestNode, { bundle, session }: Target, signer = by): Bundle {
  const receipt = {
    status: ReceiptStatus.sessionUnknown,
    messageId: sessionSaid(formatHex(session!.id)),
    bundleId: bundle,
    atMs: 0,
    isUnconfirmed: false,
    trace: [],
  };
  return receiptBundle(by, to, receipt, signer);
}
