/** Invitations, who uses them, and who issued them. For tests only. */
import { signRedemption, type Invite, type Redemption } from "../identity/invite.ts";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { emptyStore } from "../store/testing.ts";
import type { Store, StoreOp, StoreRow } from "../store/types.ts";
import { Redemptions } from "./redemptions.ts";
import { testTime } from "../time/testing.ts";

export const random = seededRandom(5);
export const [self, other, newcomer, thief] = Array.from({ length: 4 }, () => generateIdentity(random)) as [
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
  ReturnType<typeof generateIdentity>,
];
export const WALL_MS = 1_800_000_000_000;
export const invite: Invite = { id: random.bytes(8), expiresAtS: WALL_MS / 1_000 + 3_600, uses: 1 };

/** Rows in a map; `failure` fails the next commits. */
export function fakeStore() {
  const rows = new Map<string, string>();
  const state = { failure: undefined as Error | undefined };
  const store: Store = {
    ...emptyStore,
    load: async (): Promise<StoreRow[]> => [...rows].map(([key, meta]) => ({ key, meta, bodyBytes: 0 })),
    async commit(ops: readonly StoreOp[]) {
      if (state.failure !== undefined) throw state.failure;
      for (const op of ops)
        if (op.op === "put") rows.set(op.key, op.meta);
        else rows.delete(op.key);
    },
  };
  return { store, rows, state };
}

/** A neighbour that this node wrote to. */
export const friend = generateIdentity(seededRandom(77)).id;

export function setup(clock = new ManualClock(WALL_MS), fake = fakeStore(), time = testTime(clock).time) {
  const conflicts: (readonly Redemption[])[] = [];
  const full: string[] = [];
  const table = new Redemptions({
    identity: self,
    network: "telex",
    time,
    log: silentLog,
    metrics: new Metrics(),
    store: fake.store,
    verify: verifySignature,
    regard: {
      worthOf: () => "none",
      shareOf: (teller) => ({ by: teller === friend ? friend : "192.0.2.1", isKnown: teller === friend }),
    },
    fullTables: { refused: (name) => void full.push(name) },
    onConflict: (_, redeemers) => conflicts.push(redeemers),
  });
  return { clock, table, conflicts, full, ...fake };
}

export const told = (redeemer: typeof self, of: Invite = invite, by = other) =>
  signRedemption(by, { invite: of, redeemer: redeemer.id, atMs: WALL_MS }, "telex");
