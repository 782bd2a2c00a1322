/** The real host with one plugin outside of its thread, of which the far end is in the hands of the test: it says what it likes. */
import type { Plugin } from "@godwit/sdk";
import { z } from "zod/mini";
import { type Clock, ManualClock } from "../../kernel/clock.ts";
import { createLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { type ChannelHandlers, type FrameChannel, FramePort } from "../frames/port.ts";
import { encodeFrame, encodeParts, PLUGIN_PROTOCOL_VERSION, PluginFrame } from "../frames/frames.ts";
import { PluginHost } from "../host/host.ts";
import type { HostDeps } from "../host/instance.ts";
import type { MeshBackend } from "../host/mesh-door.ts";
import { remotePlugin } from "./remote.ts";

/** Turns of the event loop: what follows from something has followed. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Until something is so; what never is ends with the time of its test. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await turns(1);
}

/** Both ends of a channel in memory; what is written arrives in a later turn, as from a socket. */
function channelPair(): { readonly node: FrameChannel; readonly far: FrameChannel } {
  const handlers: (ChannelHandlers | undefined)[] = [undefined, undefined];
  let isClosed = false;
  const end = (self: 0 | 1): FrameChannel => ({
    queuedBytes: 0,
    open: (given) => void (handlers[self] = given),
    write(bytes) {
      const copy = bytes.slice();
      setImmediate(() => isClosed || handlers[1 - self]?.data(copy));
    },
    close() {
      setImmediate(() => {
        if (isClosed) return;
        isClosed = true;
        handlers[1 - self]?.closed();
      });
    },
  });
  return { node: end(0), far: end(1) };
}

export interface RigOptions extends Partial<Pick<HostDeps, "netPolicy" | "peers" | "self">> {
  readonly namespace?: Plugin["namespace"];
  readonly level?: "contained" | "untrusted";
  /** Where time has to pass by itself. */
  readonly realClock?: Clock;
  overuse?(): string | undefined;
}

/** `start` before anything else. */
export function rigRemote({
  realClock,
  namespace = "transport",
  level = "contained",
  overuse,
  ...deps
}: RigOptions = {}) {
  const clock = new ManualClock();
  const hostClock = realClock ?? clock;
  const metrics = new Metrics();
  const logged: string[] = [];
  const log = createLog({
    level: "debug",
    format: "json",
    clock,
    sink: { write: (line) => void logged.push(line) },
  });
  const healths: string[] = [];
  const { node, far } = channelPair();
  const over = Promise.withResolvers<string>();
  const seen = { frames: [] as { type: number; id: number; body: Uint8Array }[], kills: 0, isClosed: false };
  const port = new FramePort(far, {
    frame: (type, id, body) => void seen.frames.push({ type, id, body: body.slice() }),
    closed: () => void (seen.isClosed = true),
  });
  const plugin: Plugin = {
    ...{ id: "far", namespace, sdk: "^0.1.0", permissions: [], config: z.strictObject({}) },
    start() {},
  };
  const host = new PluginHost({
    ...deps,
    plugins: [plugin],
    ...{ clock: hostClock, metrics, log, random: seededRandom(1) },
    mesh: {} as MeshBackend,
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    events: {
      screen: () => "open" as const,
      pipe() {},
      listening() {},
      hint: () => true,
      withdraw() {},
      withdrawAll() {},
      health: ({ health: { state, reason } }) =>
        void healths.push(reason === undefined ? state : `${state}: ${reason}`),
    },
    isolate: (of) =>
      remotePlugin(of, {
        level,
        code: new Uint8Array(0),
        launch: async () => ({
          channel: node,
          kill() {
            seen.kills++;
            over.resolve("its process was ended");
          },
          ended: over.promise,
          ...(overuse === undefined ? {} : { overuse }),
        }),
      }),
  });
  let asked = 0;
  const send = (type: number, json: unknown, id = 0) => {
    port.sendParts(type, id, json);
  };
  return {
    ...{ clock, metrics, host, port, logged, healths, seen, send },
    /** Bytes as they are, frames or not, in one piece. */
    raw: (...frames: readonly Uint8Array[]) => far.write(Buffer.concat(frames)),
    /** Resolves when the host has launched it and waits for its word. */
    async launch(): Promise<void> {
      void host.start([{ namespace, name: "far", type: "far", options: {} }]);
      await turns();
    },
    /** Until it runs. */
    async start(): Promise<void> {
      const starting = host.start([{ namespace, name: "far", type: "far", options: {} }]);
      await turns();
      send(PluginFrame.hello, { protocol: PLUGIN_PROTOCOL_VERSION });
      port.send(PluginFrame.started);
      await starting;
    },
    /** Until all that was said before is handled: the node takes frames a few at a time. */
    async handled(): Promise<void> {
      const id = 1_000_000 + ++asked;
      send(PluginFrame.call, { method: "network.refusal", address: "192.0.2.1" }, id);
      await until(
        () => seen.isClosed || seen.frames.some((one) => one.type === PluginFrame.answer && one.id === id),
      );
    },
    /** What came of one type. */
    got: (type: number) => seen.frames.filter((frame) => frame.type === type),
    /** Its state with the reason, as it is now. */
    get health(): string {
      return healths.at(-1) ?? "";
    },
  };
}

/** Of a frame with JSON. */
export const frameOf = (type: number, id: number, json: unknown): Uint8Array =>
  encodeFrame(type, id, encodeParts(json));
