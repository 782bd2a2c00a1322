/** A cluster in virtual time: real members on a network in memory that loses, blocks and cuts what a test says. */
import type { Random } from "@godwit/sdk";
import { GodwitError } from "@godwit/sdk";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import type { Net, NetHandlers } from "./memberlist/net.ts";
import { Timers } from "./memberlist/timers.ts";
import { type Profile, timings } from "./memberlist/timing.ts";
import { Keys } from "./serf/keys.ts";
import type { Status } from "./serf/roll.ts";
import { Serf } from "./serf/serf.ts";
import type { At } from "./wire/messages.ts";
import type { UserEvent } from "./wire/serf-messages.ts";

const LATENCY_MS = 2;
const STEP_MS = 5;

const silent = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silent,
};

const keyOf = ({ address, port }: At): string => `${address} ${port}`;

export interface Fake {
  readonly serf: Serf;
  readonly timers: Timers;
  readonly at: At;
  readonly events: UserEvent[];
  readonly conflicts: string[];
  readonly dropped: string[];
  readonly blocked: (string | undefined)[];
  /** Changes of the state of others, as they came. */
  readonly changes: string[];
}

export class FakeCluster {
  readonly clock = new ManualClock();
  readonly random: Random;
  readonly members: Fake[] = [];
  readonly #handlers = new Map<string, NetHandlers>();
  /** Parts of 1 of datagrams that vanish. */
  loss = 0;
  /** Whether a datagram, or a stream, passes. */
  passes: (from: At, to: At, kind: "datagram" | "stream") => boolean = () => true;
  /** Told of each datagram, those that vanish included. */
  watch: (to: At, messages: readonly Uint8Array[]) => void = () => {};
  datagrams = 0;

  constructor(seed = 1) {
    this.random = seededRandom(seed);
  }

  add(
    name: string,
    options: {
      profile?: Profile;
      isStreamsOnly?: boolean;
      at?: At;
      isOwn?: boolean;
      refusal?: (address: string) => string | undefined;
    } = {},
  ): Fake {
    const at = options.at ?? { address: `192.0.2.${this.members.length + 1}`, port: 7_946 };
    const timers = new Timers(this.clock, this.random);
    const fake = {
      events: [] as UserEvent[],
      conflicts: [] as string[],
      dropped: [] as string[],
      blocked: [] as (string | undefined)[],
      changes: [] as string[],
    };
    const serf = new Serf({
      name,
      at,
      tags: new Map([["role", name]]),
      timing: timings[options.profile ?? "lan"],
      isStreamsOnly: options.isStreamsOnly ?? false,
      timers,
      random: this.random,
      log: silent,
      net: this.#net(at),
      keys: new Keys(undefined, async () => {}),
      refusal: options.refusal ?? (() => undefined),
      events: {
        changed: (before, after) => {
          if (before?.status !== after?.status)
            fake.changes.push(`${(after ?? before)!.name} ${after?.status ?? "forgotten"}`);
        },
        event: (event) => fake.events.push(event),
        conflict: (of, isSelf, other) =>
          fake.conflicts.push(`${of}${isSelf ? " (self)" : ""} ${other.address}`),
        blocked: (member) => fake.blocked.push(member?.name),
        isOwn: async () => options.isOwn ?? false,
        answer: (query) => (query.name === "name" ? new TextEncoder().encode(name) : undefined),
        dropped: (reason) => fake.dropped.push(reason),
      },
    });
    const member: Fake = { serf, timers, at, ...fake };
    this.#handlers.set(keyOf(at), serf.memberlist);
    this.members.push(member);
    serf.start();
    return member;
  }

  /** It is gone, and says nothing. */
  kill(member: Fake): void {
    member.timers.close();
    this.#handlers.delete(keyOf(member.at));
    this.members.splice(this.members.indexOf(member), 1);
  }

