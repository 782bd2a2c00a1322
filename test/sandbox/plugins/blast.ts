/** A transport that offers one pipe and sends through it as fast as it may, or takes what comes. */
import { definePlugin, type Pipe, type PipeHandlers } from "@godwit/sdk";

interface Table {
  readonly bytes: number;
  /** It sends; else it takes. */
  readonly sends: boolean;
}
const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};
const PIECES = 512;

export default definePlugin({
  id: "blast",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: [],
  config,
  start(ctx, { bytes, sends }) {
    const piece = new Uint8Array(bytes).fill(7);
    let handlers: PipeHandlers | undefined;
    const state = { isPaused: false, isClosed: false };
    const turn = () => {
      for (let i = 0; i < PIECES && !state.isPaused && !state.isClosed; i++) handlers?.data(piece);
      if (!state.isPaused && !state.isClosed) setImmediate(turn);
    };
    const pipe: Pipe = {
      kind: "stream",
      direction: "inbound",
      remote: "blast://there",
      local: "blast://here",
      linkClass: "fast",
      rateBitsPerSecond: 1e9,
      mtu: 0,
      bufferedBytes: 0,
      open(given) {
        handlers = given;
        if (sends) turn();
      },
      write: () => true,
      pause(paused) {
        const was = state.isPaused;
        state.isPaused = paused;
        if (was && !paused) turn();
      },
      close() {
        if (state.isClosed) return;
        state.isClosed = true;
        handlers?.closed();
      },
    };
    ctx.transport.accept(pipe);
  },
});
