import { expect, test } from "bun:test";
import type { Socket } from "node:net";
import fc from "fast-check";
import { type Incoming, RequestParser } from "./incoming.ts";
import { isPlainTarget, requestOf } from "./request.ts";

const NOBODY = {} as Socket;

/** Of the first request in `text`. */
function parsed(text: string): Incoming {
  let first: Incoming | undefined;
  new RequestParser((incoming) => (first ??= incoming)).take(Buffer.from(text, "latin1"));
  return first!;
}
const asked = (text: string) => requestOf(parsed(text), NOBODY, {});

test("a target that is taken as it came is one that a URL leaves as it is", () => {
  const parts = fc.constantFrom(
    ...[
      "/",
      "..",
      ".",
      "a",
      "x",
      "%2e",
      "%2F",
      "\\",
      "?",
      "#",
      "=",
      "&",
      "+",
      ";",
      "@",
      ":",
      "//",
      "é",
      "~",
      "'",
    ],
  );
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 8 }), (rest) => {
      const target = `/${rest.join("")}`;
      if (isPlainTarget(target))
        expect(URL.parse(`http://localhost${target}`)?.href).toBe(`http://localhost${target}`);
    }),
    { numRuns: 5_000 },
  );
  for (const plain of ["/health", "/mesh/peers/LON-B", "/messages?box=inbox&limit=5", "/x/board/"])
    expect([plain, isPlainTarget(plain)]).toEqual([plain, true]);
  for (const other of ["/a/../x", "/a/%2e%2e/x", "/a\\x", "/a?b=%20", "/a#b", "a", ""])
    expect([other, isPlainTarget(other)]).toEqual([other, false]);
});

test("a long target that nearly is plain is judged at once", () => {
  const startedMs = performance.now();
  for (let n = 0; n < 100; n++) isPlainTarget(`/${"a/".repeat(4_000)}%`);
  expect(performance.now() - startedMs).toBeLessThan(1_000);
});

test("headers of a request that goes as it came say what those of a Request say", () => {
  const names = fc.constantFrom("Host", "host", "X-A", "Authorization", "authorization", "Accept");
  const values = fc.constantFrom("", "a", " a b\t", "a, b", "\xe4", "Bearer x", "\xa0x\xa0");
  fc.assert(
    fc.property(fc.array(fc.tuple(names, values), { maxLength: 6 }), (pairs) => {
      const lines = [["Host", "z"], ...pairs].map(([name, value]) => `${name}: ${value}\r\n`).join("");
      const plain = asked(`GET /a HTTP/1.1\r\n${lines}\r\n`)!;
      const real = asked(`GET /a/../a HTTP/1.1\r\n${lines}\r\n`)!;
      expect([plain instanceof Request, real instanceof Request]).toEqual([false, true]);
      expect([plain.method, plain.url]).toEqual([real.method, real.url]);
      for (const name of ["host", "x-a", "authorization", "accept", "cookie"]) {
        expect([name, plain.headers.get(name)]).toEqual([name, real.headers.get(name)]);
        expect(plain.headers.has(name)).toBe(real.headers.has(name));
      }
    }),
  );
});

test("more headers than the parser tells of at once are all there", () => {
  const lines = Array.from({ length: 200 }, (_, n) => `X-${n}: ${n}\r\n`).join("");
  const request = asked(`GET /a HTTP/1.1\r\nHost: z\r\n${lines}\r\n`)!;
  expect(["x-0", "x-31", "x-32", "x-199"].map((name) => request.headers.get(name))).toEqual([
    "0",
    "31",
    "32",
    "199",
  ]);
  expect(request.url).toBe("http://localhost/a");
});

test("what is asked without a host, of another place or by tunnel is no request", () => {
  expect(asked("GET /a HTTP/1.1\r\n\r\n")).toBeUndefined();
  expect(asked("GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n")).toBeUndefined();
  expect(asked("GET /a HTTP/1.0\r\n\r\n")).toBeDefined();
  expect(parsed("CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n")).toBeUndefined();
});

test("every method that an API answers has its own name", () => {
  for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    expect(parsed(`${method} / HTTP/1.1\r\nHost: x\r\n\r\n`).head.method).toBe(method);
});

test("a body that is read comes as it came, and trailers are no part of it and no request", async () => {
  const requests: Incoming[] = [];
  const parser = new RequestParser((incoming) => void requests.push(incoming));
  const say = (text: string) => parser.take(Buffer.from(text));
  expect(say("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).toBe(true);
  const request = requestOf(requests[0]!, NOBODY, {})!;
  const text = new Response(request.body).text();
  expect(say("2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\nGET /b HTTP/1.1\r\nHost: y\r\n\r\n")).toBe(true);
  expect(await text).toBe("abcde");
  expect(requests.map(({ head: { url, rawHeaders } }) => [url, rawHeaders.length])).toEqual([
    ["/a", 4],
    ["/b", 2],
  ]);
});

test("a body that ends too early is said to whoever reads it, and nothing behind what was no HTTP is heard", async () => {
  for (const end of ["finish", "close", "garbage"] as const) {
    const requests: Incoming[] = [];
    const parser = new RequestParser((incoming) => void requests.push(incoming));
    parser.take(Buffer.from("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
    const text = new Response(requestOf(requests[0]!, NOBODY, {})!.body).text();
    if (end === "garbage") expect(parser.take(Buffer.from("zz\r\n"))).toBe(false);
    else if (end === "finish") expect(parser.finish()).toBe(false);
    else parser.close();
    await expect(text).rejects.toThrow("its body ended too early");
    expect(parser.take(Buffer.from("GET /b HTTP/1.1\r\nHost: x\r\n\r\n"))).toBe(false);
    expect(requests).toHaveLength(1);
  }
});

test("a request whose body came with its head goes as it came, one whose body is to come does not", () => {
  const text = (length: number) =>
    `POST /messages?to=DUN HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\nhi`;
  const came = requestOf(parsed(text(2)), NOBODY, { takeBody: () => new Uint8Array(2) })!;
  expect([came instanceof Request, came.body, came.method]).toEqual([false, null, "POST"]);
  const coming = requestOf(parsed(text(5)), NOBODY, {})!;
  expect([coming instanceof Request, coming.body instanceof ReadableStream]).toEqual([true, true]);
});
