/**
 * A stream to a target through tor's SOCKS port. Names go to Tor as they are: nothing here resolves them. Each peer has its
 * own user and password, by which Tor keeps its streams on circuits of their own (IsolateSOCKSAuth, tor's default).
 */
import { createHmac } from "node:crypto";
import { createConnection, type Socket } from "node:net";
import { GodwitError } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";
import { SocksClient } from "socks";
import { type Door, formatDoor, formatTorEndpoint, type TorTarget } from "./endpoint.ts";
import { reasonOf } from "./wait.ts";

/** The library insists on a limit of its own; dials end sooner, by their signal. */
const LIBRARY_TIMEOUT_MS = 300_000;

/** RFC 1928 section 6, then tor's own (proposal 304; only with ExtendedErrors). */
const REFUSALS: Readonly<Record<number, string>> = {
  0x01: "tor could not do it",
  0x02: "tor's rules forbid it",
  0x03: "the network is unreachable",
  0x04: "nobody is there, or the onion address is not published",
  0x05: "the connection was refused",
  0x06: "the circuit timed out",
  0x07: "tor takes no such command",
  0x08: "tor takes no such address",
  0xf0: "the onion address is not published",
  0xf1: "the onion address's descriptor is invalid",
  0xf2: "the onion address's introduction points do not answer",
  0xf3: "the meeting point with the onion address failed",
  0xf4: "the onion address lets in only some: set client_key, and give this node's public key to its operator",
  0xf5: "the onion address does not know this node's client key",
  0xf6: "this is no onion address",
  0xf7: "the onion address's introduction points do not answer in time",
};

export interface Isolation {
  readonly user: string;
  readonly password: string;
}

/** Same target and generation, same circuits, for as long as this process lives; tor learns no more than that. */
export function isolationOf(secret: Uint8Array, target: TorTarget, generation: number): Isolation {
  const word = (label: string) =>
    createHmac("sha256", secret)
      .update(`${label} ${generation} ${formatTorEndpoint(target)}`)
      .digest("hex")
      .slice(0, 32);
  return { user: word("user"), password: word("password") };
}

/** Rejects with GODWIT_DIAL_FAILED or the signal's reason. The socket is the caller's and may have bytes to deliver. */
export async function openSocks(
  door: Door,
  target: TorTarget,
  isolation: Isolation,
  signal: AbortSignal,
): Promise<Socket> {
  signal.throwIfAborted();
  try {
    claimDescriptor("link");
  } catch (error) {
    throw dialFailed(`${formatTorEndpoint(target)} is not dialled: ${reasonOf(error)}`);
  }
  const socket = createConnection(door);
  // Until the library listens, and after it: an error without a listener would end the process.
  socket.on("error", () => {});
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => {
    socket.destroy();
    aborted.reject(signal.reason as Error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([connected(socket, door), aborted.promise]);
    return await Promise.race([negotiate(socket, target, isolation), aborted.promise]);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function connected(socket: Socket, door: Door): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) =>
      reject(dialFailed(`tor's SOCKS port ${formatDoor(door)} cannot be reached: ${reasonOf(error)}`));
    socket.once("error", onError);
    socket.once("connect", () => {
      socket.removeListener("error", onError);
      resolve();
    });
  });
}

async function negotiate(socket: Socket, target: TorTarget, { user, password }: Isolation): Promise<Socket> {
  // The library names only the codes of RFC 1928, so the reply's code is read here as well.
  let refusal: number | undefined;
  const onData = (bytes: Buffer) => {
    if (bytes.length >= 4 && bytes[0] === 5) refusal = bytes[1]!;
  };
  socket.prependListener("data", onData);
  try {
    const { socket: ready } = await SocksClient.createConnection({
      // With a socket that is already open, host and port only have to look like some.
      proxy: { host: "tor", port: 9050, type: 5, userId: user, password },
      command: "connect",
      destination: target,
      existing_socket: socket,
      timeout: LIBRARY_TIMEOUT_MS,
    });
    return ready;
  } catch (error) {
    // Not the library's error itself: it carries its options, the password among them.
    const why = (refusal === undefined ? undefined : REFUSALS[refusal]) ?? reasonOf(error);
    throw dialFailed(`${formatTorEndpoint(target)} cannot be reached: ${why}`);
  } finally {
    socket.removeListener("data", onData);
  }
}

export const dialFailed = (message: string): GodwitError =>
  new GodwitError("GODWIT_DIAL_FAILED", message, { kind: "transport", retry: "later" });