  async run(ms: number): Promise<void> {
    const untilMs = this.clock.monotonicMs() + ms;
    while (this.clock.monotonicMs() < untilMs) {
      this.clock.advance(STEP_MS);
      // What was promised goes on, and what that promises.
      for (let i = 0; i < 12; i++) await Promise.resolve();
    }
  }

  /** Rejects as the join does. */
  async join(member: Fake, at: At): Promise<void> {
    let isOver = false;
    const joining = member.serf.join(at).finally(() => (isOver = true));
    joining.catch(() => {});
    await this.until("a join", () => isOver, 20_000);
    await joining;
  }

  /** Answers after how long it was so. */
  async until(what: string, isTrue: () => boolean, withinMs: number): Promise<number> {
    const startMs = this.clock.monotonicMs();
    while (!isTrue()) {
      if (this.clock.monotonicMs() - startMs > withinMs)
        throw new Error(`${what}: not within ${withinMs} ms: ${JSON.stringify(this.#seen())}`);
      await this.run(STEP_MS);
    }
    return this.clock.monotonicMs() - startMs;
  }

  /** Whether all, or those, see it so; a name that is not there is seen by nobody. */
  sees(name: string, status: Status | undefined, among: readonly Fake[] = this.members): boolean {
    return among.every(({ serf }) => serf.roll.get(name)?.status === status);
  }

  close(): void {
    for (const { timers } of this.members) timers.close();
  }

  #seen(): Record<string, string> {
    return Object.fromEntries(
      this.members.map(({ serf }) => [
        serf.memberlist.members.self.name,
        [...serf.roll].map(({ name, status }) => `${name}=${status}`).join(" "),
      ]),
    );
  }

  #net(own: At): Net {
    const later = (fn: () => void) => void this.clock.after(LATENCY_MS, fn);
    const stream = (to: At, message: Uint8Array, timeoutMs: number): Promise<Uint8Array | undefined> => {
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
      const fail = () => reject(new GodwitError("GODWIT_DIAL_FAILED", "no way", { kind: "transport" }));
      const handlers = this.#handlers.get(keyOf(to));
      if (handlers === undefined || !this.passes(own, to, "stream")) {
        this.clock.after(Math.min(timeoutMs, 1_000), fail);
        return promise;
      }
      const copy = message.slice();
      later(() => {
        try {
          const answer = handlers.stream(copy, { address: own.address, port: 40_000 });
          later(() => resolve(answer?.slice()));
        } catch {
          fail();
        }
      });
      return promise;
    };
    return {
      room: 1_393,
      packet: (to, messages) => {
        this.datagrams++;
        this.watch(to, messages);
        if (!this.passes(own, to, "datagram") || this.random.float() < this.loss) return;
        const copies = messages.map((message) => message.slice());
        later(() => {
          for (const message of copies)
            try {
              this.#handlers.get(keyOf(to))?.packet(message, own);
            } catch {
              // Counted by the real one.
            }
        });
      },
      ask: async (to, message, timeoutMs) => {
        const answer = await stream(to, message, timeoutMs);
        if (answer === undefined)
          throw new GodwitError("GODWIT_DIAL_FAILED", "no answer", { kind: "transport" });
        return answer;
      },
      tell: async (to, message, timeoutMs) => void (await stream(to, message, timeoutMs)),
    };
  }
}

/** So many who joined the first and see each other. */
export async function grownCluster(
  count: number,
  options: Parameters<FakeCluster["add"]>[1] = {},
  seed = 1,
): Promise<FakeCluster> {
  const cluster = new FakeCluster(seed);
  for (let i = 0; i < count; i++) cluster.add(`n${i}`, options);
  const [first] = cluster.members;
  for (const member of cluster.members.slice(1)) void member.serf.join(first!.at);
  await cluster.until(
    "all see all",
    () => cluster.members.every((one) => cluster.sees(one.serf.memberlist.members.self.name, "alive")),
    20_000,
  );
  return cluster;
}
