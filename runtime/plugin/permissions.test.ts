import { describe, expect, test } from "bun:test";
import {
  covers,
  enginePolicyOf,
  grantedOf,
  netPolicyOf,
  serialPolicyOf,
  parsePermission,
  refusalOf,
  withMissingGrant,
} from "./permissions.ts";

test.each([
  "net.tcp:1",
  "net.raw",
  "engine.members:all",
  "engine.streams:raft",
  "net.tcp.connect:*",
  "net.tcp.listen:0",
  "broker.connect:a",
  "broker.connect:a:99999",
  "broker.connect:a b:1",
  "files.read:relative",
  "files.read:/a/../etc",
  "files.read:/a//b",
  "files.read:/a/",
  "files.write:/",
  "",
])("%s means nothing", (text) => {
  expect(parsePermission(text)).toBeUndefined();
});

test.each([
  ["net.tcp", "net.tcp", true],
  ["net.tcp", "net.tcp.connect:80", true],
  ["net.tcp.connect:80", "net.tcp", false],
  ["net.tcp.connect:80", "net.tcp.connect:81", false],
  ["net.udp", "net.tcp", false],
  ["broker.connect:*:*", "broker.connect:192.0.2.1:80", true],
  ["broker.connect:*:80", "broker.connect:a:81", false],
  ["broker.connect:a:*", "broker.connect:*:*", false],
  ["broker.connect:[2001:db8::1]:1", "broker.connect:[2001:db8::1]:1", true],
  ["broker.listen:*", "broker.listen:0", true],
  ["broker.udp:1", "broker.listen:1", false],
  ["files.write:*", "files.read:/media/usb", true],
  ["files.read:*", "files.write:/media/usb", false],
  ["files.read:*", "files.read:*", false],
  ["files.read:/media", "files.read:/media/usb", true],
  ["files.read:/media", "files.read:/mediator", false],
  ["service:*", "service:radio", true],
  ["service:radio", "service:radio", true],
  ["service:radio", "service:other", false],
  ["service:*", "service:*", false],
  ["service.offer:*", "service.offer:*", false],
  ["service:*", "service.offer:radio", false],
  ["serial:*", "serial:/dev/ttyUSB0", true],
  ["serial:*", "serial:/dev/serial/by-id/usb-*", true],
  ["serial:/dev/tty*", "serial:/dev/ttyUSB*", true],
  ["serial:/dev/ttyUSB*", "serial:/dev/tty*", false],
  ["serial:/dev/*", "serial:/dev/serial/by-id/x", false],
  ["serial:/dev/ttyUSB0", "serial:*", false],
  ["serial:*", "serial:*", false],
  ["serial:/dev/tty.SB0", "serial:/dev/ttyUSB0", false],
  ["files.read:*", "serial:/dev/ttyUSB0", false],
  ["engine.members", "engine.members", true],
  ["engine.members", "engine.streams", false],
  ["engine.streams", "engine.members", false],
])("who asks for %s may be given %s: %p", (asked, granted, may) => {
  expect(covers(parsePermission(asked)!, parsePermission(granted)!)).toBe(may);
});

test.each([
  "serial:",
  "serial:dev/ttyUSB0",
  "serial:/dev/../x",
  "serial:/dev//x",
  "serial:/*****",
  "serial:/",
])("%s names no port", (text) => {
  expect(parsePermission(text)).toBeUndefined();
});

test("a policy opens the serial ports that were granted and asked for", () => {
  const policy = serialPolicyOf(["serial:/dev/*"], ["serial:/dev/ttyUSB*", "serial:/dev/serial/by-id/x"]);
  const asked = ["/dev/ttyUSB7", "/dev/ttyACM0", "/dev/ttyUSB*", "/dev/ttyUSB/../sda", "/dev/serial/by-id/x"];
  expect(asked.filter((path) => policy.mayOpen(path))).toEqual(["/dev/ttyUSB7"]);
  expect(policy.refusal("serial:/dev/ttyACM0")).toContain('grant = ["serial:/dev/ttyACM0"]');
  expect(serialPolicyOf([], undefined).mayOpen("/dev/ttyACM0")).toBe(true);
});

test("a policy opens what was granted and asked for, and nothing without both", () => {
  const policy = netPolicyOf(
    ["broker.connect:*:443", "broker.udp:*"],
    ["broker.connect:A.example:443", "broker.listen:1", "broker.udp:5"],
  );
  expect(policy.mayConnect("a.EXAMPLE", 443)).toBe(true);
  expect(policy.mayConnect("a.example", 80)).toBe(false);
  expect(policy.mayListen(1)).toBe(false);
  expect([policy.mayDatagrams(5), policy.mayDatagrams(6)]).toEqual([true, false]);
  expect(netPolicyOf(["broker.connect:*:*"], []).mayConnect("a", 1)).toBe(false);
});

