/**
 * The dialling end of one WebSocket: asks for the upgrade over a connection that it is given, reads the answer as far as it may be
 * long, and makes a pipe of what follows. Whatever is not the answer to this very request ends it.
 */
import type { Clock, Random } from "@godwit/sdk";
import type { Attempt } from "@godwit/sdk/tcp";
import type { ConnectionEvents } from "./connection.ts";
import { PROTOCOL } from "./endpoint.ts";
import { encodeUpgrade, HeadReader, MASK_BYTES, parseAnswer, refusalOf } from "./frames.ts";
import type { WebSocketPipe } from "./pipe.ts";
import { type ByteSocket, OpenWebSocket } from "./socket.ts";

const KEY_BYTES = 16;

export interface ClientOptions {
  /** `Host` and path of the request. */
  readonly hostHeader: string;
  readonly path: string;
  /** As the pipe shows them. */
  readonly ends: { readonly local: string; readonly remote: string };
  readonly clock: Clock;
  readonly random: Random;
  /** Starts the connection; what it answers gives it up. */
  connect(events: ConnectionEvents): () => void;
}

/** Has no timeout of its own: whoever waits cancels. */
export function openWebSocket(options: ClientOptions): Attempt<WebSocketPipe> {
  const { promise: connected, resolve, reject } = Promise.withResolvers<WebSocketPipe>();
  const key = Buffer.from(options.random.bytes(KEY_BYTES)).toString("base64");
  const head = new HeadReader();
  let web: OpenWebSocket | undefined;
  const fail = (why: string) => {
    reject(new Error(why));
    web?.terminate();
  };
  const onHead = (opening: OpenWebSocket, bytes: Buffer) => {
    const read = head.push(bytes);
    if (read === "partial") return;
    const answer = read === "endless" ? undefined : parseAnswer(read.text);
    if (read === "endless" || answer === undefined) return fail("it does not speak HTTP");
    const refusal = refusalOf(answer, key, PROTOCOL);
    if (refusal !== undefined) return fail(refusal);
    resolve(opening.open({ direction: "outbound", ...options.ends }, options.clock));
    opening.onData(read.rest);
  };
  const cancel = options.connect({
    ready(socket: ByteSocket) {
      web = new OpenWebSocket(socket, { nextMask: () => options.random.bytes(MASK_BYTES) });
      web.write(Buffer.from(encodeUpgrade(options.hostHeader, options.path, key, PROTOCOL), "latin1"));
    },
    data(bytes) {
      if (web === undefined || web.isGone) return;
      if (web.pipe === undefined) onHead(web, bytes);
      else web.onData(bytes);
    },
    drain: () => web?.onDrain(),
    gone(why) {
      reject(why ?? new Error("it closed before it answered"));
      web?.onGone();
    },
  });
  return { connected, cancel };
}
