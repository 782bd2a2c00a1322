import { describe, expect, test } from "bun:test";
import { TestHost } from "@godwit/sdk/testkit";
import fc from "fast-check";
import plugin from "./index.ts";
import { MTU_BASE, PathMtu } from "./path-mtu.ts";
import { ReceiveCount, SendWindow, WINDOW_FIRST, WINDOW_MAX, WINDOW_MIN } from "./window.ts";
import { decodeUdp, encodeData, encodeUdp, UdpKind } from "./wire.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const id = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 0xff);

describe("datagrams", () => {
  test("golden bytes", () => {
    expect(hex(encodeData(true, id, 0x01020304, Uint8Array.of(0x80, 9)))).toBe(
      "d901020304050607ff010203048009",
    );
    const feedback = encodeUdp(UdpKind.feedback, false, id, 8, (_, view) => {
      view.setUint32(0, 5);
      view.setUint32(4, 0xffff_ffff);
    });
    expect(hex(feedback)).toBe("d201020304050607ff00000005ffffffff");
    expect(hex(encodeUdp(UdpKind.reset, true, id, 0))).toBe("df01020304050607ff");
  });

  test("whatever comes is a datagram of ours or nothing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const datagram = decodeUdp(bytes);
        return (
          datagram === undefined || (datagram.id.length === 8 && datagram.body.length === bytes.length - 9)
        );
      }),
    );
    expect(decodeUdp(encodeData(true, id, 1, new Uint8Array(0)))).toBeUndefined();
    expect(decodeUdp(Uint8Array.of(0xd0, ...id, 0, 0, 0, 0, 0))).toBeUndefined();
  });
});

describe("window", () => {
  /** Sends as the window lets, a round at a time; `isLost` says which sequence numbers vanish. */
  function run(window: SendWindow, count: ReceiveCount, rounds: number, isLost: (n: number) => boolean) {
    for (let round = 0; round < rounds; round++) {
      while (window.hasRoom) {
        const sequence = window.take();
        if (!isLost(sequence)) count.note(sequence);
      }
      window.onFeedback(count.highest, count.received);
    }
  }

  test("grows while all arrives, up to its bound", () => {
    const window = new SendWindow();
    expect(window.limit).toBe(WINDOW_FIRST);
    run(window, new ReceiveCount(), 20, () => false);
    expect(window.limit).toBe(WINDOW_MAX);
  });

  test("shrinks under heavy loss, never below its bound, and bears a little", () => {
    const heavy = new SendWindow();
    run(heavy, new ReceiveCount(), 40, (n) => n % 4 === 1);
    expect(heavy.limit).toBe(WINDOW_MIN);
    const light = new SendWindow();
    run(light, new ReceiveCount(), 100, (n) => n % 100 === 1);
    expect(light.limit).toBe(WINDOW_MAX);
  });

  test("silence frees what was on its way; feedback of nonsense changes nothing", () => {
    const window = new SendWindow();
    while (window.hasRoom) window.take();
    window.onFeedback(1_000_000, 5);
    expect(window.hasRoom).toBe(false);
    window.onSilence();
    expect(window.inFlight).toBe(0);
  });

  test("sequence numbers wrap", () => {
    const count = new ReceiveCount();
    for (const sequence of [0xffff_fffe, 0xffff_ffff, 0, 1]) count.note(sequence);
    expect(count.highest).toBe(1);
  });
});

describe("path size", () => {
  /** Searches a path that carries `path` bytes; answers the sizes tried. */
  function search(mtu: PathMtu, path: number, takesFragments = false): number[] {
    const tried: number[] = [];
    for (let probe = mtu.candidate; probe !== undefined; probe = mtu.candidate) {
      tried.push(probe.size);
      if (probe.size <= path || (takesFragments && !probe.isWhole)) mtu.passed(probe);
      else mtu.failed(probe);
    }
    return tried;
  }
  const whole = (size: number) => ({ size, isWhole: true });

  test.each([
    [548, 548],
    [600, 548],
    [972, 972],
    [1_173, 1_172],
    [1_200, 1_200],
    [1_300, 1_280],
    [1_472, 1_452],
    [8_972, 8_952],
    [5_000, 4_052],
  ])("of %d bytes: finds %d in few steps", (path, found) => {
    const mtu = new PathMtu(8_952);
    expect(mtu.size).toBe(MTU_BASE);
    expect(search(mtu, path).length).toBeLessThanOrEqual(5);
    expect([mtu.size, mtu.isCut, mtu.isDead]).toEqual([found, false, false]);
  });

  test("a path below the base that takes fragments is used in fragments, and whole again once it is wider", () => {
    const mtu = new PathMtu(8_952);
    expect(search(mtu, 600, true)).toEqual([1_200, 1_200]);
    expect([mtu.size, mtu.isCut, mtu.current.isWhole]).toEqual([1_200, true, false]);
    mtu.forget();
    search(mtu, 1_472);
    expect([mtu.size, mtu.isCut]).toEqual([1_452, false]);
  });

  test("a path that shrinks below the base is followed down, and up when it mends", () => {
    const mtu = new PathMtu(1_452);
    search(mtu, 1_472);
    mtu.failed(mtu.current);
    search(mtu, 972);
    expect(mtu.size).toBe(972);
    mtu.failed(mtu.current);
    search(mtu, 600);
    expect(mtu.size).toBe(548);
    mtu.forget();
    // What is known to pass stays in use while more is tried.
    expect(mtu.size).toBe(548);
    search(mtu, 1_472);
    expect(mtu.size).toBe(1_452);
  });

  test("a path that loses its fragments, or all, says so", () => {
    const mtu = new PathMtu(1_452);
    search(mtu, 972, true);
    mtu.failed(mtu.current);
    search(mtu, 972);
    expect([mtu.size, mtu.isCut, mtu.isDead]).toEqual([972, false, false]);
    mtu.failed(mtu.current);
    search(mtu, 500);
    expect(mtu.isDead).toBe(true);
  });

  test("a black hole leads to the base at once, and up again to what still passes", () => {
    const mtu = new PathMtu(1_452);
    search(mtu, 1_500);
    mtu.failed(whole(1_452));
    expect(mtu.size).toBe(MTU_BASE);
    search(mtu, 1_400);
    expect(mtu.size).toBe(1_372);
    mtu.forget();
    search(mtu, 1_500);
    expect(mtu.size).toBe(1_452);
  });

  test("never beyond what was configured", () => {
    const mtu = new PathMtu(1_300);
    search(mtu, 9_000);
    expect(mtu.size).toBe(1_300);
    const least = new PathMtu(1_200);
    expect(search(least, 9_000)).toEqual([1_200]);
    expect(least.size).toBe(1_200);
  });
});

