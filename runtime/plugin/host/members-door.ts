/**
 * `ctx.members`: the members of the mesh as handed to one engine. Owns what ends with it: who listens, and the changes that wait for
 * them. Never keeps a state of a member: what is told is what holds when it is told.
 */
import { type Clock, type Log, type Member, type Members, MEMBERS_PAGE_MAX, type Timer } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import { refusalOf } from "../permissions.ts";

/** Changes come in bursts. */
const CHANGE_PAUSE_MS = 200;
/** More than there are members; whoever keeps that many waiting loses the oldest, which a list shows. */
const CHANGES_WAITING_MAX = 32_768;

/** The node as engines see it; `view/members-for-plugins.ts` implements it over the living mesh. */
export interface MembersBackend {
  get(id: string): Member | undefined;
  list(limit: number, after: string | undefined): readonly Member[];
  /** Calls synchronously with the id of each member that changed. Answers how to stop. */
  watch(fn: (id: string) => void): () => void;
}

export interface MembersDoorDeps {
  readonly backend: MembersBackend;
  readonly isAllowed: boolean;
  readonly scope: Scope;
  readonly clock: Clock;
  readonly log: Log;
}

export function openMembersDoor({ backend, isAllowed, scope, clock, log }: MembersDoorDeps): Members {
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
    if (!isAllowed) throw godwitError("GODWIT_FORBIDDEN", refusalOf(["engine.members"], "engine.members"));
  };
  return {
    get: (id) => (check(), backend.get(id)),
    list({ limit = MEMBERS_PAGE_MAX, after } = {}) {
      check();
      if (!Number.isInteger(limit) || limit < 1 || limit > MEMBERS_PAGE_MAX)
        throw godwitError("GODWIT_REQUEST_INVALID", `a page has 1 to ${MEMBERS_PAGE_MAX} members`);
      return backend.list(limit, after);
    },
    onChange(fn) {
      check();
      const teller = new ChangeTeller(backend, fn, clock, log);
      scope.own(() => teller.stop());
    },
  };
}

/** One listener's changes: gathered by id and told one call after the other. */
class ChangeTeller {
  readonly #backend: MembersBackend;
  readonly #fn: Parameters<Members["onChange"]>[0];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #unwatch: () => void;
  readonly #waiting = new Set<string>();
  #timer: Timer | undefined;
  #isBusy = false;
  #isStopped = false;

  constructor(backend: MembersBackend, fn: Parameters<Members["onChange"]>[0], clock: Clock, log: Log) {
    this.#backend = backend;
    this.#fn = fn;
    this.#clock = clock;
    this.#log = log;
    this.#unwatch = backend.watch((id) => {
      if (this.#waiting.size >= CHANGES_WAITING_MAX)
        for (const oldest of this.#waiting.values().take(1)) this.#waiting.delete(oldest);
      this.#waiting.add(id);
      this.#wake();
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#unwatch();
    this.#timer?.cancel();
    this.#waiting.clear();
  }

  #wake(): void {
    if (this.#isBusy || this.#isStopped || this.#waiting.size === 0) return;
    this.#timer ??= this.#clock.after(CHANGE_PAUSE_MS, () => {
      this.#timer = undefined;
      void this.#tell();
    });
  }

  async #tell(): Promise<void> {
    const ids = [...this.#waiting.values().take(MEMBERS_PAGE_MAX)];
    for (const id of ids) this.#waiting.delete(id);
    this.#isBusy = true;
    try {
      await this.#fn(ids.map((id) => ({ id, member: this.#backend.get(id) })));
    } catch (error) {
      if (!this.#isStopped) this.#log.error("onChange handler failed", { error: asGodwitError(error) });
    }
    this.#isBusy = false;
    this.#wake();
  }
}
