/** What Godwit expects of every plugin that offers a named service to others of its node: answers, endings, and patience with who is slow. */
import { SERVICE_LIMITS, type ServiceChannel, type ServiceSending } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import {
  type Check,
  demand,
  demandNothing,
  isGodwitError,
  quiet,
  register,
  type Runner,
  settled,
  stopHost,
  type Subject,
  turn,
  until,
} from "./check.ts";
import { lifecycleChecks, onHost, type PluginSetup, succeeds } from "./lifecycle.ts";

/** What is asked, and with what. */
export interface ServiceSample {
  readonly ask: string;
  readonly message?: ServiceSending;
}

export interface ProviderSetup extends PluginSetup {
  /** The name that it offers within two seconds of its start. */
  readonly service: string;
  /** Requests that it answers. */
  readonly requests?: readonly ServiceSample[];
  /** Channels that it takes, each of which gets what `feed` makes. */
  readonly channels?: readonly ServiceSample[];
  /** Brings it to where it can answer (a source that it reads); answers how to undo that. */
  prepare?(host: TestHost): Promise<() => void>;
  /** Makes it hear of so many things that it has to send on its channels. With `channels`. */
  feed?(host: TestHost, count: number): void | Promise<void>;
}

/** What a provider may keep for a reader that takes nothing, in messages; so many more are fed. */
const [UNREAD_MESSAGES_MAX, FED_MESSAGES] = [16_384, 20_000];
/** As they come: a reader that takes them has room for so many. */
const BURST = 100;

const strange: readonly ServiceSending[] = [
  {},
  { json: 7 },
  { json: [] },
  { json: { ["__proto__"]: 1, a: { b: [null, "\u0000"] } } },
  { json: "x".repeat(SERVICE_LIMITS.jsonBytes - 2), bytes: new Uint8Array(1_024).fill(0xff) },
];

/** One consumer of its own, whose end is not that of the plugin. */
function consumerOf(host: TestHost, setup: ProviderSetup, name = "service.conformance") {
  const stopping = new AbortController();
  const used = host.services.door(name, stopping.signal).use(setup.service);
  return { used, stop: () => stopping.abort(new Error("the consumer has stopped")) };
}
type Consumer = ReturnType<typeof consumerOf>;

const onProvider =
  (body: (consumer: Consumer, host: TestHost, step: () => void, setup: ProviderSetup) => Promise<void>) =>
  (setup: ProviderSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      const { services } = host;
      await until(() => services.offered.includes(setup.service), `it offers "${setup.service}"`, step);
      const undo = await setup.prepare?.(host);
      const consumer = consumerOf(host, setup);
      try {
        await body(consumer, host, step, setup);
        consumer.stop();
        await stopHost(host, step);
      } finally {
        consumer.stop();
        undo?.();
      }
      demand(!services.offered.includes(setup.service), "it is offered after the stop");
      await until(() => services.channelCount === 0, "channels end with the plugin", step);
      await until(
        () => services.requestCount === 0,
        "requests are settled once the plugin has stopped",
        step,
      );
    });

/** It is alive and none of its code has failed. */
function demandWell(host: TestHost, after: string): void {
  const failed = host.tasks.find(({ error }) => error !== undefined);
  demand(failed === undefined, `${after}, task "${failed?.name}" failed: ${String(failed?.error)}`);
  const [error] = host.services.handlerErrors;
  demand(error === undefined, `${after}, a handler of a channel threw: ${String(error)}`);
  demand(host.health.at(-1)?.state !== "down", `${after}, it says that it is down`);
}

async function demandAnswers({ used }: Consumer, setup: ProviderSetup, step: () => void): Promise<void> {
  for (const { ask, message } of setup.requests ?? [])
    await succeeds(used.request(ask, message), `"${ask}"`, step);
}

/** A channel that is open, and what came of it. */
async function openSample({ used }: Consumer, { ask, message }: ServiceSample, step: () => void) {
  const channel = await succeeds(used.openChannel(ask, message), `a channel for "${ask}"`, step);
  const seen = { messages: 0, closes: 0, error: undefined as Error | undefined };
  channel.open({
    message: () => void seen.messages++,
    drain() {},
    closed(error) {
      seen.closes++;
      seen.error = error;
    },
  });
  return { channel, seen };
}

const checkAnswers = onProvider(async (consumer, host, step, setup) => {
  await demandAnswers(consumer, setup, step);
  for (const sample of setup.channels ?? []) {
    const { channel, seen } = await openSample(consumer, sample, step);
    await setup.feed?.(host, 8);
    if (setup.feed !== undefined) await until(() => seen.messages > 0, "what it hears of is sent", step);
    channel.close();
    await until(() => seen.closes === 1, "a channel that was closed ends", step);
    demand(seen.error === undefined, `a channel that was closed ends with ${String(seen.error)}`);
  }
  await until(() => host.services.channelCount === 0, "closed channels are gone", step);
  demandNothing(host.violations, "while it ran");
});