describe("dials", () => {
  test("an IPv6 address written out in full, or in capitals, is found like its short form", async () => {
    const host = new TestHost(plugin);
    await host.start({ listen: ["[::1]:0"] });
    const port = Number(host.endpoints[0]!.split(":").at(-1));
    for (const address of ["::1", "0:0:0:0:0:0:0:1", "0000::0001"]) {
      const pipe = await host.driver!.dial(`udp://[${address}]:${port}`, new AbortController().signal);
      const answers: number[] = [];
      pipe.open({ data: (bytes) => void answers.push(bytes.length), drain() {}, closed() {} });
      pipe.write(Uint8Array.of(0x13));
      const before = host.accepted.length;
      while (host.accepted.length === before) await new Promise((resolve) => setImmediate(resolve));
      host.accepted.at(-1)!.write(Uint8Array.of(0x13));
      const deadlineMs = performance.now() + 1_000;
      while (answers.length === 0 && performance.now() < deadlineMs)
        await new Promise((resolve) => setImmediate(resolve));
      expect([address, ...answers]).toEqual([address, 1]);
      pipe.close();
    }
    for (const pipe of host.accepted) pipe.close();
    await host.stop();
    expect(host.leaks()).toEqual([]);
  });
});

describe("strangers", () => {
  test("leave nothing behind unless the node finds that they begin a handshake with it", async () => {
    const host = new TestHost(plugin);
    await host.start({ listen: ["127.0.0.1:0"] });
    const port = Number(host.endpoints[0]!.split(":").at(-1));
    const resets: number[] = [];
    const socket = await Bun.udpSocket({
      hostname: "127.0.0.1",
      socket: { data: (_, bytes) => void resets.push(bytes.length) },
    });
    const connection = (n: number) => new Uint8Array(8).fill(n);
    const send = (bytes: Uint8Array) => socket.send(bytes, port, "127.0.0.1");
    send(new Uint8Array(50));
    send(encodeData(true, connection(1), 0, Uint8Array.of(0x80, 1)));
    send(encodeUdp(UdpKind.probe, true, connection(1), 1_000));
    send(encodeData(false, connection(1), 0, Uint8Array.of(0x13)));
    while (resets.length < 1) await new Promise((resolve) => setImmediate(resolve));
    expect(host.accepted.length).toBe(0);
    // A record of an unknown connection is answered by less than it.
    expect(resets).toEqual([9]);
    // What the node does not know leaves nothing, what it answers leaves nothing either.
    host.onScreen = (bytes) => (bytes[0] === 0x13 ? undefined : Uint8Array.of(0x16, bytes[0]!));
    for (let n = 0; n < 40; n++) send(encodeData(true, connection(n), 0, Uint8Array.of(0x13)));
    send(encodeData(true, connection(41), 0, Uint8Array.of(0x10)));
    while ((host.counters.get("dropped{reason=stranger}") ?? 0) < 40 || resets.length < 2)
      await new Promise((resolve) => setImmediate(resolve));
    expect([resets.at(-1), host.accepted.length]).toEqual([15, 0]);
    host.onScreen = () => "open";
    send(encodeData(true, connection(99), 0, Uint8Array.of(0x13)));
    while (host.accepted.length < 1) await new Promise((resolve) => setImmediate(resolve));
    socket.close();
    await host.stop();
    for (const pipe of host.accepted) pipe.close();
    expect(host.leaks()).toEqual([]);
  });
});
