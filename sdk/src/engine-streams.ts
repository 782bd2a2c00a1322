/** Streams between the engines of one kind at different nodes. */
import type { IncomingMeshStream, MeshStream, StreamOptions } from "./stream.ts";

export const ENGINE_STREAM_LIMITS = {
  /** Streams of an instance at once, opened and taken together, those that nobody has accepted yet among them. */
  streams: 128,
  /** Of them, those that one other node opened: no node takes all places. */
  takenPerNode: 16,
  /** Characters of a channel's name; plugin id and channel together have at most 56. */
  channelChars: 32,
} as const;

/**
 * `ctx.streams`: to engines of the same plugin id at other nodes, and to nobody else; services have names of their own. Needs the
 * permission `engine.streams`; else each throws or rejects with GODWIT_FORBIDDEN. A channel is a name of 1 to 32 characters
 * of a-z, 0-9, `.`, `_`, `-`. Whoever is at the far end has proven to be that node, not that it means well.
 */
export interface EngineStreams {
  /**
   * Opens a stream to `channel` at another node: an id or a callsign that means one node. Resolves once the far end has accepted.
   * Rejects with GODWIT_NAME_UNKNOWN, GODWIT_NO_ROUTE, GODWIT_STREAM_SLOW_PATH, GODWIT_STREAM_UNREACHABLE, GODWIT_STREAM_REFUSED,
   * GODWIT_STREAM_LIMIT (too many are open here, or to that node), GODWIT_REQUEST_INVALID for a channel that is none, or the
   * signal's reason. The stream ends with the plugin.
   */
  openStream(to: string, channel: string, options?: StreamOptions): Promise<MeshStream>;
  /**
   * Streams that others open to `channel`; `service` of a stream is the channel. One handler a channel on a node: a second throws
   * GODWIT_REQUEST_INVALID, so that several instances of one engine choose channels of their own. It says `accept` or `reset` and
   * then `open`; one that throws resets the stream. Beyond `ENGINE_STREAM_LIMITS` they are refused before it sees them.
   */
  onStream(channel: string, handler: (stream: IncomingMeshStream) => void): void;
}
