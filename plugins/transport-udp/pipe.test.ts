/** Two pipes over a path that a test bends: what they find out of its size, and what they must not conclude. */
import { expect, test } from "bun:test";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { MTU_FLOOR } from "./path-mtu.ts";
import { type Address, UdpPipe } from "./pipe.ts";
import { DATA_HEAD_BYTES, decodeUdp, UdpKind } from "./wire.ts";

const ADDRESS: Address = { host: "192.0.2.1", port: 1 };

interface Path {
  /** Largest datagram that passes whole. */
  bytes: number;
  takesFragments: boolean;
  isSilent: boolean;
  /** What the interface refuses at once. */
  interfaceBytes: number;
}

function connect(path: Path) {
  const clock = new ManualClock();
  const pipes: UdpPipe[] = [];
  const sent = { probes: 0, data: 0 };
  const carry = (from: number, bytes: Uint8Array, isWhole: boolean) => {
    const datagram = decodeUdp(bytes)!;
    if (datagram.kind === UdpKind.probe) sent.probes++;
    if (datagram.kind === UdpKind.data) sent.data++;
    if (path.isSilent) return;
    if (bytes.length > path.bytes && (isWhole || !path.takesFragments)) return;
    clock.after(5, () => pipes[1 - from]!.receive(decodeUdp(bytes)!, ADDRESS));
  };
  const sized: string[] = [];
  for (const [end, direction] of (["outbound", "inbound"] as const).entries()) {
    const socket = {
      local: "udp://192.0.2.1:1",
      mtuMax: 1_452,
      clock,
      random: seededRandom(end + 1),
      isWritable: true,
      send: (bytes: Uint8Array) => carry(end, bytes, false),
      sendWhole: (bytes: Uint8Array) => {
        if (bytes.length > path.interfaceBytes) return false;
        carry(end, bytes, true);
        return true;
      },
      proven() {},
      closed() {},
      moved() {},
      sized: (pipe: UdpPipe) => void sized.push(JSON.stringify(pipe.narrow ?? "wide")),
    };
    pipes.push(new UdpPipe(socket, direction, new Uint8Array(8), [ADDRESS]));
  }
  const [pipe, far] = pipes as [UdpPipe, UdpPipe];
  const ended: (Error | undefined)[] = [];
  const arrived: number[] = [];
  pipe.open({ data() {}, drain() {}, closed: (error) => void ended.push(error) });
  far.open({ data: (bytes) => void arrived.push(bytes.length), drain() {}, closed() {} });
  pipe.proven();
  return { clock, pipe, sized, sent, ended, arrived };
}

const wide = (more: Partial<Path> = {}): Path => ({
  bytes: 1_472,
  takesFragments: true,
  isSilent: false,
  interfaceBytes: 9_000,
  ...more,
});

/** Large data now and then, as a link in use has it. */
function use({ clock, pipe }: ReturnType<typeof connect>, ms: number): void {
  for (let at = 0; at < ms; at += 250) {
    pipe.write(new Uint8Array(pipe.mtu).fill(0x80));
    clock.advance(250);
  }
}

test("a path of 576 bytes is used in fragments, and the search for more rests", () => {
  const lab = connect(wide({ bytes: MTU_FLOOR }));
  lab.clock.advance(5_000);
  expect(lab.pipe.mtu).toBe(1_200 - DATA_HEAD_BYTES);
  expect(lab.sized).toEqual(['{"bytes":1200,"isCut":true}']);
  const before = lab.sent.probes;
  lab.clock.advance(300_000);
  expect(lab.sent.probes).toBe(before);
  use(lab, 1_000);
  expect(lab.arrived.every((bytes) => bytes === 1_187)).toBe(true);
  expect(lab.arrived.length).toBe(4);
});

test("a path of 576 bytes that drops fragments carries small frames, and grows when it mends", () => {
  const path = wide({ bytes: MTU_FLOOR, takesFragments: false });
  const lab = connect(path);
  lab.clock.advance(20_000);
  expect(lab.pipe.mtu).toBe(MTU_FLOOR - DATA_HEAD_BYTES);
  path.bytes = 1_472;
  lab.clock.advance(60_000);
  expect(lab.pipe.mtu).toBe(1_452 - DATA_HEAD_BYTES);
  expect(lab.sized.at(-1)).toBe('"wide"');
});

test("a path that shrinks under a link in use is followed down within seconds", () => {
  const path = wide();
  const lab = connect(path);
  use(lab, 1_000);
  expect(lab.pipe.mtu).toBe(1_452 - DATA_HEAD_BYTES);
  path.bytes = 972;
  use(lab, 6_000);
  // Fragments carry it, before and after it is known that they do.
  expect(lab.arrived.length).toBe(lab.sent.data);
  path.takesFragments = false;
  use(lab, 12_000);
  expect(lab.pipe.mtu).toBe(972 - DATA_HEAD_BYTES);
  const before = lab.arrived.length;
  use(lab, 1_000);
  expect(lab.arrived.length).toBe(before + 4);
});

test("an interface that carries less says so at once", () => {
  const lab = connect(wide({ bytes: 548, interfaceBytes: 548 }));
  lab.clock.advance(20);
  expect(lab.sized).toEqual(['{"bytes":1200,"isCut":true}']);
});

test("a path on which nothing is answered proves nothing about sizes", () => {
  const path = wide();
  const lab = connect(path);
  lab.clock.advance(1_000);
  path.isSilent = true;
  use(lab, 15_000);
  expect(lab.pipe.mtu).toBe(1_452 - DATA_HEAD_BYTES);
});

test("a path that carries less than 548 bytes, and no fragments, ends its link with that reason", () => {
  const lab = connect(wide({ bytes: 300, takesFragments: false }));
  lab.clock.advance(30_000);
  return Promise.resolve().then(() => {
    expect(lab.ended.map((error) => error?.message)).toEqual([
      "the path carries no datagram of 548 bytes, whole or in fragments",
    ]);
  });
});
