/**
 * Which plugin of this node offers which service, and who uses it. Owns every check between the two: permission before, rate, counts and
 * deadline around, an ending for whatever is open when either goes. Must never let one plugin wait for another without a bound,
 * nor hand one an object that the other can still change. Decision: docs/decisions/0011-services-between-plugins.md.
 */
import {
  type Clock,
  type Log,
  type OfferedService,
  SERVICE_LIMITS,
  type ServiceCallOptions,
  type ServiceChannel,
  type ServiceMessage,
  type ServiceSending,
  type Services,
  type UsedService,
} from "@godwit/sdk";
import { TokenBucket } from "../../kernel/backoff.ts";
import { asGodwitError, GodwitError, godwitError } from "../../kernel/errors.ts";
import type { Metrics } from "../../kernel/metrics.ts";
import type { Scope } from "../../kernel/scope.ts";
import { type ChannelPair, openChannelPair } from "./channel.ts";
import { checkAsk, checkServiceName, openMessage, type SealedMessage, sealMessage } from "./message.ts";

/** Of one service by one consumer. */
const LISTENERS_MAX = 64;

/** What the operator lets one plugin do. */
export interface ServicePolicy {
  mayOffer(name: string): boolean;
  mayUse(name: string): boolean;
  /** Why it may not have that permission. */
  refusal(permission: string): string;
}

/** One life of a plugin, as the board sees it. */
export interface BoardMember {
  /** `<namespace>.<instance>`. */
  readonly source: string;
  readonly scope: Scope;
  readonly policy: ServicePolicy;
  readonly log: Log;
}

/** One provider's life. What is open ends with it. */
interface Offer {
  readonly source: string;
  readonly service: OfferedService;
  readonly log: Log;
  /** Each is told when it ends. */
  readonly open: Set<(error: GodwitError) => void>;
  /** What gives back the place of each request that it is not done with. */
  readonly places: Set<() => void>;
}

export class ServiceBoard {
  readonly #clock: Clock;
  readonly #offers = new Map<string, Offer>();
  readonly #watchers = new Map<string, Set<() => void>>();
  readonly #counters: BoardCounters;

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#counters = exposeCounters(metrics);
  }

  /** `ctx.services` of one life of a plugin. */
  door(member: BoardMember): Services {
    const { scope, policy } = member;
    const check = (name: string, isAllowed: boolean, permission: string) => {
      if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
      if (!isAllowed) throw godwitError("GODWIT_FORBIDDEN", policy.refusal(`${permission}:${name}`));
    };
    const offered = new Set<string>();
    const used = new Map<string, Use>();
    return {
      offer: (name, service) => {
        checkServiceName(name);
        check(name, policy.mayOffer(name), "service.offer");
        if (!offered.has(name) && offered.size >= SERVICE_LIMITS.offers)
          throw godwitError("GODWIT_QUEUE_FULL", `a plugin offers at most ${SERVICE_LIMITS.offers} services`);
        this.#offer(name, service, member);
        offered.add(name);
      },
      use: (name) => {
        checkServiceName(name);
        check(name, policy.mayUse(name), "service");
        const known = used.get(name);
        if (known !== undefined) return known;
        if (used.size >= SERVICE_LIMITS.uses)
          throw godwitError("GODWIT_QUEUE_FULL", `a plugin uses at most ${SERVICE_LIMITS.uses} services`);
        const use = new Use(name, member, this.#clock, this.#counters, {
          offer: () => this.#offers.get(name),
          watch: (fn) => this.#watch(name, fn),
        });
        used.set(name, use);
        return use;
      },
    };
  }

  #offer(name: string, service: OfferedService, { source, scope, log }: BoardMember): void {
    const before = this.#offers.get(name);
    if (before !== undefined && before.source !== source)
      throw godwitError("GODWIT_SERVICE_TAKEN", `"${name}" is offered by ${before.source} already`);
    if (service.request === undefined && service.channel === undefined)
      throw godwitError("GODWIT_REQUEST_INVALID", "a service takes requests, channels or both");
    if (before !== undefined) this.#withdraw(name, before, "was replaced");
    const offer: Offer = { source, service, log, open: new Set(), places: new Set() };
    this.#offers.set(name, offer);
    // At once, not when its tasks are over: nobody should wait for what will not come.
    scope.signal.addEventListener("abort", () => this.#withdraw(name, offer, "stopped"), { once: true });
    this.#tell(name);
  }

  #withdraw(name: string, offer: Offer, how: string): void {
    if (this.#offers.get(name) !== offer) return;
    this.#offers.delete(name);
    const error = godwitError("GODWIT_SERVICE_GONE", `${offer.source}, which offers "${name}", ${how}`);
    for (const end of [...offer.open]) end(error);
    offer.open.clear();
    // What its life never got done is nobody's any more.
    for (const release of [...offer.places]) release();
    this.#tell(name);
  }

  #watch(name: string, fn: () => void): () => void {
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(fn));
    return () => {
      watchers.delete(fn);
      if (watchers.size === 0 && this.#watchers.get(name) === watchers) this.#watchers.delete(name);
    };
  }

  #tell(name: string): void {
    for (const fn of this.#watchers.get(name) ?? []) fn();
  }
}

