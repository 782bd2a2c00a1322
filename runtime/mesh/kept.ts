/** What a mesh kept of its earlier runs and has to know before its parts are made. */
import type { Sealer } from "../custody/context.ts";
import { Names } from "../identity/names.ts";
import type { NameProof } from "../identity/record.ts";
import { loadNameProof } from "../membership/name-proof.ts";
import { type HeldRecord, RecordBook } from "../membership/records.ts";
import { openBootState, type BootState } from "../store/boot-state.ts";
import { PeerBook } from "../trust/book.ts";
import type { MeshDeps, PrekeySource } from "./deps.ts";

export interface Kept {
  readonly boot: BootState;
  readonly book: PeerBook;
  readonly names: Names;
  readonly records: RecordBook;
  readonly sealer: Sealer;
  readonly prekeys: PrekeySource;
  /** The authority's word for this node's callsign. */
  readonly nameProof: NameProof | undefined;
}

/** Told while the mesh lives, not of what is read here. */
export interface KeptChanges {
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
  const book = new PeerBook({ store, configured: deps.trust, time, log });
  await book.load();
  const authority =
    deps.authority === undefined ? {} : { authority: { id: deps.authority, network, verify } };
  const names = new Names({
    store,
    configured: deps.names,
    ...authority,
    onConflict: (name, holder, claimant) => events.emit("nameConflict", { name, holder, claimant }),
    onChange: () => changes.directoryChanged(),
  });
  await names.load();
  const records: RecordBook = new RecordBook({
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
  });
  await records.load();
  const nameProof = await loadNameProof(store, deps.callsign);
  const sealing = await deps.openSealing((id) => records.get(id)?.record);
  return { boot, book, names, records, nameProof, ...sealing };
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
