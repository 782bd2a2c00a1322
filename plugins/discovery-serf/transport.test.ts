/** Real sockets of loopback: what goes over them and what strangers may take of them. */
import { afterEach, expect, test } from "bun:test";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import type { NetHandlers } from "./memberlist/net.ts";
import { Transport, type TransportOptions } from "./transport.ts";
import { compoundOf, Envelope } from "./wire/envelope.ts";
import type { At } from "./wire/messages.ts";
import { encodePushPull } from "./wire/messages.ts";
import { MessageType } from "./wire/types.ts";

const open: Transport[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function transport(options: Partial<TransportOptions> = {}, handlers: Partial<NetHandlers> = {}) {
  const clock = new ManualClock();
  const dropped: string[] = [];
  const packets: Uint8Array[] = [];
  const got = Promise.withResolvers<void>();
  const own = await Transport.open({
    host: "127.0.0.1",
    port: 0,
    isPortSearched: false,
    isStreamsOnly: false,
    envelope: new Envelope({ keyring: undefined, label: "", random: seededRandom(1) }),
    clock,
    dropped: (reason) => dropped.push(reason),
    counted() {},
    ...options,
  });
  open.push(own);
  own.open({
    packet(message) {
      packets.push(message.slice());
      got.resolve();
    },
    stream: (message) => (message[0] === MessageType.pushPull ? message : undefined),
    ...handlers,
  });
  const at: At = { address: own.port === 0 ? "" : (options.host ?? "127.0.0.1"), port: own.port };
  return { own, at, clock, dropped, packets, got: got.promise };
}

async function until(isTrue: () => boolean): Promise<void> {
  const endMs = performance.now() + 5_000;
  while (!isTrue()) {
    if (performance.now() > endMs) throw new Error("not within 5 s");
    await Bun.sleep(2);
  }
}

const state = encodePushPull(
  [],
  new Uint8Array(100_000).map((_, i) => (i * 7_919) >> 5),
  false,
);

for (const host of ["127.0.0.1", "::1", "::"])
  test(`${host}: a datagram and a stream, each way`, async () => {
    const a = await transport({ host });
    const b = await transport({ host });
    const to = { address: host === "::" ? "127.0.0.1" : host, port: b.own.port };
    a.own.packet(to, [Uint8Array.of(5, 1), Uint8Array.of(5, 2)], true);
    await b.got;
    expect(b.packets.map((one) => [...one])).toEqual([
      [5, 1],
      [5, 2],
    ]);
    expect(Buffer.compare(await a.own.ask(to, state, 5_000), state)).toBe(0);
    await a.own.tell(to, Uint8Array.of(0, 0x80), 5_000);
    await expect(a.own.ask(to, Uint8Array.of(0, 0x80), 5_000)).rejects.toMatchObject({
      code: "GODWIT_DIAL_FAILED",
    });
  });

test("a silent stream ends after its time, one that nobody takes at once", async () => {
  const a = await transport();
  const closed = Promise.withResolvers<void>();
  await Bun.connect({
    hostname: "127.0.0.1",
    port: a.own.port,
    socket: { data() {}, close: () => closed.resolve() },
  });
  await Bun.sleep(20);
  a.clock.advance(10_001);
  await closed.promise;
  const asked = a.own.ask({ address: "127.0.0.1", port: a.own.port }, Uint8Array.of(99, 0x80), 5_000);
  await expect(asked).rejects.toMatchObject({ code: "GODWIT_DIAL_FAILED" });
});

test("of more streams at once than there are places the silent yield, and all give their memory back", async () => {
  const a = await transport();
  let closed = 0;
  const sockets = [];
  for (let i = 0; i < 100; i++)
    sockets.push(
      await Bun.connect({
        hostname: "127.0.0.1",
        port: a.own.port,
        // A state of so many bytes that never comes.
        socket: {
          open: (socket) => void socket.write(Buffer.from("06db00100000", "hex")),
          data() {},
          close: () => void closed++,
        },
      }),
    );
  await until(() => a.dropped.filter((reason) => reason === "streams").length >= 84);
  expect(
    Buffer.compare(await a.own.ask({ address: "127.0.0.1", port: a.own.port }, state, 5_000), state),
  ).toBe(0);
  for (const socket of sockets) socket.terminate();
  await until(() => closed === 100);
});

test("a flood of datagrams is looked at to its bound, and counted", async () => {
  const a = await transport();
  for (let i = 0; i < 6_000; i++) a.own.onDatagram(Buffer.from([5, 1]), "192.0.2.1", 1);
  expect(a.packets.length).toBe(4_000);
  expect(a.dropped).toEqual(Array.from({ length: 2_000 }, () => "rate"));
  a.clock.advance(500);
  for (let i = 0; i < 2_000; i++) a.own.onDatagram(Buffer.from([5, 1]), "192.0.2.1", 1);
  expect(a.packets.length).toBe(5_000);
});

test("a handler that throws, and bytes that are nothing, are counted and end nothing", async () => {
  const a = await transport(
    {},
    {
      packet() {
        throw new Error("malformed");
      },
    },
  );
  a.own.onDatagram(Buffer.from([5, 1]), "192.0.2.1", 1);
  a.own.onDatagram(Buffer.from([7]), "192.0.2.1", 1);
  a.own.onDatagram(Buffer.from([244, 1, 65, 5]), "192.0.2.1", 1);
  expect(a.dropped).toEqual(["malformed", "malformed", "label"]);
});

test("a port that is taken: the error says by whom, and with port_search the next one is taken", async () => {
  const a = await transport();
  const taken = Transport.open({ ...optionsOf(a.own.port), isPortSearched: false });
  await expect(taken).rejects.toMatchObject({
    code: "GODWIT_LISTEN_FAILED",
    message: expect.stringMatching(
      new RegExp(`port ${a.own.port}: this node itself \\(PID ${process.pid}\\) has it; .*port_search`),
    ),
  });
  const next = await Transport.open({ ...optionsOf(a.own.port), isPortSearched: true });
  open.push(next);
  expect(next.port).toBeGreaterThan(a.own.port);
});

const optionsOf = (port: number): TransportOptions => ({
  host: "127.0.0.1",
  port,
  isPortSearched: false,
  isStreamsOnly: false,
  envelope: new Envelope({ keyring: undefined, label: "", random: seededRandom(1) }),
  clock: new ManualClock(),
  dropped() {},
  counted() {},
});

test("datagrams full of messages are looked at to the bound of messages, and counted", async () => {
  const a = await transport();
  const full = Buffer.from(compoundOf(Array.from({ length: 255 }, () => Uint8Array.of(5, 1))));
  for (let i = 0; i < 100; i++) a.own.onDatagram(full, "192.0.2.1", 1);
  expect(a.packets.length).toBe(8_000);
  expect(a.dropped).toEqual(Array.from({ length: 69 }, () => "rate"));
  a.clock.advance(250);
  for (let i = 0; i < 100; i++) a.own.onDatagram(full, "192.0.2.1", 1);
  expect(a.packets.length).toBe(9_000);
});

test("answers that nobody reads are held to a bound", async () => {
  const answer = new Uint8Array(6_000_000).map((_, i) => (i * 7_919) >> 5);
  const a = await transport({}, { stream: () => answer });
  const sockets = await Promise.all(
    Array.from({ length: 12 }, () =>
      Bun.connect({
        hostname: "127.0.0.1",
        port: a.at.port,
        socket: {
          open(socket) {
            socket.pause();
            socket.write(state);
          },
          data() {},
        },
      }),
    ),
  );
  // More than the kernel takes: one waits, and each further one ends at once.
  await until(() => a.dropped.length === 11);
  expect(new Set(a.dropped)).toEqual(new Set(["held"]));
  for (const socket of sockets) socket.terminate();
  await until(() => a.own.unsent === 0);
});

test("bytes of streams are bounded in a second, and a stream that is over leaves its place", async () => {
  const [a, b] = [await transport(), await transport()];
  const to = { address: "127.0.0.1", port: a.own.port };
  // Too long to be made smaller.
  const large = encodePushPull([], seededRandom(9).bytes(300_000), false);
  let answered = 0;
  for (let n = 0; n < 30; n++)
    await b.own.ask(to, large, 5_000).then(
      () => answered++,
      () => {},
    );
  // 4 MiB at once, and no time passes.
  expect(answered).toBe(13);
  expect(new Set(a.dropped)).toEqual(new Set(["rate"]));
  a.clock.advance(1_000);
  expect(Buffer.compare(await b.own.ask(to, state, 5_000), state)).toBe(0);
});

test("what is held of streams that are not whole is bounded in all", async () => {
  const a = await transport();
  const part = Buffer.concat([Buffer.from("06db00180000", "hex"), new Uint8Array(900_000)]);
  const sockets: { terminate(): void }[] = [];
  // Slowly enough for the bound of bytes in a second.
  for (let n = 0; n < 6; n++) {
    a.clock.advance(1_000);
    const { promise, resolve } = Promise.withResolvers<void>();
    let at = 0;
    const push = (socket: { write(bytes: Uint8Array): number }) => {
      at += Math.max(0, socket.write(part.subarray(at)));
      if (at === part.length) resolve();
    };
    sockets.push(
      await Bun.connect({
        hostname: "127.0.0.1",
        port: a.own.port,
        socket: { open: push, drain: push, data() {}, close: () => resolve(), error() {} },
      }),
    );
    await promise;
  }
  await until(() => a.dropped.length > 0);
  expect(a.dropped[0]).toBe("held");
  for (const socket of sockets) socket.terminate();
});
