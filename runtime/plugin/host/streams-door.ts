/**
 * Streams over the mesh as handed to one plugin: `ctx.streams` of an engine, and a part of a service's `ctx.mesh`. Owns which of
 * them are the plugin's and that they end with it. Never knows sessions or routes; the node gives it a `StreamsBackend`.
 */
import {
  ENGINE_STREAM_LIMITS,
  type EngineStreams,
  type IncomingMeshStream,
  type Log,
  type MeshStream,
  type StreamOptions,
} from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import { refusalOf } from "../permissions.ts";

/** The node as its plugins see it; `view/streams-for-plugins.ts` implements it over the living mesh. */
export interface StreamsBackend {
  openStream(to: string, service: string, options?: StreamOptions): Promise<MeshStream>;
  /** Answers how to stop. Throws GODWIT_REQUEST_INVALID. */
  onStream(service: string, handler: (stream: IncomingMeshStream) => void): () => void;
}

export interface StreamsDoorDeps {
  readonly backend: StreamsBackend;
  readonly scope: Scope;
  readonly log: Log;
  /** Streams at once; no value: as many as the sessions take. */
  readonly streamsMax?: number;
  /** Of them, those that one other node opened; no value: as many. */
  readonly takenPerNodeMax?: number;
}

export function openStreamsDoor({
  backend,
  scope,
  log,
  streamsMax = Number.POSITIVE_INFINITY,
  takenPerNodeMax = streamsMax,
}: StreamsDoorDeps): EngineStreams {
  const streams = new Set<MeshStream>();
  /** Of them, those that others opened. */
  const taken = new Set<MeshStream>();
  let opening = 0;
  const isFull = () => streams.size + opening >= streamsMax;
  const hasManyOf = (remote: string) =>
    taken.size >= takenPerNodeMax &&
    [...taken].filter((stream) => stream.remote === remote).length >= takenPerNodeMax;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  scope.own(() => {
    for (const stream of [...streams]) stream.reset();
  });
  return {
    async openStream(to, service, options = {}) {
      check();
      if (isFull())
        throw godwitError("GODWIT_STREAM_LIMIT", `a plugin has at most ${streamsMax} streams at once`);
      const either = AbortSignal.any([
        scope.signal,
        ...(options.signal === undefined ? [] : [options.signal]),
      ]);
      opening++;
      try {
        const stream = await backend.openStream(to, service, { ...options, signal: either });
        if (scope.isClosed) stream.reset();
        return keep(stream, [streams]);
      } finally {
        opening--;
      }
    },
    onStream(service, handler) {
      check();
      scope.own(
        backend.onStream(service, (incoming) => {
          if (isFull() || hasManyOf(incoming.remote)) {
            log.warn("a stream was refused: the plugin has too many", { peer: incoming.remote });
            return incoming.reset();
          }
          const stream = keep(incoming, [streams, taken]);
          try {
            handler({ ...stream, accept: () => incoming.accept() });
          } catch (error) {
            log.error("onStream handler failed", { error: asGodwitError(error) });
            stream.reset();
          }
        }),
      );
    },
  };
}

/** What the plugin holds of it: the same stream, which is forgotten here when it is over. */
function keep(stream: MeshStream, among: readonly Set<MeshStream>[]): MeshStream {
  for (const streams of among) streams.add(stream);
  const forget = () => {
    for (const streams of among) streams.delete(stream);
  };
  return {
    remote: stream.remote,
    service: stream.service,
    metadata: stream.metadata,
    write: (bytes) => stream.write(bytes),
    end: () => stream.end(),
    pause: (paused) => stream.pause(paused),
    open: (handlers) =>
      stream.open({
        data: (bytes) => handlers.data(bytes),
        end: () => handlers.end(),
        drain: () => handlers.drain(),
        closed(error) {
          forget();
          handlers.closed(error);
        },
      }),
    reset() {
      forget();
      stream.reset();
    },
  };
}

export interface EngineStreamsDeps extends Omit<StreamsDoorDeps, "streamsMax" | "takenPerNodeMax"> {
  /** Id of the engine's plugin. */
  readonly plugin: string;
  /** What was granted. */
  readonly isAllowed: boolean;
}

const CHANNEL = new RegExp(`^[a-z0-9._-]{1,${ENGINE_STREAM_LIMITS.channelChars}}$`);

/** Names on the way are `<plugin>:<channel>`, which the backend puts behind a prefix that no service has. */
export function openEngineStreams({ plugin, isAllowed, ...deps }: EngineStreamsDeps): EngineStreams {
  const { streams, takenPerNode } = ENGINE_STREAM_LIMITS;
  const door = openStreamsDoor({ ...deps, streamsMax: streams, takenPerNodeMax: takenPerNode });
  const serviceOf = (channel: string): string => {
    if (!isAllowed) throw godwitError("GODWIT_FORBIDDEN", refusalOf(["engine.streams"], "engine.streams"));
    if (!CHANNEL.test(channel))
      throw godwitError("GODWIT_REQUEST_INVALID", `"${channel.slice(0, 60)}" is no name of a channel`);
    return `${plugin}:${channel}`;
  };
  return {
    openStream: async (to, channel, options) =>
      withChannel(await door.openStream(to, serviceOf(channel), options), channel),
    onStream: (channel, handler) =>
      door.onStream(serviceOf(channel), (stream) =>
        handler({ ...withChannel(stream, channel), accept: () => stream.accept() }),
      ),
  };
}

const withChannel = (stream: MeshStream, service: string): MeshStream => ({ ...stream, service });
