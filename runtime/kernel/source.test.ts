import { expect, test } from "bun:test";
import { NO_ADDRESS, sourceOf } from "./source.ts";

test.each([
  ["tcp://192.0.2.7:4860", "192.0.2.7"],
  ["udp://[::ffff:192.0.2.7]:4860", "192.0.2.7"],
  ["ws://192.0.2.7:80/godwit", "192.0.2.7"],
  ["tcp://[2001:db8:1:2:3:4:5:6]:4860", "2001:db8:1:2::/64"],
  ["tcp://[2001:db8:1:2::9]:4860", "2001:db8:1:2::/64"],
  ["tcp://[fe80::1%eth0]:4860", "fe80:0:0:0::/64"],
  ["tcp://[::1]:4860", "0:0:0:0::/64"],
  ["tcp://[201:abcd::1]:4860", NO_ADDRESS],
  ["tcp://[3ff:1::1]:4860", NO_ADDRESS],
  ["tor://anonymous", NO_ADDRESS],
  ["lora://radio/7", NO_ADDRESS],
  ["", NO_ADDRESS],
])("strangers at %s count as %s", (endpoint, source) => {
  expect(sourceOf(endpoint)).toBe(source);
});
