import { expect, test } from "bun:test";
import type { Socket } from "bun";
import { TcpPipe, type SocketState } from "./pipe.ts";

/** A socket whose kernel takes so many bytes and then no more. */
function fakeSocket() {
  const kernel = { room: 0 };
  const socket = {
    localAddress: "127.0.0.1",
    localPort: 1,
    remoteAddress: "127.0.0.1",
    remotePort: 2,
    setNoDelay() {},
    setKeepAlive() {},
    pause() {},
    resume() {},
    end() {},
    terminate() {},
    write(bytes: Uint8Array) {
      const taken = Math.min(kernel.room, bytes.length);
      kernel.room -= taken;
      return taken;
    },
  };
  return { kernel, socket: socket as unknown as Socket<SocketState> };
}

test("a write between full and drained does not swallow the drain: whoever was told to stop is told to go on", () => {
  const { kernel, socket } = fakeSocket();
  const owner = { after: () => ({ cancel() {} }), onProven() {}, onOver() {} };
  const pipe = new TcpPipe(socket, "outbound", "tcp", owner);
  let drains = 0;
  pipe.open({ data() {}, drain: () => drains++, closed() {} });
  expect(pipe.write(new Uint8Array(600 * 1024))).toBe(false);
  kernel.room = 200 * 1024;
  pipe.onDrain();
  expect(drains).toBe(0);
  // A probe, say: what waits lies between the high-water mark and half of it.
  expect(pipe.write(new Uint8Array(20))).toBe(false);
  kernel.room = 1024 * 1024;
  pipe.onDrain();
  expect([drains, pipe.bufferedBytes]).toEqual([1, 0]);
  expect(pipe.write(new Uint8Array(20))).toBe(true);
});
