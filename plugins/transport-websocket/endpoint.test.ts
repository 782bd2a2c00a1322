import { expect, test } from "bun:test";
import { formatWebSocketEndpoint, isHostAllowed, namesOf, parseWebSocketEndpoint } from "./endpoint.ts";

const canonical = (text: string) => formatWebSocketEndpoint(parseWebSocketEndpoint(text));

test("a name with its final dot is the same name, to dial and to be found by", () => {
  expect(parseWebSocketEndpoint("wss://mesh.example.org./godwit").host).toBe("mesh.example.org");
  expect(canonical("ws://mesh.example.org.:81/x")).toBe("ws://mesh.example.org:81/x");
  const names = namesOf(["Mesh.example.org."], ["wss://other.example.org./godwit"]);
  for (const host of ["mesh.example.org", "MESH.example.org.:443", "other.example.org.", "localhost."])
    expect(isHostAllowed(host, names)).toBe(true);
  expect(isHostAllowed("example.org.", names)).toBe(false);
});

test("a ws:// endpoint holds the zone of an address, as tcp:// does or as RFC 6874 writes it", () => {
  for (const zone of ["%eth0", "%25eth0"]) {
    const endpoint = parseWebSocketEndpoint(`ws://[FE80:0::1${zone}]:4860/godwit`);
    expect(endpoint).toMatchObject({ host: "fe80::1%eth0", port: 4860, hostHeader: "[fe80::1]:4860" });
    expect(canonical(`ws://[FE80:0::1${zone}]:4860/godwit`)).toBe("ws://[fe80::1%eth0]:4860/godwit");
  }
  expect(canonical("ws://[fe80::1%2525x]:1/")).toBe("ws://[fe80::1%2525x]:1/");
  // An interface may be meant by its number.
  expect(parseWebSocketEndpoint("wss://[fe80::1%25]/x").host).toBe("fe80::1%25");
  expect(parseWebSocketEndpoint("wss://[fe80::1%2]/x")).toMatchObject({ host: "fe80::1%2", port: 443 });
  for (const bad of [
    "ws://[fe80::1]x:80/",
    "ws://[fe80::1%]:80/",
    "ws://[fe80::1%eth0%eth1]:80/",
    "ws://[fe80::1%et h0]:80/",
    "ws://[fe80::1%et/h0]:80/",
    "ws://[fe80::1%an-interface-with-a-name]:80/",
    "ws://[192.0.2.1%eth0]:80/",
    "ws://192.0.2.1%eth0:80/",
    "ws://mesh.example%eth0:80/",
    "ws://[fe80::1%eth0]:0/",
    "ws://[fe80::1%eth0]@a:80/",
    "ws://[fe80::1%eth0]:80/x?y",
    "ws://mesh.example../x",
    "ws://./x",
  ])
    expect(() => parseWebSocketEndpoint(bad)).toThrow("is not ws://");
});