interface Board {
  offer(): Offer | undefined;
  watch(fn: () => void): () => void;
}

/** One consumer's hold of one service. */
class Use implements UsedService {
  readonly name: string;
  readonly #member: BoardMember;
  readonly #clock: Clock;
  readonly #counters: BoardCounters;
  readonly #board: Board;
  readonly #rate: TokenBucket;
  #requests = 0;
  #channels = 0;
  #listeners = 0;

  constructor(name: string, member: BoardMember, clock: Clock, counters: BoardCounters, board: Board) {
    this.name = name;
    this.#member = member;
    this.#clock = clock;
    this.#counters = counters;
    this.#board = board;
    const { requestsPerSecond } = SERVICE_LIMITS;
    this.#rate = new TokenBucket(clock, requestsPerSecond, requestsPerSecond);
  }

  get isThere(): boolean {
    return !this.#member.scope.isClosed && this.#board.offer() !== undefined;
  }

  onChange(fn: () => void): void {
    const { scope, log } = this.#member;
    this.#check();
    if (++this.#listeners > LISTENERS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `at most ${LISTENERS_MAX} listen to one service`);
    const stop = this.#board.watch(() =>
      queueMicrotask(() => {
        if (scope.isClosed) return;
        try {
          fn();
        } catch (error) {
          log.error("onChange handler failed", { error: asGodwitError(error) });
        }
      }),
    );
    scope.own(stop);
  }

