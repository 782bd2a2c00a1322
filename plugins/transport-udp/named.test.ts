/** Dials of endpoints that another named: each address is judged behind the look-up, and only what passed is connected to. */
import { afterEach, expect, test } from "bun:test";
import { GodwitError, type DialTerms } from "@godwit/sdk";
import { TestHost } from "@godwit/sdk/testkit";
import udp from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Notes what is judged, and refuses it. */
class Nowhere implements DialTerms {
  readonly judged: string[] = [];
  refusal(address: string): string {
    this.judged.push(address);
    return "not to be dialled";
  }
}

const codeOf = (dialling: Promise<unknown>): Promise<string> =>
  dialling.then(
    () => "connected",
    (error: unknown) => (error instanceof GodwitError ? error.code : String(error)),
  );

// Spellings that only the resolver understands, and a name.
const spellings = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"];

test("no spelling of an address gets past its judgement: no datagram leaves", async () => {
  const host = new TestHost(udp);
  cleanups.push(() => host.stop());
  await host.start({ listen: ["127.0.0.1:0"] });
  for (const spelling of spellings) {
    const terms = new Nowhere();
    const dialling = host.driver!.dial(`udp://${spelling}:9`, AbortSignal.timeout(5_000), undefined, terms);
    expect([spelling, await codeOf(dialling)]).toEqual([spelling, "GODWIT_ENDPOINT_REFUSED"]);
    expect(terms.judged.length).toBeGreaterThan(0);
  }
});
