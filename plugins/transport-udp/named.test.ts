/** Dials of endpoints that another named: each address is judged behind the look-up, and only what passed is connected to. */
import { afterEach, expect, test } from "bun:test";
import { dialOutcome, LOOPBACK_SPELLINGS, RefusingTerms, TestHost } from "@godwit/sdk/testkit";
import udp from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test("no spelling of an address gets past its judgement: no datagram leaves", async () => {
  const host = new TestHost(udp);
  cleanups.push(() => host.stop());
  await host.start({ listen: ["127.0.0.1:0"] });
  for (const spelling of LOOPBACK_SPELLINGS) {
    const terms = new RefusingTerms();
    const dialling = host.driver!.dial(`udp://${spelling}:9`, AbortSignal.timeout(5_000), undefined, terms);
    expect([spelling, await dialOutcome(dialling)]).toEqual([spelling, "GODWIT_ENDPOINT_REFUSED"]);
    expect(terms.judged.length).toBeGreaterThan(0);
  }
});
