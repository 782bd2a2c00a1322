/**
 * One member of a Serf cluster that is this node: sockets, memberlist, Serf and hints put together, from the first call of a member to the leave.
 * Owns where this node says that it is, whom it calls of its own accord, and its state in words.
 */
import {
  advertisedHosts,
  type HostPort,
  isWildcard,
  type MetricGauge,
  type PluginContext,
} from "@godwit/sdk";
import { tryParseIp } from "@godwit/sdk/netlink";
import { resolveHost } from "@godwit/sdk/tcp";
import { DEFAULT_PORT, haveRoom, IDENTITY_TAG, listenAt, seedOf, type SerfConfig } from "./config.ts";
import { Conflicts } from "./conflicts.ts";
import { Hints } from "./hints.ts";
import { isSameAt } from "./memberlist/members.ts";
import { Timers } from "./memberlist/timers.ts";
import { timings } from "./memberlist/timing.ts";
import { keepKeyring, openKeyring, recallMembers, rememberMembers, type Remembered } from "./memory.ts";
import { Keys } from "./serf/keys.ts";
import type { Entry } from "./serf/roll.ts";
import { IDENTITY_QUERY, Serf } from "./serf/serf.ts";
import { makeTag, readTag, whereOf, withCapabilities } from "./tag.ts";
import { Transport } from "./transport.ts";
import { Envelope } from "./wire/envelope.ts";
import type { At } from "./wire/messages.ts";
import { decodeTags, type Query, type Tags, type UserEvent } from "./wire/serf-messages.ts";

/** Between two looks whether all that are to be joined are members; the first ones, while nobody is, come sooner. */
const JOIN_MS = 30_000;
const JOIN_FIRST_MS = 1_000;
const SEED_ADDRESSES_MAX = 4;
/** Members of a former life that are called at once. */
const RECALLED_AT_ONCE = 8;
const REMEMBER_MS = 5_000;
/** Between two counts of members for the metric. */
const COUNT_MS = 5_000;
/** Events that are kept to be shown. */
const EVENTS_SHOWN_MAX = 64;

export interface ShownEvent {
  readonly atMs: number;
  readonly event: UserEvent;
}

export class Agent {
  readonly serf: Serf;
  readonly hints: Hints;
  readonly events: ShownEvent[] = [];
  readonly #ctx: PluginContext;
  readonly #config: SerfConfig;
  readonly #transport: Transport;
  readonly #timers: Timers;
  readonly #recalled: readonly Remembered[];
  readonly #members: MetricGauge;
  readonly #conflicts: Conflicts;
  /** Addresses that the operator wrote down: sent to whatever they are. Bounded by `join`. */
  #seedAddresses = new Set<string>();
  #blockedAt: string | undefined;
  #joinFault: string | undefined;
  #joinTries = 0;
  #told = "";
  #isRemembering = false;
  #hasLeft = false;

