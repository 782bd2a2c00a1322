/** What a child writes, taken at a pace that leaves the event loop to others, however much it writes: the rest waits in its pipe, and then so does the child. */
import type { Clock } from "../clock.ts";

/** Taken before others get their turn. */
const TURN_BYTES = 16 * 1024;
/** After a turn nothing is taken for so many times as long as its bytes kept this thread: what was waited for them does not count. */
const REST = 3;
const REST_MS_MIN = 1;

/** `take` is given every byte in order, at most 16 KiB at once, borrowed. Resolves at the end of the stream; rejects when it breaks, and with what `take` throws. */
export async function readPaced(
  stream: ReadableStream<Uint8Array>,
  clock: Clock,
  take: (bytes: Uint8Array) => void,
): Promise<void> {
  let left = TURN_BYTES;
  let tookMs = 0;
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length;) {
      const piece = chunk.subarray(at, at + left);
      const startMs = clock.monotonicMs();
      take(piece);
      tookMs += clock.monotonicMs() - startMs;
      at += piece.length;
      left -= piece.length;
      if (left > 0) continue;
      await new Promise<void>((resolve) => void clock.after(Math.max(REST_MS_MIN, REST * tookMs), resolve));
      left = TURN_BYTES;
      tookMs = 0;
    }
  }
}