const checkStrange = onProvider(async (consumer, host, step, setup) => {
  const { used } = consumer;
  const { requests = [], channels = [] } = setup;
  const unknown = await settled(used.request("no.such-ask"), "a request that it does not know", step);
  demand(!unknown.isFulfilled, "it answers a request that it does not know");
  for (const ask of ["no.such-ask", ...requests.map((sample) => sample.ask)])
    for (const message of strange) {
      const end = await settled(used.request(ask, message), `"${ask}" with a strange message`, step);
      demand(
        end.isFulfilled || (isGodwitError(end.error) && end.error.code !== "GODWIT_PLUGIN_FAILED"),
        `"${ask}" with a strange message fails instead of being refused: ${end.isFulfilled ? "" : String(end.error)}`,
      );
    }
  const refused = await settled(used.openChannel("no.such-ask"), "a channel that it does not know", step);
  demand(!refused.isFulfilled, "it takes a channel that it does not know");
  for (const sample of channels) {
    const { channel } = await openSample(consumer, sample, step);
    for (const message of strange) channel.send(message);
    await quiet(step);
    channel.close();
  }
  await quiet(step);
  demandWell(host, "after strange messages");
  await demandAnswers(consumer, setup, step);
});

const checkSlowReader = onProvider(async (consumer, host, step, setup) => {
  const { services } = host;
  for (const sample of setup.channels ?? []) {
    const slow = await openSample(consumer, sample, step);
    slow.channel.pause(true);
    const other = consumerOf(host, setup, "service.other");
    const quick = await openSample(other, sample, step);
    const before = services.impatientCount;
    for (let fed = 0; fed < FED_MESSAGES; fed += BURST) {
      await setup.feed!(host, BURST);
      await turn();
    }
    await until(() => services.refusedCount > 0, "a reader that takes nothing fills its window", step);
    await quiet(step);
    demand(
      services.impatientCount === before,
      "it sends again before drain after a send that answered false",
    );
    await demandAnswers(consumer, setup, step);
    await until(
      () => quick.seen.messages > 0,
      "one slow reader leaves the others what they should get",
      step,
    );
    const had = quick.seen.messages;
    await setup.feed!(host, 8);
    await until(
      () => quick.seen.messages > had,
      "one slow reader leaves the others what they should get",
      step,
    );
    slow.channel.pause(false);
    await quiet(step);
    const late = slow.seen.messages;
    demand(slow.seen.closes + quick.seen.closes === 0, "it closes a channel because its reader was slow");
    demand(late <= UNREAD_MESSAGES_MAX, `it kept ${late} messages for one reader that took none`);
    await setup.feed!(host, 8);
    await until(() => slow.seen.messages > late, "a reader that goes on gets what is new", step);
    other.stop();
    slow.channel.close();
  }
});

const checkGivenUp = onProvider(async (consumer, host, step, setup) => {
  const { services } = host;
  for (const { ask, message } of setup.requests ?? []) {
    const giving = new AbortController();
    const reason = new Error("no longer wanted");
    const end = settled(
      consumer.used.request(ask, message, { signal: giving.signal }),
      "a request that was given up",
      step,
    );
    await Promise.resolve();
    giving.abort(reason);
    await end;
    await until(() => services.requestCount === 0, `"${ask}" settles soon after it was given up`, step);
  }
  demandWell(host, "after requests that were given up");
  await demandAnswers(consumer, setup, step);
});

const checkConsumerGoes = onProvider(async (consumer, host, step, setup) => {
  const { services } = host;
  const leaving = consumerOf(host, setup, "service.leaving");
  for (const sample of setup.channels ?? []) await openSample(leaving, sample, step);
  const asking = (setup.requests ?? []).map(({ ask, message }) => leaving.used.request(ask, message));
  const ends = Promise.allSettled(asking);
  leaving.stop();
  await settled(ends, "requests of a consumer that went", step);
  await setup.feed?.(host, 8);
  await quiet(step);
  await until(
    () => services.channelCount === 0 && services.requestCount === 0,
    "what a consumer had open ends when it goes",
    step,
  );
  demandWell(host, "after its consumer went");
  await demandAnswers(consumer, setup, step);
});

const checkStopMidCall = onProvider(async (consumer, host, step, setup) => {
  const { services } = host;
  const open: { channel: ServiceChannel; seen: { closes: number } }[] = [];
  for (const sample of setup.channels ?? []) open.push(await openSample(consumer, sample, step));
  const asking = (setup.requests ?? []).map(({ ask, message }) => consumer.used.request(ask, message));
  const ends = Promise.allSettled(asking);
  await stopHost(host, step);
  await settled(ends, "requests of a provider that stopped", step);
  await until(
    () => open.every(({ seen }) => seen.closes === 1),
    "channels end when the provider stops",
    step,
  );
  await until(() => services.requestCount === 0, "requests are settled once the plugin has stopped", step);
});

const hasFeed = ({ feed, channels = [] }: ProviderSetup): boolean =>
  feed !== undefined && channels.length > 0;

export const providerChecks: readonly Check<ProviderSetup>[] = [
  { name: "what it offers is there, and answers", run: checkAnswers },
  { name: "what it does not know is refused, and harms nothing", run: checkStrange },
  { name: "a slow reader is waited for, in bounds, and alone", applies: hasFeed, run: checkSlowReader },
  { name: "a request that was given up is settled", run: checkGivenUp },
  { name: "a consumer that goes leaves nothing", run: checkConsumerGoes },
  { name: "stop in the middle of requests and channels", run: checkStopMidCall },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given: for whatever namespace the provider has, beside its own suite. */
export const providerConformance = (subject: Subject<ProviderSetup>, runner?: Runner): void =>
  register("provider conformance", providerChecks, subject, runner);
