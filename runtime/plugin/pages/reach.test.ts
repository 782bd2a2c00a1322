/** Who may have pages, and who comes in to their open paths without a token: by what was asked, granted and trusted. */
import { expect, test } from "bun:test";
import type { Plugin } from "@godwit/sdk";
import { grantedOf, pagesReachOf } from "../permissions.ts";
import { pluginPagesReach } from "../isolation.ts";
import type { PluginInstance } from "../host/instance.ts";

const both = ["http.pages", "http.pages.public"];

test.each([
  [both, [], undefined],
  [both, ["http.pages"], "local"],
  [both, ["http.pages.public"], "public"],
  [both, both, "public"],
  [["http.pages"], ["http.pages.public"], undefined],
  [["http.pages.public"], ["http.pages"], "local"],
  [[], ["http.pages"], undefined],
  [["service:x", "net.tcp"], ["http.pages"], undefined],
  [both, ["http.pages:80", "http.pages.*", "http"], undefined],
] as const)("asked %p, granted %p: %p", (asked, granted, reach) => {
  expect(pagesReachOf(grantedOf(asked, granted))).toBe(reach);
});

const reachOf = (trust: PluginInstance["trust"], permissions: readonly string[], grant: readonly string[]) =>
  pluginPagesReach({ permissions } as Plugin, {
    namespace: "service",
    name: "board",
    type: "board",
    options: {},
    grant,
    ...(trust === undefined ? {} : { trust }),
  });

test("a trusted plugin has pages of this machine, and of the world only where that was granted", () => {
  expect(reachOf("trusted", [], [])).toBe("local");
  expect(reachOf("trusted", both, [])).toBe("local");
  expect(reachOf("trusted", both, ["http.pages.public"])).toBe("public");
});

test("one that is not trusted has what was granted", () => {
  for (const trust of ["contained", "untrusted"] as const) {
    expect(reachOf(trust, both, [])).toBeUndefined();
    expect(reachOf(trust, both, ["http.pages"])).toBe("local");
    expect(reachOf(trust, ["http.pages"], ["http.pages.public"])).toBeUndefined();
  }
});
