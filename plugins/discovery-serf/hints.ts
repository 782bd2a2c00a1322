/**
 * From members to hints: those whose tag is signed by the node that it names, at an address that this node may dial. All others are shown and
 * never dialled. Owns which hints are out, and how many signatures are checked in a time.
 */
import type { PluginContext } from "@godwit/sdk";
import type { At } from "./wire/messages.ts";
import { decodeTags } from "./wire/serf-messages.ts";
import { MEMBERS_MAX } from "./memberlist/members.ts";
import type { Timers } from "./memberlist/timers.ts";
import type { Entry } from "./serf/roll.ts";
import { IDENTITY_TAG } from "./config.ts";
import { type Claim, readTag } from "./tag.ts";

/** A signature takes a tenth of a millisecond: a flood of tags must not take the processor. */
const CHECKS_A_ROUND = 32;
const ROUND_MS = 250;
/** The node takes 4,096 of an instance. */
const HINTS_MAX = 2_048;

export interface Standing {
  /** What its tag says, proven; undefined: it is no node of Godwit, or not proven yet. */
  readonly claim: Claim | undefined;
  /** Why its endpoints are not taken. */
  readonly why: string | undefined;
  readonly hints: readonly string[];
}

export interface HintsDeps {
  readonly ctx: Pick<PluginContext, "discovery" | "self">;
  readonly timers: Timers;
  entry(name: string): Entry | undefined;
  /** Why nothing is sent to a member's address. */
  refusalOf(at: At): string | undefined;
  dropped(reason: string): void;
}

export class Hints {
  readonly #deps: HintsDeps;
  readonly #standings = new Map<string, Standing>();
  /** How many members say each. */
  readonly #given = new Map<string, number>();
  /** Names whose tags are to be looked at; each once, so at most as many as members. */
  readonly #pending = new Set<string>();
  #isChecking = false;

  constructor(deps: HintsDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#given.size;
  }

  standingOf(name: string): Standing | undefined {
    return this.#standings.get(name);
  }

  /** Something about it changed, or it went. */
  look(name: string): void {
    if (this.#pending.size >= MEMBERS_MAX) return this.#deps.dropped("checks");
    this.#pending.add(name);
    if (this.#isChecking) return;
    this.#isChecking = true;
    void this.#check();
  }

  async #check(): Promise<void> {
    const { timers } = this.#deps;
    for (let checked = 1; !timers.isClosed; checked++) {
      const [name] = this.#pending;
      if (name === undefined) break;
      this.#pending.delete(name);
      await this.#judge(name);
      if (checked % CHECKS_A_ROUND === 0) await timers.sleep(ROUND_MS);
    }
    this.#isChecking = false;
  }

  async #judge(name: string): Promise<void> {
    const { entry: entryOf, ctx, refusalOf, timers } = this.#deps;
    const entry = entryOf(name);
    const tag = entry === undefined ? undefined : decodeTags(entry.meta).get(IDENTITY_TAG);
    const claim = entry === undefined || tag === undefined ? undefined : await this.#read(entry, tag);
    // It may have changed while its signature was checked: then it is looked at again anyway.
    if (timers.isClosed || this.#pending.has(name)) return;
    const isHere = entry !== undefined && entry.status !== "left";
    const why =
      entry === undefined
        ? undefined
        : (refusalOf(entry.at) ??
          (tag === undefined || claim !== undefined
            ? undefined
            : "its tag is not signed by the node that it names"));
    const hints =
      isHere && claim !== undefined && claim.id !== ctx.self.id && why === undefined ? claim.endpoints : [];
    this.#replace(name, claim?.id, hints);
    if (entry === undefined) this.#standings.delete(name);
    else this.#standings.set(name, { claim, why, hints });
  }

  async #read(entry: Entry, tag: string): Promise<Claim | undefined> {
    try {
      return await readTag(this.#deps.ctx.self, entry.name, entry.at, tag);
    } catch {
      // The plugin has stopped.
      return undefined;
    }
  }

  #replace(name: string, nodeId: string | undefined, wanted: readonly string[]): void {
    const { discovery } = this.#deps.ctx;
    const old = this.#standings.get(name);
    const isSameNode = old?.claim?.id === nodeId;
    for (const endpoint of old?.hints ?? [])
      if (!isSameNode || !wanted.includes(endpoint)) {
        const left = (this.#given.get(endpoint) ?? 1) - 1;
        if (left > 0) this.#given.set(endpoint, left);
        else {
          this.#given.delete(endpoint);
          discovery.withdraw(endpoint);
        }
      }
    for (const endpoint of wanted) {
      if (isSameNode && old?.hints.includes(endpoint) === true) continue;
      if (this.#given.size >= HINTS_MAX && !this.#given.has(endpoint)) {
        this.#deps.dropped("hints");
        continue;
      }
      this.#given.set(endpoint, (this.#given.get(endpoint) ?? 0) + 1);
      discovery.hint({ endpoint, ...(nodeId === undefined ? {} : { nodeId }) });
    }
  }
}
