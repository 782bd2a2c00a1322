/** What somebody can do who has no key: connections to the link port and the API port that never mean well. */
import { connect, type Socket } from "node:net";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { seededRandom, systemRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import type { Pipe } from "@godwit/sdk";
import type { LabNode } from "../../scripts/lab.ts";
import { dialPipe } from "./dial.ts";

const random = seededRandom(0x57a);
/** Connections that this process opens at once; each is two descriptors on this machine. */
const SIDE_BY_SIDE = 64;

/** Opens, writes, and answers when the far end or the deadline closed it. Refusals are what is wanted. */
export function poke(
  port: number,
  pieces: readonly (Uint8Array | string)[],
  ms: number,
  everyMs = 0,
): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    let answer = "";
    const timer = setTimeout(() => socket.destroy(), ms);
    socket.on("data", (bytes) => {
      if (answer.length < 4_096) answer += bytes.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer);
    });
    socket.on("connect", () => void say(socket, pieces, everyMs));
  });
}

async function say(socket: Socket, pieces: readonly (Uint8Array | string)[], everyMs: number): Promise<void> {
  for (const piece of pieces) {
    if (socket.destroyed) return;
    socket.write(piece);
    if (everyMs > 0) await Bun.sleep(everyMs);
  }
}

/** `times` calls, some side by side. */
export async function flood(times: number, once: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < times) await once(next++);
  };
  await Promise.all(Array.from({ length: Math.min(SIDE_BY_SIDE, times) }, worker));
}

/** The bytes that a whole handshake and its first records have on their way to the node. */
export async function recordHandshake(node: LabNode, network: string): Promise<Uint8Array[]> {
  const sent: Uint8Array[] = [];
  const { pipe, end } = await dialPipe(node.linkPort);
  const recording: Pipe = Object.create(pipe, {
    write: {
      value: (bytes: Uint8Array) => {
        sent.push(bytes.slice());
        return pipe.write(bytes);
      },
    },
    // Fields of the class stand on the object behind: methods must find them there.
    open: { value: pipe.open.bind(pipe) },
    pause: { value: pipe.pause.bind(pipe) },
    proven: { value: () => pipe.proven?.() },
    close: { value: pipe.close.bind(pipe) },
    bufferedBytes: { get: () => pipe.bufferedBytes },
  }) as Pipe;
  const session = await openSession(
    recording,
    {
      role: "initiator",
      identity: generateIdentity(systemRandom),
      network,
      secrets: [],
      clock: systemClock,
      random: systemRandom,
      guard: new HandshakeGuard(systemClock, systemRandom),
    },
    AbortSignal.timeout(10_000),
  );
  session.open({ frame() {}, drain() {}, closed() {} });
  session.send(Uint8Array.of(2, 1, 2, 3, 4));
  session.flush();
  await Bun.sleep(50);
  end();
  return sent;
}

/** First bytes that pass for the start of each handshake message, and what else a scanner would say. */
const openings = (): Uint8Array[] => [
  random.bytes(200),
  new Uint8Array(65_536).fill(0xff),
  Uint8Array.of(0x11, 1, 1),
  Uint8Array.of(0x13, ...random.bytes(38)),
  Uint8Array.of(0x11, ...random.bytes(106)),
  Uint8Array.of(0x19, ...random.bytes(122)),
  Uint8Array.of(0x80, 0xff, 0xff, 0xff),
  Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
  Buffer.from("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "latin1"),
];

export async function attackLink(
  node: LabNode,
  recorded: readonly Uint8Array[],
  connections: number,
): Promise<void> {
  const whole = new Uint8Array(Buffer.concat(recorded));
  await flood(connections, (index) => {
    const kinds = openings();
    switch (index % 4) {
      case 0:
        return poke(node.linkPort, [kinds[random.below(kinds.length)]!], 300);
      case 1:
        // A replay, whole or cut anywhere.
        return poke(
          node.linkPort,
          [index % 8 === 1 ? whole : whole.slice(0, random.below(whole.length))],
          200,
        );
      case 2: {
        // The handshake is somebody else's, the record behind it claims to be as long as a record can be.
        const oversized = new Uint8Array([...recorded[0]!, 0xff, 0xff, ...random.bytes(500)]);
        return poke(node.linkPort, [oversized], 200);
      }
      default:
        return poke(node.linkPort, [], 5);
    }
  });
}

/** Half-open connections that send a byte now and then, for `ms`. */
export function slowLoris(
  port: number,
  count: number,
  ms: number,
  head: readonly (Uint8Array | string)[],
): Promise<unknown> {
  const everyMs = 400;
  const drops = Array.from({ length: Math.ceil(ms / everyMs) }, () => "a");
  return Promise.all(Array.from({ length: count }, () => poke(port, [...head, ...drops], ms, everyMs)));
}

/** Half-closes at once and keeps its own ear open. */
export const halfOpen = (port: number): Promise<void> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => {});
    socket.on("connect", () => socket.end(Uint8Array.of(0x13, 1)));
    const timer = setTimeout(() => socket.destroy(), 8_000);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
    socket.resume();
  });

const post = (path: string, length: number, more = ""): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n${more}\r\n`;

export async function attackApi(node: LabNode, ms: number): Promise<void> {
  const port = node.apiPort;
  const auth = "Authorization: Bearer gwt_wrong\r\n";
  const deep = "[".repeat(60_000);
  await Promise.all([
    slowLoris(port, 100, ms, [post("/messages", 1_000_000)]),
    slowLoris(port, 100, ms, ["GET /health HTTP/1.1\r\nHost: "]),
    flood(200, () =>
      poke(port, [`GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"h".repeat(200_000)}\r\n\r\n`], 500),
    ),
    flood(200, () => poke(port, [post("/messages", deep.length), deep], 500)),
    flood(500, () => poke(port, [post("/messages", 2, auth), "{}"], 500)),
    flood(200, () => poke(port, [random.bytes(500)], 300)),
    flood(300, () => poke(port, ["GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"], ms / 4)),
    flood(100, () => poke(port, [post("/messages", 2 ** 40), "{"], 500)),
  ]);
}
