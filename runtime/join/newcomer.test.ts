/** When joining ends by its caller's word; what it does otherwise is tested in enrolment.test.ts and test/sim/join.test.ts. */
import { expect, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { idPrefixOf, type Token } from "../identity/token.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openPlaces } from "../kernel/testing.ts";
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
