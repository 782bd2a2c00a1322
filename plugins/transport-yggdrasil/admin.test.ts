import { afterEach, describe, expect, test } from "bun:test";
import type { Clock } from "@godwit/sdk";
import { ManualClock } from "@godwit/sdk/testkit";
import { ask, parseAdmin, parseAnswer, parsePeerCount, parseSelf } from "./admin.ts";
import { parseEndpoint } from "./index.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** A daemon that answers each request with `answer`, or with silence. */
function daemon(answer: string | undefined) {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket) => void (answer !== undefined && socket.end(answer)) },
  });
  cleanups.push(() => server.stop(true));
  return { hostname: "127.0.0.1", port: server.port };
}
const asked = (answer: string | undefined, clock: Clock = new ManualClock()) =>
  ask(daemon(answer), "getself", {}, { clock, signal: new AbortController().signal });

describe("the admin socket", () => {
  test("an answer of 0.4 is read", async () => {
    const response = await asked(
      '{"status":"success","request":null,"response":{"build_name":"unknown","key":"f9","coords":[],"address":"200:c0b:e66c:2422:7c27:2aed:be7b:a66a","subnet":"300:c0b:e66c:2422::/64"}}',
    );
    expect(parseSelf(response)).toEqual({
      address: "200:c0b:e66c:2422:7c27:2aed:be7b:a66a",
      subnet: "300:c0b:e66c:2422::/64",
    });
  });

  test("refusals, nonsense and silence reject and say why", async () => {
    const reason = (answer: string) => asked(answer).catch((error: Error) => error.message);
    expect(await reason('{"status":"error","error":"peer already configured"}')).toBe(
      "yggdrasil: peer already configured",
    );
    expect(await reason("hello")).toContain("no JSON");
    expect(await reason(" ".repeat(1_048_577))).toContain("too long");
    const clock = new ManualClock();
    const silent = asked(undefined, clock).catch((error: Error) => error.message);
    clock.advance(3_000);
    expect(await silent).toContain("within 3 s");
  });

  test("an aborted request rejects with the reason", async () => {
    const abort = new AbortController();
    const asking = ask(daemon(undefined), "getself", {}, { clock: new ManualClock(), signal: abort.signal });
    abort.abort("enough");
    expect(await asking.catch((error: unknown) => error)).toBe("enough");
  });

  test("an address outside of 200::/7 is not believed", () => {
    for (const address of ["2001:db8::1", "::1", "fd00::1", "127.0.0.1", "", 7])
      expect(() => parseSelf({ address, subnet: "300::/64" })).toThrow("no address of 200::/7");
  });

  test("neighbours that are down do not count", () => {
    expect(parsePeerCount({ peers: [{ remote: "tcp://a:1" }, { up: true }, { up: false }] })).toBe(2);
    expect(() => parsePeerCount({})).toThrow("no list");
    expect(() => parseAnswer("[]")).toThrow("no status");
  });

  test("its address is a path or a port", () => {
    expect(parseAdmin("unix:///run/y.sock")).toEqual({ unix: "/run/y.sock" });
    expect(parseAdmin("tcp://[::1]:9001")).toEqual({ hostname: "::1", port: 9001 });
    for (const text of ["unix://y", "tcp://a", "tcp://a:0", "tcp://a:70000", "http://a:1"])
      expect(parseAdmin(text)).toBeUndefined();
  });
});

test("only the overlay is dialled", () => {
  expect(parseEndpoint("yggdrasil://[200:1::2]:4862")).toEqual({ host: "200:1::2", port: 4862 });
  for (const endpoint of ["yggdrasil://[2001:db8::1]:1", "yggdrasil://127.0.0.1:1", "yggdrasil://[200::1]:0"])
    expect(() => parseEndpoint(endpoint)).toThrow("200::/7");
});
