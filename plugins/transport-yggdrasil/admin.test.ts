import { afterEach, describe, expect, test } from "bun:test";
import type { Clock } from "@godwit/sdk";
import { ManualClock } from "@godwit/sdk/testkit";
import { ask, parseAdmin, parseAnswer } from "./admin.ts";

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
  test("an answer is read to its end", async () => {
    expect(await asked('{"status":"success","request":null,"response":{"a":[1]}}')).toEqual({ a: [1] });
  });

  test("refusals, nonsense and silence reject and say why", async () => {
    const reason = (answer: string) => asked(answer).catch((error: Error) => error.message);
    expect(await reason('{"status":"error","error":"peer already configured"}')).toBe(
      "yggdrasil: peer already configured",
    );
    expect(await reason("hello")).toContain("no JSON");
    expect(await reason("[".repeat(500_000))).toContain("no JSON");
    expect(await reason(`{"status":"error","error":"${"x".repeat(5_000)}"}`)).toHaveLength(211);
    expect(await reason(" ".repeat(1_048_577))).toContain("too long");
    const clock = new ManualClock();
    const silent = asked(undefined, clock).catch((error: Error) => error.message);
    clock.advance(3_000);
    expect(await silent).toContain("within 3 s");
  });

  test("one that never ends its answer is given up at the bound, not at its end", async () => {
    let sent = 0;
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data: (socket) => pour(socket),
        drain: (socket) => pour(socket),
      },
    });
    cleanups.push(() => server.stop(true));
    const pour = (socket: { write(text: string): number }) => {
      for (let n = 1; n > 0;) sent += n = socket.write("9".repeat(65_536));
    };
    const error = await ask(
      { hostname: "127.0.0.1", port: server.port },
      "getself",
      {},
      {
        clock: new ManualClock(),
        signal: new AbortController().signal,
      },
    ).catch((e: Error) => e.message);
    expect(error).toContain("too long");
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });

  test("an aborted request rejects with the reason, a socket that is not there with it", async () => {
    const abort = new AbortController();
    const asking = ask(daemon(undefined), "getself", {}, { clock: new ManualClock(), signal: abort.signal });
    abort.abort("enough");
    expect(await asking.catch((error: unknown) => error)).toBe("enough");
    const nobody = ask(
      { unix: "/nonexistent/y.sock" },
      "list",
      {},
      {
        clock: new ManualClock(),
        signal: new AbortController().signal,
      },
    );
    expect(await nobody.catch((error: Error) => error.message)).toContain("does not answer");
  });

  test("its address is a path or a port", () => {
    expect(parseAdmin("unix:///run/y.sock")).toEqual({ unix: "/run/y.sock" });
    expect(parseAdmin("tcp://[::1]:9001")).toEqual({ hostname: "::1", port: 9001 });
    for (const text of ["unix://y", "tcp://a", "tcp://a:0", "tcp://a:70000", "http://a:1"])
      expect(parseAdmin(text)).toBeUndefined();
    expect(() => parseAnswer("[]")).toThrow("no status");
  });
});
