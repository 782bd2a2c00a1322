import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId } from "../kernel/ids.ts";
import { formatIpv6, meshAddress } from "./address.ts";

const format = (groups: string) =>
  formatIpv6(
    Buffer.from(
      groups
        .split(" ")
        .map((group) => group.padStart(4, "0"))
        .join(""),
      "hex",
    ),
  );

test("RFC 5952: the longest run of zeros, the first of equals, never a single one", () => {
  expect(format("2001 db8 0 0 1 0 0 1")).toBe("2001:db8::1:0:0:1");
  expect(format("2001 db8 0 1 1 1 1 1")).toBe("2001:db8:0:1:1:1:1:1");
  expect(format("0 0 0 0 0 0 0 0")).toBe("::");
  expect(format("0 0 0 0 0 0 0 1")).toBe("::1");
  expect(format("1 0 0 0 0 0 0 0")).toBe("1::");
  expect(format("ffff 0 0 2 0 0 0 a")).toBe("ffff:0:0:2::a");
});

test("any address is what a URL parser makes of it", () => {
  const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const bytes = Buffer.from(groups.map((value) => value.toString(16).padStart(4, "0")).join(""), "hex");
      const text = formatIpv6(bytes);
      expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
    }),
  );
});

test("an address lies in its own /64 within the network's /48, the same for ever", () => {
  const id = formatNodeId(new Uint8Array(32).fill(7));
  const { address, subnet } = meshAddress("telex", id);
  expect([address, subnet]).toEqual(GOLDEN);
  expect(meshAddress("other", id).address.split(":")[0]).toMatch(/^fd/);
  expect(meshAddress("other", id).address).not.toBe(address);
});
const GOLDEN = ["fdb4:2adb:eb62:68c3:ff5:ca48:23fe:1494", "fdb4:2adb:eb62:68c3::/64"];
