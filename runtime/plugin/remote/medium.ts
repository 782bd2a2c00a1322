/**
 * The shared channel of a transport outside of the node's thread, as the node uses it. What the plugin says of it is bounded here: it has the name of
 * its table, no airtime shorter than its rate, and names places of its own schemes alone. So whatever it claims, it is its own channel that it
 * spoils. docs/protocol/plugin-frames.md "Shared channels"
 */
import type { Medium, MediumHeard, MetricCounter, PluginContext, Urgency } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { TokenBucket } from "../../kernel/backoff.ts";
import type { Calls } from "../frames/calls.ts";
import { AIRTIME_STEPS_MAX, airtimeOf, factsIssue, type MediumFacts } from "../frames/medium.ts";
import { parseJson } from "../frames/parse.ts";

/** Of one datagram, ms: with all that repeat it. */
const AIRTIME_MS_MAX = 600_000;
/** Datagrams to all that are listened to: each is verified under every live secret. */
const HEARD = { perSecond: 16, burst: 64 } as const;
/** What waits longer than this to be taken was not. */
const BROADCAST_TIMEOUT_MS = 60_000;
/** What is said to all without a word of what it is for. */
const PRESENCE: Urgency = 3;

const costs = z.array(z.number().positive().max(AIRTIME_MS_MAX)).min(1).max(AIRTIME_STEPS_MAX);
const share = z.number().min(0).max(1);
const urgencies = z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3), z.literal(4)]);
const now = { utilisation: share, ownShare: share.exactOptional(), admits: urgencies.exactOptional() };
export const mediumSchema = z.object({
  rateBitsPerSecond: z.number().positive().max(1e12),
  broadcastBytesMax: z.number().int().min(40).max(65_535),
  stepBytes: z.number().int().min(1).max(65_535),
  one: costs,
  all: costs,
  ...now,
});
export const heardSchema = z.object({ from: z.string().max(512) });
export const busySchema = z.object(now);

export class RemoteMedium implements Medium {
  readonly name: string;
  readonly #facts: MediumFacts;
  readonly #schemes: readonly string[];
  readonly #calls: Calls;
  readonly #heardBudget: TokenBucket;
  readonly #dropped: MetricCounter;
  #now: z.output<typeof busySchema>;
  #isAsking = false;
  #heard: MediumHeard = () => {};

  /** Throws GODWIT_DECODE for what cannot be. */
  constructor(
    ctx: Pick<PluginContext, "instance" | "clock" | "counter">,
    calls: Calls,
    told: z.output<typeof mediumSchema>,
    schemes: readonly string[],
  ) {
    const issue = factsIssue(told);
    if (issue !== undefined) throw godwitError("GODWIT_DECODE", `plugin frame: a channel: ${issue}`);
    this.name = ctx.instance;
    this.#facts = told;
    this.#schemes = schemes;
    this.#calls = calls;
    this.#heardBudget = new TokenBucket(ctx.clock, HEARD.perSecond, HEARD.burst);
    this.#dropped = ctx.counter("heard_dropped", "datagrams to all that were more than are listened to");
    this.#now = told;
  }

  get rateBitsPerSecond(): number {
    return this.#facts.rateBitsPerSecond;
  }

  get broadcastBytesMax(): number {
    return this.#facts.broadcastBytesMax;
  }

  get utilisation(): number {
    return this.#now.utilisation;
  }

  /** As much as there is where the plugin says nothing. */
  get ownShare(): number {
    return this.#now.ownShare ?? 1;
  }

  /** Everything, where the plugin says nothing. */
  get admits(): Urgency {
    return this.#now.admits ?? 4;
  }

  airtimeMs(bytes: number, to: "one" | "all"): number {
    return airtimeOf(this.#facts, bytes, to);
  }

  /** One at a time is on its way there; what the plugin then does not take is lost, as what nobody hears. */
  broadcast(bytes: Uint8Array, urgency?: Urgency): boolean {
    if (this.#isAsking || bytes.length > this.broadcastBytesMax || this.#calls.closedBy !== undefined)
      return false;
    if ((urgency ?? PRESENCE) > this.admits) return false;
    this.#isAsking = true;
    void this.#calls
      .ask("medium.broadcast", urgency === undefined ? {} : { urgency }, () => {}, {
        bytes,
        timeoutMs: BROADCAST_TIMEOUT_MS,
      })
      .catch(() => {})
      .finally(() => {
        this.#isAsking = false;
      });
    return true;
  }

  listen(heard: MediumHeard): void {
    this.#heard = heard;
  }

  /** Throws GODWIT_DECODE. */
  onHeard(json: unknown, bytes: Uint8Array): void {
    const { from } = parseJson(heardSchema, json);
    const isOwn = this.#schemes.some((scheme) => from.startsWith(`${scheme}://`));
    if (!isOwn || bytes.length > this.broadcastBytesMax)
      throw godwitError("GODWIT_DECODE", "plugin frame: what was heard is none of its channel");
    if (!this.#heardBudget.take()) return this.#dropped.add();
    this.#heard(from, bytes);
  }

  /** Throws GODWIT_DECODE. */
  onBusy(json: unknown): void {
    this.#now = parseJson(busySchema, json);
  }
}