test.each([
  ["service.offer:temperature", ["service.offer:temperature"]],
  ["service:radio", ["service:*"]],
  ["broker.connect:192.0.2.1:443", ["broker.connect:*:443"]],
  ["broker.connect:[2001:db8::1]:443", ["broker.connect:*:*"]],
  ["http.pages", ["http.pages.public"]],
  // Only a `*` covers a host that no permission can name.
  ["broker.connect:no_such_host:443", ["broker.connect:*:*"]],
])(
  "who was not granted %s is sent to whom it concerns: the operator where it was asked for",
  (what, asked) => {
    expect(refusalOf(asked, what)).toBe(
      `the plugin was not granted ${what}: its table gives it by grant = ["${what}"]`,
    );
  },
);

test("a permission that the manifest does not ask for is for its author to mend, not for the operator", () => {
  for (const asked of [[], ["net.tcp"], ["nonsense"], ["service:temperature"]])
    expect(refusalOf(asked, "service.offer:temperature")).toContain(
      "add it to permissions in godwit-plugin.json",
    );
  expect(netPolicyOf([], ["broker.listen:1"]).refusal("broker.listen:1")).toContain("add it to permissions");
});

describe("what the kernel refuses a process that is locked in", () => {
  const asked = ["net.tcp", "net.udp", "files.read:/srv/maps", "service:radio"];

  test("is said with the grants that its manifest asks for and its table does not give", () => {
    expect(withMissingGrant("connect EACCES 127.0.0.1:5", asked, ["net.udp"])).toBe(
      'connect EACCES 127.0.0.1:5; the sandbox refuses what was not granted: its table gives it by grant = ["net.tcp", "files.read:/srv/maps"]',
    );
    expect(
      withMissingGrant("[Errno 13] Permission denied: '/srv/maps/a.map'", asked, ["net.tcp", "net.udp"]),
    ).toEndWith('its table gives it by grant = ["files.read:/srv/maps"]');
  });

  test("of a path that nobody asked for is for its author to mend", () => {
    const words = withMissingGrant("EACCES: permission denied, open '/etc/hostname'", ["net.tcp"], []);
    expect(words).toContain("was not granted files.read:/etc/hostname and cannot be");
    expect(words).toEndWith("or files.write to change what is there");
    expect(withMissingGrant("EPERM", [], [])).toContain("refuses what the manifest does not ask for");
    // All that it asked for was granted, and it was not enough.
    expect(withMissingGrant("EPERM", ["net.tcp"], ["net.tcp"])).toContain("the manifest does not ask for");
  });

  test("of a listener, of which Bun says no more than that it failed, is said where it may not listen", () => {
    const reason = "cannot listen on gull://192.0.2.7:4870: Failed to listen at 192.0.2.7";
    expect(withMissingGrant(reason, ["net.tcp"], [])).toBe(
      `${reason}; the sandbox refuses what was not granted: its table gives it by grant = ["net.tcp"]`,
    );
    expect(withMissingGrant(reason, [], [])).toContain("the manifest does not ask for");
    expect(withMissingGrant(reason, ["net.tcp"], ["net.tcp"])).toBe(reason);
    expect(withMissingGrant(reason, ["net.tcp"], ["net.tcp.listen:4870"])).toBe(reason);
    const ofPath = "Failed to listen at /tmp/gull";
    expect(withMissingGrant(ofPath, ["net.tcp"], [])).toBe(ofPath);
  });

  test("beyond the one port that was granted names what was asked for", () => {
    expect(withMissingGrant("port 4870 (EACCES)", ["net.tcp"], ["net.tcp.listen:4871"])).toEndWith(
      'its table gives it by grant = ["net.tcp"]',
    );
  });

  test("is left alone where it was something else, or is said already", () => {
    for (const reason of ["no such radio", "ENOENT: /etc/x", refusalOf(asked, "net.tcp"), "EACCESSORY"])
      expect(withMissingGrant(reason, asked, [])).toBe(reason);
  });
});

test("an engine may of the mesh what both said; a trusted one may all", () => {
  const both = ["engine.members", "engine.streams"];
  expect(
    [undefined, grantedOf(both, ["engine.streams"]), grantedOf(["engine.members"], both), []].map(
      enginePolicyOf,
    ),
  ).toEqual([
    { mayReadMembers: true, mayStream: true },
    { mayReadMembers: false, mayStream: true },
    { mayReadMembers: true, mayStream: false },
    { mayReadMembers: false, mayStream: false },
  ]);
});
