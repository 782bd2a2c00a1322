import { GodwitError, type Member, type MemberChange, type Members, MEMBERS_PAGE_MAX } from "../src/index.ts";

/** Members that a test sets. Who listens is told one turn later. */
export class FakeMembers implements Members {
  /** What listeners threw, which a host logs. */
  readonly failures: unknown[] = [];
  #isStopped = false;
  readonly #members = new Map<string, Member>();
  readonly #heard = new Set<(changes: readonly MemberChange[]) => void | Promise<void>>();

  get listenerCount(): number {
    return this.#heard.size;
  }

  get(id: string): Member | undefined {
    this.#check();
    return this.#members.get(id);
  }

  list({ limit = MEMBERS_PAGE_MAX, after = "" }: Parameters<Members["list"]>[0] = {}): readonly Member[] {
    this.#check();
    if (!Number.isInteger(limit) || limit < 1 || limit > MEMBERS_PAGE_MAX)
      throw new GodwitError("GODWIT_REQUEST_INVALID", `a page has 1 to ${MEMBERS_PAGE_MAX} members`, {
        kind: "protocol",
      });
    return [...this.#members.values()]
      .filter(({ id }) => id > after)
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .slice(0, limit);
  }

  onChange(fn: (changes: readonly MemberChange[]) => void | Promise<void>): void {
    this.#check();
    this.#heard.add(fn);
  }

  /** One member as it is now; without a state it is none any more. Answers when all who listen were told. */
  async set(id: string, facts: Partial<Omit<Member, "id">>): Promise<void> {
    await this.setAll([{ id, ...facts }]);
  }

  /** Several at once; told in calls of at most `MEMBERS_PAGE_MAX`. */
  async setAll(all: readonly (Pick<Member, "id"> & Partial<Member>)[]): Promise<void> {
    for (const { id, state, callsign, incarnation = 1, sinceMs = 0 } of all)
      if (state === undefined) this.#members.delete(id);
      else this.#members.set(id, { id, callsign, state, incarnation, sinceMs });
    const ids = all.map(({ id }) => id);
    for (let at = 0; at < ids.length; at += MEMBERS_PAGE_MAX) {
      const changes = ids
        .slice(at, at + MEMBERS_PAGE_MAX)
        .map((id) => ({ id, member: this.#members.get(id) }));
      await Promise.all([...this.#heard].map((fn) => this.#tell(fn, changes)));
    }
  }

  async #tell(
    fn: (changes: readonly MemberChange[]) => void | Promise<void>,
    changes: readonly MemberChange[],
  ): Promise<void> {
    try {
      await fn(changes);
    } catch (error) {
      this.failures.push(error);
    }
  }

  /** The plugin stopped: the host forgets its listeners. */
  stop(): void {
    this.#isStopped = true;
    this.#heard.clear();
  }

  #check(): void {
    if (this.#isStopped)
      throw new GodwitError("GODWIT_STOPPED", "the plugin has stopped", { kind: "plugin" });
  }
}