  private constructor(
    ctx: PluginContext,
    config: SerfConfig,
    parts: {
      transport: Transport;
      timers: Timers;
      recalled: readonly Remembered[];
      keys: Keys;
      at: At;
      tags: Tags;
      dropped: (reason: string, count?: number) => void;
    },
  ) {
    this.#ctx = ctx;
    this.#config = config;
    this.#transport = parts.transport;
    this.#timers = parts.timers;
    this.#recalled = parts.recalled;
    this.#members = ctx.gauge("members", "members of the Serf cluster by state", ["status"]);
    const { timers, transport, keys, at, tags, dropped } = parts;
    this.#conflicts = new Conflicts(timers, () => this.#tell());
    this.serf = new Serf({
      name: nameOf(ctx, config),
      at,
      tags,
      timing: timings[config.profile],
      isStreamsOnly: !config.udp,
      timers,
      random: ctx.random,
      log: ctx.log,
      net: transport,
      keys,
      refusal: (address) => (this.#seedAddresses.has(address) ? undefined : ctx.network.refusal(address)),
      events: {
        changed: (before, after) => this.#onChanged(before, after),
        event: (event) => this.#onEvent(event),
        conflict: (name, isSelf, other) => {
          if (this.#conflicts.hear(name, isSelf, other))
            ctx.log.warn("serf name conflict", { name, address: other.address });
        },
        blocked: (member) => {
          this.#blockedAt = member === undefined ? undefined : `${member.name} (${member.at.address})`;
          if (member !== undefined)
            ctx.log.warn("serf datagrams are blocked", { member: member.name, address: member.at.address });
          this.#tell();
        },
        isOwn: async ({ node, at: where, meta }) => {
          const tag = decodeTags(meta).get(IDENTITY_TAG);
          const claim = tag === undefined ? undefined : await readTag(ctx.self, node, where, tag);
          return claim?.id === ctx.self.id;
        },
        answer: (query) => this.#answer(query),
        dropped,
      },
    });
    this.hints = new Hints({
      ctx,
      timers,
      entry: (name) => this.serf.roll.get(name),
      refusalOf: (where) => this.serf.memberlist.refusalOf(where),
      dropped,
    });
  }

  /** Rejects with GODWIT_LISTEN_FAILED. Whatever is open then is closed. */
  static async open(ctx: PluginContext, config: SerfConfig): Promise<Agent> {
    const configured = config.encrypt_key?.revealText().trim();
    const key = configured === undefined ? undefined : Buffer.from(configured, "base64");
    const keyring = key === undefined ? undefined : await openKeyring(ctx.storage, key);
    const recalled = await recallMembers(ctx.storage);
    ctx.signal.throwIfAborted();
    const listen = listenAt(config, ctx.network.addresses());
    if (listen === undefined) throw new Error(`${config.listen} has no address now`);
    const drops = ctx.counter("dropped", "what came and was not taken", ["reason"]);
    const dropped = (reason: string, count = 1) => drops.add(count, { reason });
    const messages = ctx.counter("messages", "datagrams and streams", ["direction", "kind"]);
    const transport = await Transport.open({
      host: listen.host,
      port: listen.port,
      isPortSearched: config.port_search,
      isStreamsOnly: !config.udp,
      envelope: new Envelope({ keyring, label: config.label, random: ctx.random }),
      clock: ctx.clock,
      dropped,
      counted: (direction, kind) => messages.add(1, { direction, kind }),
    });
    const timers = new Timers(ctx.clock, ctx.random);
    try {
      ctx.signal.throwIfAborted();
      const at = await advertisedAt(ctx, config, listen.host, transport.port);
      const tags = await tagsOf(ctx, config, nameOf(ctx, config), at);
      const keys = new Keys(keyring, async (ring) => {
        if (key === undefined) return;
        try {
          await keepKeyring(ctx.storage, key, ring);
        } catch (error) {
          ctx.log.error("gossip keys not kept", { error: String(error) });
          throw error;
        }
      });
      ctx.signal.throwIfAborted();
      return new Agent(ctx, config, { transport, timers, recalled, keys, at, tags, dropped });
    } catch (error) {
      transport.close();
      timers.close();
      throw error;
    }
  }

  start(): void {
    const { self, network } = this.#ctx;
    this.#transport.open(this.serf.memberlist);
    this.serf.start();
    self.onChange(() => void this.#refresh());
    network.onChange(() => {
      this.serf.memberlist.judgeAnew();
      for (const { name } of this.serf.roll) this.hints.look(name);
      void this.#refresh();
    });
    this.hints.look(this.serf.memberlist.members.self.name);
    this.#count();
    this.#timers.every(COUNT_MS, () => this.#count());
    this.#tell();
    void this.#keepJoined();
  }

  /** Leaves, then closes everything. */
  async stop(): Promise<void> {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    try {
      await this.#remember();
    } catch {
      // Nothing to come back to, and nothing lost but a call.
    }
    await this.serf.leave();
    this.#timers.close();
    this.#transport.close();
  }

  get listening(): At {
    return { address: this.#config.listen, port: this.#transport.port };
  }

  /** Where this node is, and what it says of itself, may be another by now. */
  async #refresh(): Promise<void> {
    const ctx = this.#ctx;
    try {
      const listen = listenAt(this.#config, ctx.network.addresses());
      if (listen === undefined || this.#hasLeft) return;
      const at = await advertisedAt(ctx, this.#config, listen.host, this.#transport.port);
      const { members } = this.serf.memberlist;
      const tags = await tagsOf(ctx, this.#config, members.self.name, at);
      if (this.#hasLeft || ctx.signal.aborted) return;
      if (isSameAt(at, members.self.at)) this.serf.setTags(tags);
      else {
        ctx.log.info("serf address changed", { address: at.address });
        await this.serf.move(at, tags);
      }
    } catch (error) {
      if (!ctx.signal.aborted) ctx.log.warn("serf address not told", { error: String(error) });
    }
  }

  async #keepJoined(): Promise<void> {
    const timers = this.#timers;
    for (const { name, at } of this.#recalled) this.serf.roll.recall({ name, at });
    while (!timers.isClosed && !this.#hasLeft) {
      await this.#joinAll();
      this.#tell();
      const isAlone = this.serf.memberlist.members.liveCount < 2;
      const firstMs = JOIN_FIRST_MS * 2 ** Math.min(this.#joinTries++, 5);
      await timers.sleep(isAlone ? Math.min(JOIN_MS, firstMs) : JOIN_MS);
    }
  }

  /** Calls everybody who is to be called and is no living member. */
  async #joinAll(): Promise<void> {
    const seeds = await this.#resolveSeeds();
    const { members } = this.serf.memberlist;
    const isThere = (at: At) =>
      [...members].some((one) => isSameAt(one.at, at) && this.serf.roll.get(one.name)?.status === "alive");
    const missing = seeds.filter((at) => !isThere(at));
    // Seeds that were reached are enough to hear of the others; until then everybody of the former life is called.
    if (members.liveCount < 2)
      missing.push(
        ...this.#recalled
          .map(({ at }) => at)
          .filter((at) => this.serf.memberlist.refusalOf(at) === undefined)
          .slice(0, 4 * RECALLED_AT_ONCE),
      );
    let fault: string | undefined;
    for (let from = 0; from < missing.length && !this.#timers.isClosed; from += RECALLED_AT_ONCE)
      await Promise.all(
        missing.slice(from, from + RECALLED_AT_ONCE).map(async (at) => {
          if (isThere(at) || this.#hasLeft) return;
          try {
            await this.serf.join(at);
          } catch (error) {
            fault = error instanceof Error ? error.message : String(error);
          }
        }),
      );
    this.#joinFault = members.liveCount < 2 ? fault : undefined;
  }

  async #resolveSeeds(): Promise<At[]> {
    const found: At[] = [];
    const { self } = this.serf.memberlist.members;
    const addresses = new Set<string>();
    for (const text of this.#config.join) {
      const { host, port } = seedOf(text)!;
      try {
        const resolved = await resolveHost(host);
        for (const { address } of resolved.slice(0, SEED_ADDRESSES_MAX)) {
          const at = { address, port };
          addresses.add(address);
          if (!isSameAt(at, self.at)) found.push(at);
        }
      } catch (error) {
        this.#joinFault = `${host}: ${error instanceof Error ? error.message : String(error)}`;
      }
    }
    const isNew = [...addresses].some((address) => !this.#seedAddresses.has(address));
    this.#seedAddresses = addresses;
    if (isNew) this.serf.memberlist.judgeAnew();
    return found;
  }

  #onChanged(before: Entry | undefined, after: Entry | undefined): void {
    const { log } = this.#ctx;
    const name = (after ?? before)!.name;
    if (before?.status !== after?.status)
      log.debug("serf member", { name, status: after?.status ?? "forgotten" });
    this.hints?.look(name);
    this.#rememberSoon();
    this.#tell();
  }

  #count(): void {
    for (const status of ["alive", "leaving", "left", "failed"] as const)
      this.#members.set(this.serf.roll.count(status), { status });
  }

  #onEvent(event: UserEvent): void {
    this.#ctx.log.info("serf event", { name: event.name.slice(0, 128), bytes: event.payload.length });
    this.events.push({ atMs: this.#ctx.clock.wallMs(), event });
    if (this.events.length > EVENTS_SHOWN_MAX) this.events.shift();
  }

  /** Who this node is, for whoever asks by `serf query godwit`. */
  #answer({ name }: Query): Uint8Array | undefined {
    if (name !== IDENTITY_QUERY) return undefined;
    const { id, callsign } = this.#ctx.self;
    return new TextEncoder().encode(JSON.stringify({ id, callsign: callsign ?? null }));
  }

  #rememberSoon(): void {
    if (this.#isRemembering || this.#timers === undefined) return;
    this.#isRemembering = true;
    this.#timers.after(REMEMBER_MS, () => {
      this.#isRemembering = false;
      this.#remember().catch((error: unknown) =>
        this.#ctx.log.warn("serf members not kept", { error: String(error) }),
      );
    });
  }

  async #remember(): Promise<void> {
    const own = this.serf.memberlist.members.self.name;
    const members = [...this.serf.roll].filter(({ name, status }) => name !== own && status !== "left");
    // Without anybody what was remembered is still the best there is.
    if (members.length > 0) await rememberMembers(this.#ctx.storage, members);
  }

  #tell(): void {
    if (this.serf === undefined || this.#hasLeft) return;
    const reasons: string[] = [];
    if (this.#blockedAt !== undefined)
      reasons.push(
        `UDP does not pass to ${this.#blockedAt}, TCP does: open UDP port ${this.#transport.port} both ways, or set udp = false`,
      );
    if (this.#conflicts.words !== undefined) reasons.push(this.#conflicts.words);
    if (this.#joinFault !== undefined) reasons.push(`no member of the cluster answers: ${this.#joinFault}`);
    const reason = reasons.join("; ");
    if (reason === this.#told && this.#told !== "") return;
    this.#told = reason;
    this.#ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
  }
}

export const nameOf = ({ self }: Pick<PluginContext, "self">, { name }: SerfConfig): string =>
  name ?? self.callsign ?? self.id.slice(0, 20);

/** What others are told of where this node listens. */
async function advertisedAt(
  ctx: Pick<PluginContext, "network">,
  { advertise }: SerfConfig,
  host: string,
  port: number,
): Promise<At> {
  if (advertise !== undefined) {
    const wanted: HostPort = seedOf(advertise)!;
    const [first] = await resolveHost(wanted.host);
    const isPortGiven = wanted.port !== DEFAULT_PORT || advertise.endsWith(`:${DEFAULT_PORT}`);
    return { address: first?.address ?? wanted.host, port: isPortGiven ? wanted.port : port };
  }
  const addresses = ctx.network.addresses();
  if (!isWildcard(host)) {
    const isName = tryParseIp(host) === undefined;
    return { address: isName ? ((await resolveHost(host))[0]?.address ?? "127.0.0.1") : host, port };
  }
  const [found] = advertisedHosts({ host, isIpv6Only: false }, addresses);
  const any = addresses.find(({ family, scope }) => scope !== "link" && (family === 4 || host === "::"));
  return { address: found ?? any?.address ?? "127.0.0.1", port };
}

/** The operator's tags and those of the node's own; of where it is reached, and then of its machine, so much as has room, and what has none is said. */
async function tagsOf(
  { self, log }: Pick<PluginContext, "self" | "log">,
  { tags }: SerfConfig,
  name: string,
  at: At,
): Promise<Tags> {
  const wanted = whereOf(self.endpoints(), at);
  for (let where = wanted; ; where = where.slice(0, -1)) {
    const all = new Map([...Object.entries(tags), [IDENTITY_TAG, await makeTag(self, name, at, where)]]);
    if (where.length > 0 && !haveRoom(all)) continue;
    if (where.length < wanted.length)
      log.warn("serf tags leave no room for endpoints", { untold: wanted.slice(where.length).join(" ") });
    const { told, untold } = withCapabilities(all, self.tags);
    if (untold.length > 0) log.warn("serf tags leave no room for node.tags", { untold: untold.join(" ") });
    return told;
  }
}
