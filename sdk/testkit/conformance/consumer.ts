/** What Godwit expects of every plugin that uses a service of another: its provider may be late, gone, slow, wrong or noisy. */
import {
  GodwitError,
  type OfferedService,
  SERVICE_LIMITS,
  type ServiceChannel,
  type ServiceSending,
} from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import { type Check, demand, quiet, register, type Runner, stopHost, type Subject, until } from "./check.ts";
import { lifecycleChecks, onHost, type PluginSetup } from "./lifecycle.ts";

export interface ConsumerSetup extends PluginSetup {
  /** The name that it uses soon after it is offered. */
  readonly service: string;
  /** A provider as it should be. */
  provider(): OfferedService;
  /** What else makes it use the service (a message that comes). Called whenever it should. */
  provoke?(host: TestHost): void;
}

interface Provider {
  /** Requests and openings. */
  asked: number;
  stop(): void;
}

/** Offers what is given under the name of one provider, and counts who asks. */
function offer(host: TestHost, { service }: ConsumerSetup, { request, channel }: OfferedService): Provider {
  const stopping = new AbortController();
  const provider = { asked: 0, stop: () => stopping.abort(new Error("the provider has stopped")) };
  host.services.door("transport.conformance", stopping.signal).offer(service, {
    ...(request === undefined ? {} : { request: (...asked) => (provider.asked++, request(...asked)) }),
    ...(channel === undefined ? {} : { channel: (...opened) => (provider.asked++, channel(...opened)) }),
  });
  return provider;
}

const strange: readonly ServiceSending[] = [
  {},
  { json: 7 },
  { json: { unheard: ["of", null] } },
  { json: "x".repeat(SERVICE_LIMITS.jsonBytes - 2), bytes: new Uint8Array(1_024).fill(0xff) },
];
const refusal = () => new GodwitError("GODWIT_QUOTA", "not now", { kind: "capacity", retry: "later" });

/** None of its code has failed, and it waits when it is told to. */
function demandWell({ tasks, services }: TestHost): void {
  const failed = tasks.find(({ error }) => error !== undefined);
  demand(failed === undefined, `task "${failed?.name}" failed: ${String(failed?.error)}`);
  const [thrown] = services.handlerErrors;
  demand(thrown === undefined, `a handler of a channel threw: ${String(thrown)}`);
  demand(services.impatientCount === 0, "it sends again before drain after a send that answered false");
}

const onConsumer =
  (body: (host: TestHost, step: () => void, setup: ConsumerSetup) => Promise<void>) =>
  (setup: ConsumerSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      const provoking = () => {
        setup.provoke?.(host);
        step();
      };
      await body(host, provoking, setup);
      await quiet(provoking);
      demandWell(host);
      await stopHost(host, step);
      await until(() => host.services.channelCount === 0, "channels end with the plugin", step);
    });

const checkLate = onConsumer(async (host, step, setup) => {
  await quiet(step);
  demand(
    host.health.at(-1)?.state !== "down",
    "without its provider it says that it is down; it may only be degraded",
  );
  const provider = offer(host, setup, setup.provider());
  await until(() => provider.asked > 0, `it uses "${setup.service}" once that is offered`, step);
});

const checkAgain = onConsumer(async (host, step, setup) => {
  for (const life of ["first", "second", "third"]) {
    const provider = offer(host, setup, setup.provider());
    await until(() => provider.asked > 0, `it uses the ${life} life of its provider`, step);
    provider.stop();
    await quiet(step);
  }
});

const checkRefusals = onConsumer(async (host, step, setup) => {
  const gone = offer(host, setup, {
    request: () => Promise.reject(refusal()),
    channel: () => Promise.reject(refusal()),
  });
  await until(() => gone.asked > 0, "it asks a provider that refuses", step);
  await quiet(step);
  demandWell(host);
  gone.stop();
  await quiet(step);
  const provider = offer(host, setup, setup.provider());
  await until(() => provider.asked > 0, "it uses its provider after one that refused", step);
});

/** Answers and messages that mean nothing to it; an end in between. */
const checkStrange = onConsumer(async (host, step, setup) => {
  let turn = 0;
  const noisy = offer(host, setup, {
    request: async () => strange[turn++ % strange.length]!,
    channel(channel) {
      channel.open({ message() {}, drain() {}, closed() {} });
      for (const message of strange) channel.send(message);
      channel.close();
    },
  });
  await until(() => noisy.asked > 0, "it asks its provider", step);
  await quiet(step);
  demandWell(host);
  noisy.stop();
  await quiet(step);
  const provider = offer(host, setup, setup.provider());
  await until(() => provider.asked > 0, "it uses its provider after one that answered nonsense", step);
});

/** Nobody answers, nobody reads. */
const checkSilent = onConsumer(async (host, step, setup) => {
  const channels: ServiceChannel[] = [];
  const silent = offer(host, setup, {
    request: (_request, signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(refusal()), { once: true })),
    channel(channel) {
      channels.push(channel);
      channel.open({ message() {}, drain() {}, closed() {} });
      channel.pause(true);
    },
  });
  await until(() => silent.asked > 0, "it asks a provider that is silent", step);
  await quiet(step);
  demand(
    channels.length <= SERVICE_LIMITS.channels,
    `it opens ${channels.length} channels that nobody reads`,
  );
  demand(
    host.services.requestCount <= SERVICE_LIMITS.requests,
    `${host.services.requestCount} of its requests wait for one provider that does not answer`,
  );
});

export const consumerChecks: readonly Check<ConsumerSetup>[] = [
  { name: "a provider that comes later is used", run: checkLate },
  { name: "a provider that goes and comes again is used again", run: checkAgain },
  { name: "a provider that refuses harms nothing", run: checkRefusals },
  { name: "answers and messages that mean nothing harm nothing", run: checkStrange },
  { name: "stop while a provider neither answers nor reads", run: checkSilent },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given: for whatever namespace the consumer has, beside its own suite. */
export const consumerConformance = (subject: Subject<ConsumerSetup>, runner?: Runner): void =>
  register("consumer conformance", consumerChecks, subject, runner);
