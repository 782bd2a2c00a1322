/** What a mesh kept of its earlier runs and has to know before its parts are made. */
import type { Sealer } from "../custody/context.ts";
import { Names, OWN_NAME_ADVICE } from "../identity/names.ts";
import type { NameProof } from "../identity/record.ts";
import { FullTables } from "../kernel/full-tables.ts";
import type { NodeId } from "../kernel/ids.ts";
import { loadNameProof } from "../membership/name-proof.ts";
import { type HeldRecord, RecordBook } from "../membership/records.ts";
import { openBootState, type BootState } from "../store/boot-state.ts";
import { Acquaintances } from "../trust/acquaintances.ts";
import { PeerBook } from "../trust/book.ts";
import type { MeshDeps, PrekeySource } from "./deps.ts";

const CONFLICT_ADVICE =
  "mail goes on to the holder; godwit names resolve settles it, [names] and an authority bind beforehand";

export interface Kept {
  readonly boot: BootState;
  readonly book: PeerBook;
  readonly acquaintances: Acquaintances;
  readonly fullTables: FullTables;
  readonly names: Names;
  readonly records: RecordBook;
  readonly sealer: Sealer;
  readonly prekeys: PrekeySource;
  /** The authority's word for this node's callsign. */
  readonly nameProof: NameProof | undefined;
}

/** Told while the mesh lives, not of what is read here. */
export interface KeptChanges {
  /** Endpoint of the far end of a link to it; undefined: it is no neighbour. */
  linkedFrom(id: NodeId): string | undefined;
  isReachable(id: NodeId): boolean;
  directoryChanged(): void;
  revoked(held: HeldRecord): void;
  /** What hello says of the store. */
  helloChanged(): void;
}

/** Raises the boot epoch durably. Rejects with GODWIT_STORE_FAILED. */
export async function openKept(deps: MeshDeps, changes: KeptChanges): Promise<Kept> {
  const { store, time, log, random, network, verify, events, identity } = deps;
  const boot = await openBootState(store, random);
  await tellOfDamage(deps, boot, () => changes.helloChanged());
  const acquaintances: Acquaintances = new Acquaintances({
    self: identity.id,
    store,
    isTrusted: (id) => book.isTrustedByOperator(id),
    isNamed: (id) => names.isConfigured(id) || names.isSigned(id),
    linkedFrom: (id) => changes.linkedFrom(id),
    isReachable: (id) => changes.isReachable(id),
  });
  await acquaintances.load();
  const gaveWay = deps.metrics.counter("godwit_gave_way_total");
  const book: PeerBook = new PeerBook({ store, configured: deps.trust, time, log, regard: acquaintances });
  const authority =
    deps.authority === undefined ? {} : { authority: { id: deps.authority, network, verify } };
  const names: Names = new Names({
    store,
    configured: deps.names,
    ...authority,
    ...(deps.callsign === undefined ? {} : { own: { name: deps.callsign, id: identity.id } }),
    onConflict: (name, holder, claimant) => {
      const advice = name === deps.callsign ? `it is ${OWN_NAME_ADVICE}` : CONFLICT_ADVICE;
      log.warn("another node claims a name", { name, holder, claimant, advice });
      events.emit("nameConflict", { name, holder, claimant });
    },
    onChange() {
      changes.directoryChanged();
      events.emit("namesChanged", undefined);
    },
  });
  await names.load();
  await book.load();
  const records: RecordBook = new RecordBook({
    self: identity.id,
    store,
    network,
    authority: deps.authority,
    verify,
    changed: (id, record) => {
      if (id !== identity.id && !book.isBlocked(id)) names.observe(record);
      if (record.isRevoked) changes.revoked(records.get(id)!);
      changes.directoryChanged();
      events.emit("recordChanged", id);
    },
    regard: acquaintances,
    forgot: (id) => {
      gaveWay.add(1, { table: "records" });
      names.drop(id);
    },
  });
  await records.load();
  // A name outlives no record: keys cost nothing, and what they claimed once would stay for good.
  names.retain((id) => records.get(id) !== undefined || acquaintances.isKnown(id));
  const nameProof = await loadNameProof(store, deps.callsign);
  const sealing = await deps.openSealing((id) => records.get(id)?.record);
  const fullTables = new FullTables(deps.clock, log, deps.metrics);
  return { boot, book, acquaintances, fullTables, names, records, nameProof, ...sealing };
}

/** Rows that the disk lost may be mail, or marks of it: neighbours that hear of another store offer again what was acknowledged. */
async function tellOfDamage({ store, log }: MeshDeps, boot: BootState, told: () => void): Promise<void> {
  if (store.state.damageCount > 0) await boot.renewHelloEpoch();
  store.onState((found) => {
    if (found.length === 0) return;
    boot.renewHelloEpoch().then(told, (error: unknown) => {
      log.warn("store epoch not kept", { error: error instanceof Error ? error : String(error) });
    });
  });
}
