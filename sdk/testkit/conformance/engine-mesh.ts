/** What Godwit expects of an engine that looks at members or talks to its like: neither strangers nor slow ones stop it. */
import type { MemberState } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import type { FakeStream } from "../streams.ts";
import { type Check, demand, quiet, settled } from "./check.ts";
import { onHost, type PluginSetup, succeeds } from "./lifecycle.ts";

const STATES: readonly MemberState[] = ["alive", "suspect", "failed", "left"];
const CROWD = 600;
const VALUE_BYTES = 65_536;
/** Together far above what may wait unread. */
const WRITES = 64;
const UNREAD_BYTES_MAX = 1_048_576;
const never = new AbortController().signal;
const idOf = (n: number): string =>
  n
    .toString()
    .padStart(8, "0")
    .replaceAll(/\d/g, (digit) => "abcdefghij"[Number(digit)]!) + "b".repeat(44);

/** On a started engine, which answers in the end. A promise that is rejected unheard fails the test by itself. */
const onEngine =
  (body: (host: TestHost, step: () => void) => Promise<void>) =>
  (setup: PluginSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      await body(host, step);
      await quiet(step);
      const failure = [...host.streams.failures, ...host.members.failures][0];
      demand(failure === undefined, `a handler fails: ${String(failure)}`);
      await put(host, "after", 1, step);
    });

const put = async (host: TestHost, key: string, length: number, step: () => void) =>
  void (await succeeds(host.engines[0]!.put(key, new Uint8Array(length), never), "put", step));

const checkMembers = onEngine(async (host, step) => {
  for (const state of STATES) await host.members.set(idOf(0), { state });
  await host.members.setAll(
    Array.from({ length: CROWD }, (_, n) => ({ id: idOf(n), state: STATES[n % STATES.length]! })),
  );
  await quiet(step);
  await host.members.setAll(Array.from({ length: CROWD + 1 }, (_, n) => ({ id: idOf(n) })));
});

/** One of its channels after the other, with what a stranger says. */
async function strange(host: TestHost, step: () => void, then: (stream: FakeStream) => void): Promise<void> {
  for (const channel of host.streams.channels)
    for (const length of [0, 1, 512]) {
      const metadata = new Uint8Array(length).fill(0xff);
      const asked = host.streams.receiveStream(channel, idOf(1), metadata);
      const end = await settled(asked, `a stream to "${channel}" is accepted or reset`, step);
      if (!end.isFulfilled) continue;
      end.value.open({ data() {}, end() {}, drain() {}, closed() {} });
      end.value.write(new Uint8Array(VALUE_BYTES).fill(0xff));
      await quiet(step);
      then(end.value);
    }
}

const checkStrangers = onEngine(async (host, step) => {
  await strange(host, step, (stream) => stream.end());
  await strange(host, step, (stream) => stream.reset());
});

const checkRefused = onEngine(async (host, step) => {
  host.streams.answerStream = (far) => far.reset();
  await host.members.set(idOf(1), { state: "alive" });
  await put(host, "refused", 1, step);
  await quiet(step);
  // Taken, and given up at once.
  host.streams.answerStream = (far) => {
    far.accept();
    far.reset();
  };
  await host.members.set(idOf(2), { state: "alive" });
  await put(host, "reset", 1, step);
});

const checkSlow = onEngine(async (host, step) => {
  host.streams.answerStream = (far) => far.accept();
  await host.members.set(idOf(1), { state: "alive" });
  for (const channel of host.streams.channels)
    await settled(host.streams.receiveStream(channel, idOf(2)), "a stream is accepted or reset", step);
  for (let n = 0; n < WRITES; n++) {
    await put(host, `slow/${n}`, VALUE_BYTES, step);
    for (const { unreadAtFarEnd } of host.streams.openStreams)
      demand(
        unreadAtFarEnd <= UNREAD_BYTES_MAX,
        `${unreadAtFarEnd} bytes wait at a far end that does not read: a write that answers false is to be the last before drain`,
      );
  }
});

const asksFor =
  (...permissions: readonly string[]) =>
  ({ plugin }: PluginSetup): boolean =>
    permissions.some((one) => plugin.permissions.includes(one));
const streams = asksFor("engine.streams");

export const engineMeshChecks: readonly Check<PluginSetup>[] = [
  {
    name: "members of any state, many at once, and those that are none any more do no harm",
    applies: asksFor("engine.members"),
    run: checkMembers,
  },
  {
    name: "streams of strangers are accepted or reset, and do no harm",
    applies: streams,
    run: checkStrangers,
  },
  {
    name: "a far end that refuses a stream, or resets it, does no harm",
    applies: streams,
    run: checkRefused,
  },
  {
    name: "a far end that does not read is written no more, and holds up no call",
    applies: streams,
    run: checkSlow,
  },
];
