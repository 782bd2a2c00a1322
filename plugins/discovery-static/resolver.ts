/**
 * A stub resolver that tells how long an answer is good for, which the system's does not for SRV and TXT. UDP from a
 * fresh port for each question, TCP when the answer was cut; the servers are the system's own. RFC 1035, RFC 7766.
 */
import { createSocket } from "node:dgram";
import { getServers } from "node:dns";
import { connect, isIP } from "node:net";
import { decode, encode, streamEncode, type Answer, type DecodedPacket, type Packet } from "dns-packet";
import { GodwitError, type Clock, type Random } from "@godwit/sdk";

const TRY_TIMEOUT_MS = 3_000;
/** Each server is asked so often. */
const ROUNDS = 2;
const SERVERS_MAX = 4;
const ANSWER_BYTES_MAX = 65_535;
const DNS_PORT = 53;

export type QueryType = "A" | "AAAA" | "SRV" | "TXT";

export interface ResolverDeps {
  readonly clock: Clock;
  readonly random: Random;
  /** `ip` or `ip:port`; none: those of the system, read anew for each question. */
  readonly servers: readonly string[];
}

/** Answers of the type, those behind a CNAME included; none when the name or type does not exist. Rejects when no server said either. */
export async function resolveName(
  deps: ResolverDeps,
  name: string,
  type: QueryType,
  signal: AbortSignal,
): Promise<readonly Answer[]> {
  const servers = (deps.servers.length > 0 ? deps.servers : getServers()).slice(0, SERVERS_MAX);
  let last: unknown = new Error("no name server is configured");
  for (let round = 0; round < ROUNDS; round++)
    for (const server of servers) {
      signal.throwIfAborted();
      try {
        const packet = await ask(deps, server, name, type, signal);
        if (packet.rcode !== "NOERROR" && packet.rcode !== "NXDOMAIN")
          throw new Error(`${server} answers ${packet.rcode}`);
        return (packet.answers ?? []).filter((answer) => answer.type === type);
      } catch (error) {
        last = error;
      }
    }
  signal.throwIfAborted();
  throw new GodwitError(
    "GODWIT_DIAL_FAILED",
    `${type} of ${name} cannot be resolved: ${last instanceof Error ? last.message : String(last)}`,
    { kind: "transport", retry: "later", cause: last },
  );
}

async function ask(
  { clock, random }: ResolverDeps,
  server: string,
  name: string,
  type: QueryType,
  signal: AbortSignal,
): Promise<DecodedPacket & { rcode?: string }> {
  const { host, port } = serverAddress(server);
  // The dot at the end of a whole name is how people write it; on the wire there is none.
  const asked = name.replace(/\.$/, "");
  const question: Packet & { id: number } = {
    type: "query",
    id: random.below(65_536),
    flags: 0x0100,
    questions: [{ type, name: asked, class: "IN" }],
  };
  const isAnswer = (packet: DecodedPacket) =>
    packet.type === "response" &&
    packet.id === question.id &&
    packet.questions?.[0]?.name.toLowerCase() === asked.toLowerCase() &&
    packet.questions[0].type === type;
  const packet = await overUdp({ clock, host, port, bytes: encode(question), isAnswer, signal });
  if ((packet.flags! & 0x0200) === 0) return packet;
  return await overTcp({ clock, host, port, bytes: streamEncode(question), isAnswer, signal });
}

interface Asking {
  readonly clock: Clock;
  readonly host: string;
  readonly port: number;
  readonly bytes: Uint8Array;
  readonly isAnswer: (packet: DecodedPacket) => boolean;
  readonly signal: AbortSignal;
}

/** Runs `open` with what ends it; settles once, cleans up once. */
function settling<T>(
  { clock, signal, host }: Asking,
  open: (done: (result: T) => void, fail: (error: Error) => void) => () => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let close = (): void => {};
    const end = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      close();
      settle();
    };
    const onAbort = () => end(() => reject(signal.reason as Error));
    const timer = clock.after(TRY_TIMEOUT_MS, () =>
      end(() => reject(new Error(`${host} does not answer within ${TRY_TIMEOUT_MS / 1_000} s`))),
    );
    signal.addEventListener("abort", onAbort, { once: true });
    close = open(
      (result) => end(() => resolve(result)),
      (error) => end(() => reject(error)),
    );
    if (isOver) close();
  });
}

const overUdp = (asking: Asking): Promise<DecodedPacket> =>
  settling(asking, (done, fail) => {
    const socket = createSocket(isIP(asking.host) === 6 ? "udp6" : "udp4");
    let isClosed = false;
    socket.on("error", fail);
    socket.on("message", (message, from) => {
      const packet = decodeQuietly(message);
      // Anybody can send to the port: only the server's answer to this very question counts.
      if (packet !== undefined && from.port === asking.port && asking.isAnswer(packet)) done(packet);
    });
    socket.send(asking.bytes, asking.port, asking.host, (error) => {
      if (error !== null && error !== undefined) fail(error);
    });
    return () => {
      if (isClosed) return;
      isClosed = true;
      socket.close();
    };
  });

const overTcp = (asking: Asking): Promise<DecodedPacket> =>
  settling(asking, (done, fail) => {
    const socket = connect({ host: asking.host, port: asking.port });
    let held = Buffer.alloc(0);
    socket.on("connect", () => socket.write(asking.bytes));
    socket.on("error", fail);
    socket.on("close", () => fail(new Error("the server hung up")));
    socket.on("data", (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      if (held.length > ANSWER_BYTES_MAX + 2) return fail(new Error("an answer above 64 KiB"));
      if (held.length < 2 || held.length < 2 + held.readUInt16BE(0)) return;
      const packet = decodeQuietly(held.subarray(2, 2 + held.readUInt16BE(0)));
      if (packet !== undefined && asking.isAnswer(packet)) done(packet);
      else fail(new Error("the server answers something else"));
    });
    return () => void socket.destroy();
  });

function decodeQuietly(bytes: Buffer): DecodedPacket | undefined {
  try {
    return decode(bytes);
  } catch {
    return undefined;
  }
}

function serverAddress(server: string): { host: string; port: number } {
  if (isIP(server) !== 0) return { host: server, port: DNS_PORT };
  const match = /^\[?([^\]]+?)\]?:(\d+)$/.exec(server);
  return { host: match?.[1] ?? server, port: match === null ? DNS_PORT : Number(match[2]) };
}
