import { expect, test } from "bun:test";
import { encodeConnect, environmentProxy, isExempt, parseProxy } from "./proxy.ts";

test("a proxy is a place of http or https, with a user's word if it wants one", () => {
  expect(parseProxy("http://us%40er:pa%3Ass@proxy.example:3128/")).toEqual({
    isSecure: false,
    host: "proxy.example",
    port: 3_128,
    credentials: "us@er:pa:ss",
  });
  expect(parseProxy("https://[2001:db8::1]")).toMatchObject({
    isSecure: true,
    host: "2001:db8::1",
    port: 443,
  });
  expect(parseProxy("proxy.example")).toMatchObject({
    host: "proxy.example",
    port: 80,
    credentials: undefined,
  });
  for (const bad of ["", "socks5://a:1", "http://", "http://u:%zz@a:1", "a:99999", "http://a b"])
    expect([bad, parseProxy(bad)]).toEqual([bad, undefined]);
});

test("the environment's is that of the scheme, in capitals first", () => {
  const env = { HTTPS_PROXY: "s", http_proxy: "p", HTTP_PROXY: "" };
  expect([environmentProxy("wss", env), environmentProxy("ws", env)]).toEqual(["s", "p"]);
  expect(environmentProxy("ws", {})).toBeUndefined();
});

test("NO_PROXY exempts names with what is below them, addresses, ports and everything", () => {
  const exempt = (list: string, host: string, port = 80) => isExempt({ host, port }, { no_proxy: list });
  for (const [list, host] of [
    ["example.org", "example.org"],
    ["a, .Example.org", "mesh.EXAMPLE.org"],
    ["*.example.org", "mesh.example.org"],
    ["127.0.0.1,::1", "::1"],
    ["[::1]:80", "::1"],
    ["fe80::1%eth0", "fe80::1%eth0"],
    ["example.org:80", "example.org"],
    ["*", "anything"],
  ] as const)
    expect([list, exempt(list, host)]).toEqual([list, true]);
  for (const [list, host] of [
    ["", "example.org"],
    [",,", "example.org"],
    ["example.org", "notexample.org"],
    ["mesh.example.org", "example.org"],
    ["example.org:81", "example.org"],
    ["[::1]:81", "::1"],
    ["::1", "::2"],
  ] as const)
    expect([list, exempt(list, host)]).toEqual([list, false]);
});

test("a tunnel is asked for by host and port, with the user's word as RFC 7617 has it", () => {
  expect(encodeConnect("a:1", undefined)).toBe(
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Connection: Keep-Alive\r\n\r\n",
  );
  expect(encodeConnect("a:1", "Aladdin:open sesame")).toContain(
    "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
  );
});
