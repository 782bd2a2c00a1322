import { expect, test } from "bun:test";
import { isHostAllowed, namesOf, parseWebSocketEndpoint } from "./endpoint.ts";

test("a name with its final dot is the same name, to dial and to be found by", () => {
  expect(parseWebSocketEndpoint("wss://mesh.example.org./godwit").hostname).toBe("mesh.example.org");
  expect(parseWebSocketEndpoint("ws://mesh.example.org.:81/x").href).toBe("ws://mesh.example.org:81/x");
  const names = namesOf(["Mesh.example.org."], ["wss://other.example.org./godwit"]);
  for (const host of ["mesh.example.org", "MESH.example.org.:443", "other.example.org.", "localhost."])
    expect(isHostAllowed(host, names)).toBe(true);
  expect(isHostAllowed("example.org.", names)).toBe(false);
});

test("a ws:// endpoint with the zone of an address is refused in words that say what to dial instead", () => {
  for (const zone of ["%eth0", "%25eth0"])
    expect(() => parseWebSocketEndpoint(`ws://[fe80::1${zone}]:80/godwit`)).toThrow("tcp:// instead");
  expect(() => parseWebSocketEndpoint("ws://[fe80::1]x:80/")).toThrow("is not ws://");
});
