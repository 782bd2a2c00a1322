import { afterEach, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { ManualClock } from "../../testkit/index.ts";
import type { Clock } from "../clock.ts";
import {
  attributeList,
  buildAddAddress,
  buildAddLink,
  buildAddRoute,
  buildChangeLink,
  buildDeleteAddress,
  buildDeleteLink,
  buildDeleteRoute,
  buildDump,
  buildGetFamily,
  formatIp,
  hasErrno,
  LinkFlag,
  NetlinkBuilder,
  NetlinkSocket,
  parseAll,
  parseFamily,
  parseIp,
  parseLink,
  parseMessages,
  parseOutcome,
  parseRoute,
  resolveFamily,
  RouteGroup,
  RouteNews,
  RouteType,
  Rtnetlink,
  tryParseIp,
} from "./index.ts";
import vectors from "./vectors.json";

const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
/** Sequence numbers of a capture are its time of day. */
const withoutSequence = (hex: string) => `${hex.slice(0, 16)}00000000${hex.slice(24)}`;
const sent = (builder: NetlinkBuilder) => Buffer.from(builder.finish(0)).toString("hex");
const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, fn) => {
    const timer = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

// Captured from iproute2 6.1 and wireguard-tools 1.0.20210914, below their socket calls.
describe("requests are what ip and wg send, byte for byte", () => {
  const v4 = { index: 2, address: parseIp("10.99.3.1"), prefixLength: 24 };
  const built: Readonly<Record<string, NetlinkBuilder>> = {
    "add link": buildAddLink({ name: "cap0", kind: "bridge" }),
    "link up": buildChangeLink(2, { isUp: true }),
    "link down": buildChangeLink(2, { isUp: false }),
    "link mtu": buildChangeLink(2, { mtu: 1_400 }),
    "link alias": buildChangeLink(2, { alias: "godwit abc" }),
    "rename link": buildChangeLink(2, { name: "cap9" }),
    "delete link": buildDeleteLink(2),
    "add address 4": buildAddAddress(v4),
    "add address 6": buildAddAddress({
      index: 2,
      address: parseIp("fd99::5"),
      prefixLength: 64,
      skipsDuplicateCheck: true,
    }),
    "delete address": buildDeleteAddress(v4),
    "add route 4": buildAddRoute({
      destination: parseIp("10.98.0.0"),
      prefixLength: 16,
      index: 2,
      source: parseIp("10.99.3.1"),
    }),
    "add default route": buildAddRoute({
      destination: parseIp("0.0.0.0"),
      prefixLength: 0,
      gateway: parseIp("10.99.3.254"),
    }),
    "add route 6": buildAddRoute({ destination: parseIp("fd98::"), prefixLength: 48, index: 2, metric: 77 }),
    "delete route": buildDeleteRoute({ destination: parseIp("10.98.0.0"), prefixLength: 16, index: 2 }),
    family: buildGetFamily("wireguard"),
  };
  test.each(Object.entries(vectors.requests))("%s", (name, hex) => {
    expect(sent(built[name]!)).toBe(withoutSequence(hex));
  });
  test("each has its capture", () =>
    expect(Object.keys(built).sort()).toEqual(Object.keys(vectors.requests).sort()));

  test("the request for a listing", () => {
    const hex = (type: 18 | 22 | 26) => Buffer.from(buildDump(type).finish(7)).toString("hex");
    expect(hex(RouteType.getLink)).toBe(`20000000120001030700000000000000${"00".repeat(16)}`);
    expect(hex(RouteType.getAddress)).toBe(`18000000160001030700000000000000${"00".repeat(8)}`);
    expect(hex(RouteType.getRoute)).toBe(`1c0000001a0001030700000000000000${"00".repeat(12)}`);
  });
});

describe("what the kernel answered", () => {
  test("routes", () => {
    const messages = vectors.routes.flatMap((hex) => parseMessages(bytesOf(hex)));
    const found = parseAll(messages, RouteType.newRoute, parseRoute).filter(
      ({ table, type }) => table === 254 && type === 1,
    );
    expect(
      found.map(({ destination, prefixLength, gateway, metric, index }) => [
        `${formatIp(destination)}/${prefixLength}`,
        gateway === undefined ? undefined : formatIp(gateway),
        metric,
        index,
      ]),
    ).toEqual([
      ["0.0.0.0/0", "10.99.3.254", undefined, 2],
      ["10.99.3.0/24", undefined, undefined, 2],
      ["fd98::/48", undefined, 77, 2],
      ["fd99::/64", undefined, 256, 2],
      ["fe80::/64", undefined, 256, 2],
    ]);
  });

  test("a link with its kind and alias", () => {
    const [message] = parseMessages(bytesOf(vectors.links[0]!));
    expect(parseLink(message!.body)).toMatchObject({
      index: 2,
      name: "cap0",
      mtu: 1_400,
      kind: "bridge",
      alias: "godwit abc",
    });
  });

  test("refusals with the kernel's words, acknowledgements, the end of a listing", () => {
    const outcomes = vectors.outcomes.map((hex) => parseOutcome(parseMessages(bytesOf(hex))[0]!));
    expect(outcomes).toEqual([
      { errno: 95, text: "Unknown device type" },
      { errno: 17, text: "ipv4: Address already assigned" },
      { errno: 0, text: undefined },
      { errno: 17, text: undefined },
      { errno: 0, text: undefined },
    ]);
  });

  test("a generic family and its groups", () => {
    const [message] = parseMessages(bytesOf(vectors.family[0]!));
    const family = parseFamily(message!);
    expect([family.id, family.name, family.version, [...family.groups]]).toEqual([
      16,
      "nlctrl",
      2,
      [["notify", 16]],
    ]);
  });

  test("cut or bent anywhere, it is refused or says less, and nothing else happens", () => {
    const datagrams = [...vectors.routes, ...vectors.outcomes, ...vectors.links, ...vectors.family].map(
      bytesOf,
    );
    const read = (datagram: Uint8Array) => {
      try {
        for (const message of parseMessages(datagram)) {
          for (const parse of [parseLink, parseRoute, attributeList])
            try {
              parse(message.body);
            } catch (error) {
              expect(error).toMatchObject({ code: "GODWIT_DECODE" });
            }
          parseOutcome(message);
          parseFamily(message);
        }
      } catch (error) {
        expect(error).toMatchObject({ code: "GODWIT_DECODE" });
      }
    };
    for (const datagram of datagrams)
      for (let at = 0; at < datagram.length; at += 3) {
        read(datagram.subarray(0, at));
        for (const value of [0, 1, 0xff]) {
          const bent = datagram.slice();
          bent[at] = value;
          read(bent);
        }
      }
  });
});

describe("the builder", () => {
  test("refuses what does not fit", () => {
    const builder = () => new NetlinkBuilder(16, 0);
    for (const build of [
      () => builder().attribute(1, new Uint8Array(65_532)),
      () => builder().raw(new Uint8Array(65_536)),
      () => builder().attributeText(1, "a\0b"),
      () => builder().nest(1, (inside) => inside.raw(new Uint8Array(65_533))),
    ])
      expect(build).toThrow(expect.objectContaining({ code: "GODWIT_ENCODE" }));
  });

  test("what it builds reads back, however long", () => {
    for (let length = 0; length < 2_000; length += 37) {
      const value = Uint8Array.from({ length }, (_, i) => i);
      const [message] = parseMessages(new NetlinkBuilder(99, 5).attribute(7, value).finish(3));
      expect(message).toMatchObject({ type: 99, flags: 5, sequence: 3 });
      expect(attributeList(message!.body)).toEqual([{ type: 7, value }]);
    }
  });
});

test("addresses read as RFC 5952 writes them, and back", () => {
  for (const [text, canonical] of [
    ["2001:db8::1", "2001:db8::1"],
    ["::", "::"],
    ["::1", "::1"],
    ["2001:DB8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["fe80:0:0:0:0:0:0:0", "fe80::"],
    ["::ffff:192.0.2.1", "::ffff:c000:201"],
    ["192.0.2.255", "192.0.2.255"],
  ] as const)
    expect([text, formatIp(parseIp(text))]).toEqual([text, canonical]);
  for (const text of [
    "",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "256.1.1.1",
    "1.2.3",
    "a.b.c.d",
    "12345::",
    "1:2:3:4:5:6:7:8::",
    "1.2.3.4::",
    "fe80::1%eth0",
  ])
    expect([text, tryParseIp(text)]).toEqual([text, undefined]);
  expect(() => parseIp("x")).toThrow(expect.objectContaining({ code: "GODWIT_ADDRESS_INVALID" }));
});

const why =
  process.platform !== "linux"
    ? "needs Linux"
    : process.getuid?.() !== 0
      ? "needs root to make interfaces"
      : undefined;
const label = (name: string) => `${name}${why === undefined ? "" : ` [skipped: ${why}]`}`;

describe("the real kernel", () => {
  test.skipIf(why !== undefined)(label("a link, its addresses and routes come, change and go"), async () => {
    const kernel = new Rtnetlink(systemClock);
    cleanups.push(() => kernel.close());
    const news = new RouteNews(RouteGroup.link | RouteGroup.ipv4Address | RouteGroup.ipv6Address);
    cleanups.push(() => news.close());
    const name = `gwt${process.pid}`;
    const { index } = await kernel.addLink({ name, kind: "bridge", mtu: 1_400 });
    cleanups.unshift(() => Bun.spawnSync(["ip", "link", "del", name]));
    expect(await kernel.addLink({ name, kind: "bridge" }).catch((error: unknown) => error)).toMatchObject({
      code: "GODWIT_NETLINK",
      errno: "EEXIST",
    });
    await kernel.changeLink(index, { isUp: true, alias: "godwit test" });
    const v6 = { index, address: parseIp("fd47:6f64::1"), prefixLength: 128, skipsDuplicateCheck: true };
    expect([await kernel.addAddress(v6), await kernel.addAddress(v6)]).toEqual([true, false]);
    const route = { destination: parseIp("fd47:6f64:1::"), prefixLength: 48, index, metric: 7 };
    expect([await kernel.addRoute(route), await kernel.addRoute(route)]).toEqual([true, false]);
    expect(await kernel.linkNamed(name)).toMatchObject({ mtu: 1_400, kind: "bridge", alias: "godwit test" });
    expect((await kernel.addresses()).some((found) => formatIp(found.address) === "fd47:6f64::1")).toBe(true);
    const isOurs = (found: { index: number | undefined; prefixLength: number }) =>
      found.index === index && found.prefixLength === 48;
    expect((await kernel.routes()).filter(isOurs)).toHaveLength(1);
    expect([await kernel.deleteRoute(route), await kernel.deleteRoute(route)]).toEqual([true, false]);
    expect([await kernel.deleteAddress(v6), await kernel.deleteAddress(v6)]).toEqual([true, false]);
    const heard = news.poll().datagrams.flatMap(parseMessages);
    expect(parseAll(heard, RouteType.newLink, parseLink).filter((link) => link.name === name)).not.toEqual(
      [],
    );
    await kernel.changeLink(index, { isUp: false });
    await kernel.changeLink(index, { name: `${name}b`, mtu: 1_300 });
    const renamed = await kernel.linkNamed(`${name}b`);
    expect([renamed?.mtu, renamed!.flags & LinkFlag.up]).toEqual([1_300, 0]);
    expect([await kernel.deleteLink(index), await kernel.deleteLink(index)]).toEqual([true, false]);
  });

  test.skipIf(why !== undefined)(label("news wake who listens, until the end is asked for"), async () => {
    const kernel = new Rtnetlink(systemClock);
    cleanups.push(() => kernel.close());
    const news = new RouteNews(RouteGroup.link);
    cleanups.push(() => news.close());
    let rung = Promise.withResolvers<void>();
    let ends = 0;
    let rings = 0;
    news.listen(
      () => (rings++, rung.resolve()),
      () => ends++,
    );
    const name = `gwn${process.pid}`;
    const { index } = await kernel.addLink({ name, kind: "bridge" });
    cleanups.unshift(() => Bun.spawnSync(["ip", "link", "del", name]));
    await rung.promise;
    rung = Promise.withResolvers<void>();
    await kernel.deleteLink(index);
    await rung.promise;
    news.close();
    const before = rings;
    Bun.spawnSync(["ip", "link", "add", name, "type", "bridge"]);
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect([rings, ends]).toEqual([before, 0]);
  });

  test.skipIf(why !== undefined)(
    label("more news than the socket holds are an end, not silence"),
    async () => {
      const kernel = new Rtnetlink(systemClock);
      cleanups.push(() => kernel.close());
      const news = new RouteNews(RouteGroup.link);
      cleanups.push(() => news.close());
      const ended = Promise.withResolvers<void>();
      news.listen(() => {}, ended.resolve);
      const name = `gwo${process.pid}`;
      cleanups.unshift(() => Bun.spawnSync(["ip", "link", "del", name]));
      Bun.spawnSync(["ip", "link", "add", name, "type", "bridge"]);
      const flips = Array.from({ length: 4_000 }, (_, i) => `link set ${name} mtu ${1_300 + (i % 2)}\n`);
      // While nobody of this process looks.
      Bun.spawnSync(["ip", "-batch", "-"], { stdin: Buffer.from(flips.join("")) });
      await ended.promise;
    },
  );

  test.skipIf(why !== undefined)(
    label("a kind that it does not know is EOPNOTSUPP, with its words"),
    async () => {
      const kernel = new Rtnetlink(systemClock);
      cleanups.push(() => kernel.close());
      const error = await kernel
        .addLink({ name: "gwnone0", kind: "nosuchkind" })
        .catch((caught: unknown) => caught);
      expect(hasErrno(error, "EOPNOTSUPP")).toBe(true);
      expect(String(error)).toContain("Unknown device type");
    },
  );

  const linux = process.platform === "linux" ? undefined : "needs Linux";
  const onLinux = (name: string) => `${name}${linux === undefined ? "" : ` [skipped: ${linux}]`}`;
  test.skipIf(linux !== undefined)(
    onLinux("families by name; one that is not there is undefined"),
    async () => {
      const socket = NetlinkSocket.open("generic");
      cleanups.push(() => socket.close());
      const options = { clock: systemClock };
      expect((await resolveFamily(socket, "nlctrl", options))?.id).toBe(16);
      expect(await resolveFamily(socket, "nosuch", options)).toBeUndefined();
    },
  );

  test.skipIf(linux !== undefined)(
    onLinux("requests at once answer each their own, and a closed socket says so"),
    async () => {
      const socket = NetlinkSocket.open("route");
      const ask = (type: 18 | 22) => socket.request("list", () => buildDump(type), { clock: systemClock });
      const answers = await Promise.all([ask(18), ask(22), ask(18), ask(22)]);
      expect(answers.map((messages) => new Set(messages.map(({ type }) => type)))).toEqual(
        [16, 20, 16, 20].map((type) => new Set([type])),
      );
      expect(socket.receive()).toBeUndefined();
      socket.close();
      socket.close();
      expect(await ask(18).catch((error: unknown) => error)).toMatchObject({ code: "GODWIT_STOPPED" });
    },
  );

  test.skipIf(linux !== undefined)(
    onLinux("an answer that never comes ends by the clock or by the signal"),
    async () => {
      const clock = new ManualClock();
      const socket = NetlinkSocket.open("route");
      cleanups.push(() => socket.close());
      // Without the flags of a request the kernel is silent.
      const mute = () => new NetlinkBuilder(RouteType.getLink, 0);
      const asking = socket.request("mute", mute, { clock }).catch((error: unknown) => error);
      for (let i = 0; i < 60; i++) await clock.advance(100);
      expect(await asking).toMatchObject({ code: "GODWIT_NETLINK", errno: "ETIMEDOUT" });
      const abort = new AbortController();
      const aborted = socket
        .request("mute", mute, { clock, signal: abort.signal })
        .catch((error: unknown) => error);
      await Promise.resolve();
      abort.abort("enough");
      for (let i = 0; i < 3; i++) await clock.advance(100);
      expect(await aborted).toBe("enough");
    },
  );

  test.skipIf(linux !== undefined)(onLinux("no descriptor stays behind"), () => {
    const count = () => readdirSync("/proc/self/fd").length;
    const before = count();
    for (let i = 0; i < 50; i++) NetlinkSocket.open("route").close();
    // Other tests of this process may open or close a few of theirs meanwhile.
    expect(count()).toBeLessThan(before + 25);
  });
});
