/** Every check is shown a plugin that breaks it, and none objects to the plugin that is as it should be. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Pipe } from "../src/index.ts";
import * as broken from "./broken.ts";
import {
  discoveryChecks,
  type DiscoverySetup,
  serviceChecks,
  TestHost,
  type ServiceSetup,
  transportChecks,
  type TransportSetup,
} from "./index.ts";
import { verdict } from "./broken-verdict.ts";

const transport = (kind: Pipe["kind"], fault?: broken.TransportFault) => ({
  name: "loop",
  setup: (): TransportSetup => ({
    plugin: broken.loopTransport(kind, fault),
    kind,
    hasMedium: kind === "datagram",
    listenConfig: { listen: "far" },
    dialConfig: {},
    badEndpoints: ["loop://", "loop:", "loop://A b"],
    unreadBytesMax: 1024 * 1024,
    async openVanishing(dialler) {
      const far = new TestHost(dialler.plugin, { clock: dialler.clock });
      await far.start({ listen: "vanishing" });
      const pipe = await dialler.driver!.dial("loop://vanishing", new AbortController().signal);
      return { pipe, vanish: () => far.accepted[0]!.close() };
    },
  }),
});
const discovery = (fault?: broken.DiscoveryFault) => ({
  name: "list",
  setup: (): DiscoverySetup => ({
    plugin: broken.listDiscovery(fault),
    config: {},
    expected: broken.knownHints,
  }),
});
const service = (fault?: broken.ServiceFault) => ({
  name: "echo",
  setup: (): ServiceSetup => {
    const done: string[] = [];
    return { plugin: broken.echoService(done, fault), config: {}, handled: () => done };
  },
});

/** What the check of that name says of it. */
describe("nothing is wrong with the correct ones", () => {
  for (const kind of ["stream", "datagram"] as const)
    for (const { name } of transportChecks.filter((check) => (check.kind ?? kind) === kind))
      test(`${kind}: ${name}`, async () => {
        expect(await verdict(transportChecks, name, transport(kind))).toBe("passes");
      });
  for (const { name } of discoveryChecks)
    test(`discovery: ${name}`, async () => {
      expect(await verdict(discoveryChecks, name, discovery())).toBe("passes");
    });
  for (const { name } of serviceChecks)
    test(`service: ${name}`, async () => {
      expect(await verdict(serviceChecks, name, service())).toBe("passes");
    });
});

const streams = [
  ["abort-leaves-the-far-end", "a dial aborted while", "the far end of an aborted dial"],
  ["bad-metric", "stop leaves", "no name for a metric"],
  ["buffers-unseen", "a slow reader", "0 bytes are said to be buffered"],
  ["closes-silently", "close is idempotent", "the end that closes hears closed"],
  ["counts-for-ever", "a slow reader", "stay buffered after all arrived"],
  ["duplicates", "bytes arrive whole", "not what was written"],
  ["never-publishes", "a dial reaches", "publishes an endpoint"],
  ["polite-error", "close is idempotent", "polite close reports an error"],
  ["throws-after-close", "close is idempotent", "a write after close throws"],
  ["throws-on-bad-endpoint", "a bad endpoint", "throws instead of rejecting"],
  ["accepts-unknown-keys", "config:", "unknown key"],
  ["closes-twice", "close is idempotent", "times"],
  ["data-after-closed", "close is idempotent", "after closed"],
  ["closes-twice", "nothing follows a close", "more than once"],
  ["dies-silently", "a pipe that died", "say closed"],
  ["deaf-to-the-end", "a far end that vanishes", "says closed"],
  ["drains-late", "closed while full", "after closed"],
  ["drains-twice", "a slow reader", "2 drains"],
  ["drops-before-open", "what is written before the far end opens", "kept until open"],
  ["drops-last-bytes", "what was written before close", "closed came after 0"],
  ["abort-closes", "the signal of a dial", "still listens"],
  ["forgets-abort", "a dial aborted before", "reason"],
  ["forgets-abort", "a dial aborted while", "after it was aborted"],
  ["ignores-pause", "pause stops", "paused pipe delivers"],
  ["keeps-listening", "a dial of nobody", "succeeded"],
  ["keeps-signal", "a dial reaches", "still listens to its signal"],
  ["keeps-timer", "stop leaves", "a timer of 5000 ms"],
  ["keeps-timer", "stop during start", "a timer of 5000 ms"],
  ["keeps-timer", "after use", "a timer of 5000 ms"],
  ["keeps-task", "stopped twice", "stop comes to an end"],
  ["never-drains", "a slow reader", "drain follows"],
  ["plain-error", "a dial of nobody", "no GodwitError"],
  ["publishes-nonsense", "every published", "loop://nowhere"],
  ["reorders", "bytes arrive whole", "not what was written"],
  ["reuses-buffer", "bytes arrive whole", "not what was written"],
  ["scribbles", "bytes arrive whole", "changes the caller's bytes"],
  ["slices", "bytes arrive whole", "not what was written"],
  ["swallows-bad-endpoint", "a bad endpoint", "GODWIT_DIAL_FAILED"],
  ["unbounded", "a slow reader", "without saying stop"],
  ["wrong-direction", "a dial reaches", "direction"],
] as const;
const datagrams = [
  ["boasts-of-its-mtu", "datagrams up to", "of 400 bytes, the mtu, none arrived"],
  ["merges", "datagrams up to", "not sent so"],
  ["splits", "datagrams up to", "bytes arrives that was not sent so"],
  ["truncates", "datagrams up to", "of 100 bytes arrives that was not sent so"],
  ["reuses-buffer", "datagrams up to", "not sent so"],
  ["no-mtu", "a datagram beyond", "beyond the mtu"],
  ["leaves-at-once", "a pipe with answerMs", "within write"],
  ["leaves-nothing", "a pipe with answerMs", "once for each datagram"],
  ["leaves-twice", "a pipe with answerMs", "more often"],
  ["leaves-unasked", "a pipe with answerMs", "without answerMs"],
  ["medium-costs-nothing", "a shared channel says", "less than its rate allows"],
  ["medium-forgets-no-listener", "what is sent to all", "an earlier listener"],
  ["medium-gets-cheaper", "a shared channel says", "less airtime than fewer"],
  ["medium-hears-itself", "what is sent to all", "itself"],
  ["medium-is-deaf", "what is sent to all", "the others hear 1 bytes"],
  ["medium-is-overfull", "a shared channel says", "utilisation is 2"],
  ["medium-keeps-what-was-lent", "what is sent to all", "not the 1 bytes"],
  ["medium-missing", "a shared channel says", "no medium"],
  ["medium-of-its-own", "a shared channel says", "another medium"],
  ["medium-takes-too-much", "what is sent to all", "is taken"],
  ["medium-under-another-name", "a shared channel says", "its name is another"],
  ["medium-without-places", "what is sent to all", "cannot be dialled"],
] as const;
const discoveries = [
  ["bad-endpoint", "hints have", "no endpoint"],
  ["bad-node-id", "hints have", "no node id"],
  ["for-ever", "hints have", "24 h"],
  ["silent", "what it knows", "hints at"],
  ["withdraws-twice", "stop withdraws", "no live hint"],
  ["late", "stop withdraws", "a hint after stop"],
] as const;
const services = [
  ["answers-twice", "the same message", "answered"],
  ["chokes-on-empty", "messages of every kind", "every message is handled"],
  ["gives-up", "a mesh that fails", "every message is handled"],
  ["bad-metric", "messages of every kind", "counter answered"],
] as const;

