/** A TCP connection to a node as a pipe, without a transport around it. */
import type { Pipe } from "@godwit/sdk";
import { TcpPipe, type SocketState } from "@godwit/sdk/tcp";
import { systemClock } from "../../runtime/kernel/clock.ts";

const after = (delayMs: number, fn: () => void) => systemClock.after(delayMs, fn);

export async function dialPipe(port: number): Promise<{ readonly pipe: Pipe; end(): void }> {
  const state: SocketState = { pipe: undefined, onOpen() {} };
  const socket = await Bun.connect<SocketState>({
    hostname: "127.0.0.1",
    port,
    data: state,
    socket: {
      open(opened) {
        state.pipe = new TcpPipe(opened, "outbound", "tcp", { after, onProven() {}, onOver() {} });
      },
      data: (_, bytes) => state.pipe?.onData(bytes),
      drain: () => state.pipe?.onDrain(),
      end: (ended) => {
        state.pipe?.onEnd();
        ended.end();
      },
      close: (_, error) => state.pipe?.onGone(error),
      error: (_, error) => state.pipe?.onGone(error),
    },
  });
  return { pipe: state.pipe!, end: () => socket.terminate() };
}
