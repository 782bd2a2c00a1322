/**
 * How a dial gets its connection: to an address over Bun.connect, or through an HTTP proxy over node's sockets, since TLS inside
 * the TLS of a proxy is something that only those have. Owns the connection until it is ready; knows nothing of WebSocket.
 */
import { connect as connectTcp, isIP, type Socket as NodeSocket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Socket } from "bun";
import { claimDescriptor, descriptorOf } from "@godwit/sdk/places";
import { HeadReader, parseAnswer } from "./frames.ts";
import { encodeConnect, type Proxy } from "./proxy.ts";
import type { ByteSocket } from "./socket.ts";

/** What the far end has to prove. */
export interface Trust {
  /** PEM, instead of the system's authorities. */
  readonly ca: string | undefined;
  /** False: any certificate will do. */
  readonly isVerified: boolean;
}

export interface Tls extends Trust {
  /** Whose certificate it has to be: a name, or an address without a zone. */
  readonly name: string;
}

export interface ConnectionEvents {
  /** Once: connected, and with TLS proven as far as that is asked for. */
  ready(socket: ByteSocket): void;
  /** Owned. */
  data(bytes: Buffer): void;
  drain(): void;
  /** Once, and last. `why` it never became ready, or what broke it. */
  gone(why: Error | undefined): void;
}

/** Calls `events.gone` once. */
function endOnce(events: ConnectionEvents): (why: Error | undefined) => void {
  let isGone = false;
  return (why) => {
    if (isGone) return;
    isGone = true;
    events.gone(why);
  };
}

/** Why no connection may begin now, or this one may not stay: then it has been ended. */
function descriptorRefusal(socket?: { terminate(): void }): Error | undefined {
  try {
    claimDescriptor("link", socket);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Answers what gives it up; once ready that is the socket's `terminate`. */
export function connectDirectly(
  address: string,
  port: number,
  tls: Tls | undefined,
  events: ConnectionEvents,
): () => void {
  let opened: Socket | undefined;
  let isCancelled = false;
  let isReady = false;
  const gone = endOnce(events);
  const none = descriptorRefusal();
  if (none !== undefined) {
    gone(none);
    return () => {};
  }
  const fail = (socket: Socket, why: Error | undefined) => {
    gone(why);
    socket.terminate();
  };
  const ready = (socket: Socket) => {
    if (isReady) return;
    isReady = true;
    events.ready(socket);
  };
  Bun.connect({
    hostname: address,
    port,
    data: undefined,
    ...(tls === undefined ? {} : { tls: { ...trustOf(tls), serverName: tls.name } }),
    socket: {
      open: (socket) => {
        // Too late: nobody waits for this connection any more.
        if (isCancelled) return fail(socket, undefined);
        const refusal = descriptorRefusal(socket);
        if (refusal !== undefined) return gone(refusal);
        opened = socket;
        socket.setNoDelay(true);
        if (tls === undefined) ready(socket);
      },
      handshake: (socket, isProven, error) => {
        // Without verification a certificate that proves nothing is said here too, and will do.
        if (!isProven && (tls?.isVerified !== false || codeOf(error) === "EPROTO"))
          return fail(socket, error ?? new Error("its certificate proves nothing"));
        ready(socket);
      },
      data: (_, bytes) => events.data(bytes),
      drain: () => {
        if (isReady) events.drain();
      },
      end: (socket) => void socket.end(),
      close: (_, error) => gone(error),
      error: (_, error) => gone(error),
    },
  }).catch(gone);
  return () => {
    isCancelled = true;
    opened?.terminate();
  };
}

/** `address` is the proxy's; `authority` is where it shall lead. TLS, if any, is with whoever is there. */
export function connectThrough(
  proxy: Proxy,
  address: string,
  authority: string,
  trust: Trust,
  tls: Tls | undefined,
  events: ConnectionEvents,
): () => void {
  const gone = endOnce(events);
  const none = descriptorRefusal();
  if (none !== undefined) {
    gone(none);
    return () => {};
  }
  const sockets: NodeSocket[] = [];
  const fail = (why: Error | undefined) => {
    gone(why);
    for (const socket of sockets) socket.destroy();
  };
  const own = <Kind extends NodeSocket>(socket: Kind): Kind => {
    sockets.push(socket);
    socket.on("error", fail);
    socket.on("close", () => fail(undefined));
    return socket;
  };
  const outer = own(
    proxy.isSecure
      ? connectTls({ host: address, port: proxy.port, ...nodeTrustOf({ ...trust, name: proxy.host }) })
      : connectTcp({ host: address, port: proxy.port }),
  );
  outer.once(proxy.isSecure ? "secureConnect" : "connect", () => {
    const socket = { fd: descriptorOf(outer), terminate: () => void outer.destroy() };
    const refusal = descriptorRefusal(socket);
    if (refusal !== undefined) return fail(refusal);
    outer.setNoDelay(true);
    outer.write(encodeConnect(authority, proxy.credentials), "latin1");
  });
  const lead = (socket: NodeSocket) => {
    socket.on("data", (bytes: Buffer) => events.data(bytes));
    socket.on("drain", () => events.drain());
    events.ready(byteSocketOf(socket));
  };
  const head = new HeadReader();
  outer.on("data", function onAnswer(bytes: Buffer) {
    const read = head.push(bytes);
    if (read === "partial") return;
    outer.off("data", onAnswer);
    const answer = read === "endless" ? undefined : parseAnswer(read.text);
    if (read === "endless" || answer === undefined) return fail(new Error("the proxy does not speak HTTP"));
    if (answer.status < 200 || answer.status > 299)
      return fail(new Error(`the proxy refused: it answered ${answer.status}`));
    // Whoever is behind it says nothing before they are asked.
    if (read.rest.length > 0) return fail(new Error("the proxy says more than its answer"));
    if (tls === undefined) return lead(outer);
    const inner = own(connectTls({ socket: outer, host: tls.name, ...nodeTrustOf(tls) }));
    inner.once("secureConnect", () => lead(inner));
  });
  return () => fail(undefined);
}

const trustOf = ({ ca, isVerified }: Trust) => ({
  rejectUnauthorized: isVerified,
  ...(ca === undefined ? {} : { ca }),
});

/** An address is compared, and not said to the far end. */
const nodeTrustOf = (tls: Tls) => ({ ...trustOf(tls), servername: isIP(tls.name) > 0 ? "" : tls.name });

const codeOf = (error: Error | null): unknown => (error !== null && "code" in error ? error.code : undefined);

/** Takes nothing while it waits for the kernel, so that its own queue stays at one frame. */
const byteSocketOf = (socket: NodeSocket): ByteSocket => ({
  write(bytes) {
    if (socket.destroyed) return -1;
    if (socket.writableNeedDrain) return 0;
    socket.write(Buffer.from(bytes));
    return bytes.length;
  },
  pause: () => void socket.pause(),
  resume: () => void socket.resume(),
  end: () => void socket.end(),
  terminate: () => void socket.destroy(),
});