type Case = readonly [label: string, words: string, judge: () => Promise<string>];
const cases: readonly Case[] = [
  ...streams.map(([fault, name, words]): Case => [
    `stream: ${fault}, by: ${name}`,
    words,
    () => verdict(transportChecks, name, transport("stream", fault)),
  ]),
  ...datagrams.map(([fault, name, words]): Case => [
    `datagram: ${fault}, by: ${name}`,
    words,
    () => verdict(transportChecks, name, transport("datagram", fault)),
  ]),
  ...discoveries.map(([fault, name, words]): Case => [
    `discovery: ${fault}, by: ${name}`,
    words,
    () => verdict(discoveryChecks, name, discovery(fault)),
  ]),
  ...services.map(([fault, name, words]): Case => [
    `service: ${fault}, by: ${name}`,
    words,
    () => verdict(serviceChecks, name, service(fault)),
  ]),
];

test("no check is without a plugin that it catches", () => {
  const names = [...transportChecks, ...discoveryChecks, ...serviceChecks].map(({ name }) => name);
  const proven = [...streams, ...datagrams, ...discoveries, ...services, ["", "stop in the middle"]];
  const unproven = names.filter((name) => !proven.some(([, start]) => name.startsWith(start)));
  expect(unproven).toEqual([]);
});

// Side by side, because what never happens is waited for.
describe("a broken plugin is caught", () => {
  test.concurrent.each(cases)("%s", async (_label, words, judge) => {
    expect(await judge()).toContain(words);
  });
});

// In a process of its own: it counts the sockets of its process, and other tests may still be closing theirs.
test("stream: keeps-a-socket, by: stop leaves no timer, task, listener or socket", async () => {
  const script = `
    const { transportChecks, runCheck } = await import(${JSON.stringify(join(import.meta.dir, "index.ts"))});
    const { loopTransport, leftOpen } = await import(${JSON.stringify(join(import.meta.dir, "broken.ts"))});
    const check = transportChecks.find(({ name }) => name.startsWith("stop leaves"));
    for (const fault of [undefined, "keeps-a-socket"]) {
      const setup = () => ({
        plugin: loopTransport("stream", fault),
        kind: "stream",
        listenConfig: { listen: "far" },
        dialConfig: {},
        badEndpoints: ["loop://"],
      });
      console.log(await runCheck(check, { name: "loop", setup }).then(() => "passes", ({ message }) => message));
      for (const server of leftOpen.splice(0)) server.stop(true);
    }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  const [fine, kept] = (await new Response(child.stdout).text()).split("\n");
  expect(fine).toBe("passes");
  expect(kept).toMatch(
    /stopped: sockets are closed; open are tcp 127\.0\.0\.1:\d+ to 0\.0\.0\.0:0, listening/,
  );
}, 30_000);

test("there are at least 25 ways to break a transport", () => {
  expect(new Set([...streams, ...datagrams].map(([fault]) => fault)).size).toBeGreaterThanOrEqual(25);
});

// In a process of its own: bun:test fails a test with a stray rejection before the check can.
test("service: stray-promise, by: stop in the middle", async () => {
  const script = `
    const { serviceChecks, runCheck } = await import(${JSON.stringify(join(import.meta.dir, "index.ts"))});
    const { echoService } = await import(${JSON.stringify(join(import.meta.dir, "broken.ts"))});
    const check = serviceChecks.find(({ name }) => name === "stop in the middle of a message");
    for (const fault of [undefined, "stray-promise"]) {
      const setup = () => ({ plugin: echoService([], fault), config: {} });
      console.log(await runCheck(check, { name: "echo", setup }).then(() => "passes", ({ message }) => message));
    }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  const [fine, stray] = (await new Response(child.stdout).text()).split("\n");
  expect(fine).toBe("passes");
  expect(stray).toContain("nobody heard");
});