  async whenThere(signal?: AbortSignal): Promise<void> {
    this.#check();
    signal?.throwIfAborted();
    if (this.isThere) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stop = this.#board.watch(() => {
      if (this.isThere) resolve();
    });
    const { scope } = this.#member;
    const onStop = () => reject(stopped());
    const onAbort = () => reject(signal?.reason);
    scope.signal.addEventListener("abort", onStop, { once: true });
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      stop();
      scope.signal.removeEventListener("abort", onStop);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async request(
    ask: string,
    message: ServiceSending = {},
    options: ServiceCallOptions = {},
  ): Promise<ServiceMessage> {
    const sealed = this.#prepare(ask, message, options);
    const offer = this.#theOffer();
    const { request } = offer.service;
    if (request === undefined) throw refused(`"${this.name}" takes no requests`);
    this.#take(this.#requests < SERVICE_LIMITS.requests, "requests that wait for an answer");
    const release = this.#takePlace(offer);
    let isAsked = false;
    try {
      const answer = await this.#within(offer, options, (signal) => {
        const { source } = this.#member;
        isAsked = true;
        const asking = (async () =>
          await request.call(offer.service, { ask, consumer: source, ...openMessage(sealed) }, signal))();
        // Until the provider is done with it, it counts: whoever gives up and asks again gets no further.
        asking.then(release, release);
        return asking;
      });
      const told = openMessage(sealAnswer(answer));
      this.#counters.requests("answered");
      return told;
    } catch (error) {
      this.#count(error);
      throw error;
    } finally {
      if (!isAsked) release();
    }
  }

  /** Of a request; what gives it back, once. */
  #takePlace({ places }: Offer): () => void {
    this.#requests++;
    const release = () => {
      if (places.delete(release)) this.#requests--;
    };
    places.add(release);
    return release;
  }

  async openChannel(
    ask: string,
    message: ServiceSending = {},
    options: ServiceCallOptions = {},
  ): Promise<ServiceChannel> {
    const sealed = this.#prepare(ask, message, options);
    const offer = this.#theOffer();
    const { channel } = offer.service;
    if (channel === undefined) throw refused(`"${this.name}" takes no channels`);
    this.#take(this.#channels < SERVICE_LIMITS.channels, "channels");
    const pair = this.#openPair(offer);
    try {
      await this.#within(offer, options, async () => {
        const opening = { ask, consumer: this.#member.source, ...openMessage(sealed) };
        await channel.call(offer.service, pair.far, opening);
      });
      this.#counters.requests("answered");
      return pair.near;
    } catch (error) {
      this.#count(error);
      pair.fail(asGodwitError(error));
      throw error;
    }
  }

  #openPair(offer: Offer): ChannelPair {
    const { source, scope, log } = this.#member;
    const onProviderGone = (error: GodwitError) => pair.fail(error);
    const onStop = () => pair.fail(godwitError("GODWIT_SERVICE_GONE", `${source}, the consumer, stopped`));
    this.#channels++;
    this.#counters.channels(1);
    const pair = openChannelPair(source, offer.source, {
      clock: this.#clock,
      sent: () => this.#counters.sent(),
      refused: () => this.#counters.refused(),
      failed: (end, error) =>
        (end === "consumer" ? log : offer.log).error("service channel handler failed", {
          service: this.name,
          error: asGodwitError(error),
        }),
      over: () => {
        this.#channels--;
        this.#counters.channels(-1);
        offer.open.delete(onProviderGone);
        scope.signal.removeEventListener("abort", onStop);
      },
    });
    offer.open.add(onProviderGone);
    scope.signal.addEventListener("abort", onStop, { once: true });
    return pair;
  }

  /** The provider's promise, or what comes first: its end, ours, the deadline, the caller's signal. */
  async #within<T>(
    offer: Offer,
    { signal, timeoutMs = SERVICE_LIMITS.timeoutMs }: ServiceCallOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { scope } = this.#member;
    const controller = new AbortController();
    const over = Promise.withResolvers<never>();
    const giveUp = (reason: unknown) => {
      over.reject(reason);
      controller.abort(reason);
    };
    const onStop = () => giveUp(stopped());
    const onAbort = () => giveUp(signal?.reason);
    offer.open.add(giveUp);
    scope.signal.addEventListener("abort", onStop, { once: true });
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = this.#clock.after(timeoutMs, () =>
      giveUp(godwitError("GODWIT_TIMEOUT", `"${this.name}" did not answer within ${timeoutMs / 1_000} s`)),
    );
    over.promise.catch(() => {});
    try {
      // Not within the caller's own call.
      await Promise.resolve();
      controller.signal.throwIfAborted();
      return await Promise.race([work(controller.signal), over.promise]);
    } catch (error) {
      // What aborted it says more than what the provider made of that.
      throw controller.signal.aborted ? controller.signal.reason : failureOf(this.name, error);
    } finally {
      timer.cancel();
      offer.open.delete(giveUp);
      scope.signal.removeEventListener("abort", onStop);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #prepare(ask: string, message: ServiceSending, { signal, timeoutMs }: ServiceCallOptions): SealedMessage {
    this.#check();
    signal?.throwIfAborted();
    checkAsk(ask);
    if (timeoutMs !== undefined && !(timeoutMs >= 1 && timeoutMs <= SERVICE_LIMITS.timeoutMsMax))
      throw refused(`timeoutMs is from 1 to ${SERVICE_LIMITS.timeoutMsMax}`);
    return sealMessage(message);
  }

  #check(): void {
    if (this.#member.scope.isClosed) throw stopped();
  }

  #theOffer(): Offer {
    const offer = this.#board.offer();
    if (offer !== undefined) return offer;
    this.#counters.requests("absent");
    throw godwitError("GODWIT_SERVICE_ABSENT", `nobody offers "${this.name}" now`);
  }

  #take(hasRoom: boolean, what: string): void {
    if (hasRoom && this.#rate.take()) return;
    this.#counters.requests("refused");
    throw godwitError(
      "GODWIT_QUEUE_FULL",
      hasRoom
        ? `more than ${SERVICE_LIMITS.requestsPerSecond} a second for "${this.name}"`
        : `too many ${what} of "${this.name}"`,
    );
  }

  #count(error: unknown): void {
    const code = error instanceof GodwitError ? error.code : undefined;
    const outcomes = { GODWIT_SERVICE_GONE: "gone", GODWIT_TIMEOUT: "timeout" } as const;
    this.#counters.requests(outcomes[code as keyof typeof outcomes] ?? "failed");
  }
}

const stopped = () => godwitError("GODWIT_STOPPED", "the plugin has stopped");
const refused = (what: string) => godwitError("GODWIT_REQUEST_INVALID", what);

/** What the provider answers must be a message, or it is its failure. */
function sealAnswer(answer: ServiceSending | undefined): SealedMessage {
  try {
    return sealMessage(answer ?? {});
  } catch (error) {
    throw godwitError("GODWIT_PLUGIN_FAILED", `the answer is no message: ${asGodwitError(error).message}`);
  }
}

/** A bug of a plugin is not one of the node. */
const failureOf = (name: string, thrown: unknown): GodwitError =>
  thrown instanceof GodwitError && thrown.kind !== "bug"
    ? thrown
    : godwitError(
        "GODWIT_PLUGIN_FAILED",
        `"${name}": ${thrown instanceof Error ? thrown.message : String(thrown)}`,
        thrown,
      );

interface BoardCounters {
  requests(outcome: "answered" | "failed" | "refused" | "absent" | "gone" | "timeout"): void;
  channels(by: 1 | -1): void;
  sent(): void;
  refused(): void;
}

function exposeCounters(metrics: Metrics): BoardCounters {
  const requests = metrics.counter("godwit_plugin_service_requests_total");
  const messages = metrics.counter("godwit_plugin_service_messages_total");
  let open = 0;
  metrics.observedGauge("godwit_plugin_service_channels", () => open);
  return {
    requests: (outcome) => requests.add(1, { outcome }),
    channels: (by) => void (open += by),
    sent: () => messages.add(1, { outcome: "taken" }),
    refused: () => messages.add(1, { outcome: "refused" }),
  };
}
