/** When joining ends by its caller's word; what it does otherwise is tested in enrolment.test.ts and test/sim/join.test.ts. */
import { expect, test } from "bun:test";
import type { Medium } from "@godwit/sdk";
import { generateIdentity } from "../identity/keys.ts";
import { idPrefixOf, type Token } from "../identity/token.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openPlaces } from "../kernel/testing.ts";
import { memoryPipePair } from "../link/testing.ts";
import { joinOver } from "./newcomer.ts";

/** Joins over two addresses that nobody answers at. No time passes unless it is told to. */
function joining() {
  const random = seededRandom(5);
  const clock = new ManualClock();
  const identity = generateIdentity(random);
  const stop = new AbortController();
  const dialled: string[] = [];
  const idPrefix = idPrefixOf(generateIdentity(random).id);
  const token: Token = {
    network: "net",
    inviter: identity.id,
    callsign: undefined,
    membership: undefined,
    addresses: ["mem://a", "mem://b"].map((endpoint) => ({ endpoint, idPrefix })),
  };
  const places = openPlaces();
  const start = () =>
    joinOver({ token, callsign: undefined, clock, random, signal: stop.signal, places }, identity, {
      dialTimeoutMs: () => undefined,
      dial: (endpoint, signal) => {
        dialled.push(endpoint);
        signal.throwIfAborted();
        return new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
        );
      },
    }).then(
      () => "joined",
      (error: Error) => error.message,
    );
  return { clock, stop, dialled, start };
}

test("a newcomer that is told to stop before it began waits for no pause and calls nobody after it", async () => {
  const { clock, stop, dialled, start } = joining();
  stop.abort(new Error("enough"));
  expect(await start()).toBe("enough");
  await clock.advance(10_000);
  expect(dialled).toEqual(["mem://a"]);
});

test("a newcomer that is told to stop in its pause ends at once and calls nobody after it", async () => {
  const { clock, stop, dialled, start } = joining();
  const ended = start();
  await clock.advance(100);
  stop.abort(new Error("enough"));
  expect(await ended).toBe("enough");
  await clock.advance(10_000);
  expect(dialled).toEqual(["mem://a"]);
});

test.each([0, 0.6])(
  "on a shared channel that is busy by %d a newcomer calls, and again, within a budget of its own",
  async (utilisation) => {
    const random = seededRandom(6);
    const clock = new ManualClock();
    const { a, b } = memoryPipePair({
      ...{ kind: "datagram", linkClass: "slow", rateBitsPerSecond: 1_000, mtu: 200, clock, random },
    });
    const medium: Medium = {
      ...{ name: "radio", rateBitsPerSecond: 1_000, utilisation, broadcastBytesMax: 200 },
      ...{ airtimeMs: (bytes) => bytes * 8, broadcast: () => true, listen() {} },
    };
    let calls = 0;
    b.open({ data: () => void calls++, drain() {}, closed() {} });
    const idPrefix = idPrefixOf(generateIdentity(random).id);
    const token: Token = {
      ...{ network: "net", inviter: generateIdentity(random).id, callsign: undefined, membership: undefined },
      addresses: [{ endpoint: "mem://a", idPrefix }],
    };
    const deps = { token, callsign: undefined, clock, random, signal: new AbortController().signal };
    const joined = joinOver({ ...deps, places: openPlaces() }, generateIdentity(random), {
      dialTimeoutMs: () => 2 * 3_600_000,
      dial: () => Promise.resolve(Object.assign(a, { medium })),
    }).catch((error: Error) => error.message);
    await clock.advance(110_000);
    // What is begun for somebody who waits is said three times; then there has to be all of a link, and on a busy channel nothing more is said.
    expect(calls).toBe(utilisation === 0 ? 4 : 3);
    await clock.advance(3_600_000);
    expect(await joined).toContain("no address");
  },
);
