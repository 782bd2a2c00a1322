/**
 * Membership joined to the mesh: over which neighbours it speaks, what the router knows for it, where its facts are
 * kept. Commits of facts are gathered, because losing the last seconds of them costs nothing.
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { Members, type MembersDeps } from "../membership/members.ts";
import type { Peers } from "../peer/peers.ts";
import type { Packets } from "../route/packets.ts";
import type { Router } from "../route/router.ts";
import type { Store, StoreOp } from "../store/types.ts";
import { type MemberFact } from "../wire/member-messages.ts";
import { PacketKind } from "../wire/packet.ts";
import { encodeFact, parseFact } from "../membership/kept-facts.ts";

/** Facts learned within this time share a commit, ms. */
const COMMIT_MS = 5_000;
/** Priority of pings and of repairs: nothing waits for a ping longer than for routing; repairs go behind mail. */
const PING_PRIORITY = 0;
const REPAIR_PRIORITY = 3;

export interface MeshMembersDeps extends Pick<
  MembersDeps,
  "self" | "network" | "bootEpoch" | "sign" | "verify" | "onEpochTooLow" | "changed"
> {
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly store: Store;
  readonly mesh: { readonly router: Router; readonly peers: Peers; readonly packets: Packets };
}

export class MeshMembers extends Members {
  readonly #deps: MeshMembersDeps;
  readonly #unsaved: Map<NodeId, MemberFact | undefined>;
  readonly #persistence: { timer: Timer | undefined };

  constructor(deps: MeshMembersDeps) {
    const unsaved = new Map<NodeId, MemberFact | undefined>();
    const persistence: { timer: Timer | undefined } = { timer: undefined };
    const { mesh, clock } = deps;
    super({
      ...deps,
      send: (to, frame, lane) =>
        void mesh.peers.get(to)?.send(lane === "news" ? "control" : REPAIR_PRIORITY, frame),
      sendRouted: (to, kind, payload) =>
        void mesh.packets.send(to, kind === "ping" ? PacketKind.memberPing : PacketKind.memberPong, payload, {
          priority: PING_PRIORITY,
        }),
      isReachable: (id) => mesh.router.reachable(id),
      checkLink: (id) => mesh.peers.get(id)?.best?.check(),
      persist: (id, fact) => {
        unsaved.set(id, fact);
        persistence.timer ??= clock.after(COMMIT_MS, () => {
          persistence.timer = undefined;
          this.#save();
        });
      },
    });
    this.#deps = deps;
    this.#unsaved = unsaved;
    this.#persistence = persistence;
  }

  /** Facts of an earlier run. Rows that do not parse or verify are passed over. */
  async load(): Promise<void> {
    const rows = await this.#deps.store.load("member");
    const bodies = await Promise.all(rows.map(({ key }) => this.#deps.store.body("member", key)));
    this.restore(bodies.flatMap((body) => parseFact(body) ?? []));
  }

  override stop(): void {
    this.#persistence.timer?.cancel();
    this.#save();
    super.stop();
  }

  #save(): void {
    if (this.#unsaved.size === 0) return;
    const ops = [...this.#unsaved].map(([key, fact]): StoreOp =>
      fact === undefined
        ? { op: "delete", in: "member", key }
        : { op: "put", in: "member", key, meta: "", body: encodeFact(fact) },
    );
    this.#unsaved.clear();
    // What is not kept is heard again from the neighbours.
    this.#deps.store.commit(ops).catch(() => {});
  }
}
