/** Dials of endpoints that another named: each address is judged behind the look-up, and only what passed is connected to. */
import { afterEach, expect, test } from "bun:test";
import type { DialTerms } from "@godwit/sdk";
import {
  dialOutcome,
  LOOPBACK_RESOLVED,
  LOOPBACK_SPELLINGS,
  RefusingTerms,
  TestHost,
} from "@godwit/sdk/testkit";
import tcp from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test("no spelling of an address gets past its judgement, over TCP", async () => {
  let connections = 0;
  const server = Bun.listen({
    hostname: "::",
    port: 0,
    socket: { open: (socket) => void (connections++, socket.terminate()), data() {} },
  });
  cleanups.push(() => server.stop(true));
  const host = new TestHost(tcp);
  cleanups.push(() => host.stop());
  await host.start({ listen: [] });
  for (const spelling of LOOPBACK_SPELLINGS) {
    const terms = new RefusingTerms();
    const endpoint = `tcp://${spelling}:${server.port}`;
    const dialling = host.driver!.dial(endpoint, AbortSignal.timeout(5_000), undefined, terms);
    expect([spelling, await dialOutcome(dialling)]).toEqual([spelling, "GODWIT_ENDPOINT_REFUSED"]);
    for (const address of terms.judged) expect(address).toMatch(LOOPBACK_RESOLVED);
    expect(terms.judged.length).toBeGreaterThan(0);
  }
  expect(connections).toBe(0);
});

test("of a name's addresses those that pass are dialled", async () => {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  cleanups.push(() => server.stop(true));
  const host = new TestHost(tcp);
  cleanups.push(() => host.stop());
  await host.start({ listen: [] });
  const terms: DialTerms = { refusal: (address) => (address === "127.0.0.1" ? undefined : "no") };
  const pipe = await host.driver!.dial(
    `tcp://localhost:${server.port}`,
    AbortSignal.timeout(5_000),
    undefined,
    terms,
  );
  cleanups.push(() => pipe.close());
  expect(pipe.remote).toBe(`tcp://127.0.0.1:${server.port}`);
});
