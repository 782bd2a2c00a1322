/** Dials against servers that answer whatever they like, with TLS, and through proxies; all of it real sockets on loopback. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { GodwitError, type Pipe } from "@godwit/sdk";
import { ManualClock, seededRandom, TestHost } from "@godwit/sdk/testkit";
import { dialWebSocket } from "./dial.ts";
import { parseWebSocketEndpoint } from "./endpoint.ts";
import { encodeFrame, encodeSwitch, Opcode, parseUpgrade } from "./frames.ts";
import websocket from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Names and addresses as one certificate has them. */
let tls = { cert: "", key: "", certPath: "", keyPath: "" };
const dir = mkdtempSync(join(tmpdir(), "godwit-dial-"));
beforeAll(() => {
  const [certPath, keyPath] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const made = Bun.spawnSync([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...[
      "-days",
      "2",
      "-subj",
      "/CN=x",
      "-addext",
      "subjectAltName=DNS:localhost,DNS:mesh.invalid,IP:127.0.0.1",
    ],
    ...["-keyout", keyPath, "-out", certPath],
  ]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  const [cert, key] = [readFileSync(certPath, "utf8"), readFileSync(keyPath, "utf8")];
  tls = { cert, key, certPath, keyPath };
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** On loopback until the test is over, its connections as well. */
async function portOf(server: Server, onSocket: (socket: Socket) => void, event = "connection") {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => void sockets.add(socket.on("error", () => socket.destroy())));
  server.on(event, (socket: Socket) => onSocket(socket.on("error", () => socket.destroy())));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as { port: number }).port;
}

/** Says what `answer` makes of the request. */
const answering = (answer: (head: string, socket: Socket) => void) =>
  portOf(createServer(), (socket) =>
    socket.once("data", (bytes) => answer(bytes.toString("latin1"), socket)),
  );

/** A WebSocket that does as it likes once it is open; `first` leaves together with the answer. */
const opening = (first: Uint8Array, onOpen: (socket: Socket) => void = () => {}) =>
  answering((head, socket) => {
    const key = parseUpgrade(head.trimEnd())!.headers.get("sec-websocket-key")!;
    socket.write(Buffer.concat([Buffer.from(encodeSwitch(key, "godwit.1")), first]));
    onOpen(socket);
  });

async function dialler(table: object = {}) {
  const host = new TestHost(websocket);
  cleanups.push(() => host.stop());
  await host.start({ listen: [], ...table });
  return (endpoint: string, signal = AbortSignal.timeout(5_000)) => host.driver!.dial(endpoint, signal);
}

async function listener(table: object = {}) {
  const host = new TestHost(websocket);
  cleanups.push(() => host.stop());
  const accepted = Promise.withResolvers<Pipe>();
  host.onPipe = accepted.resolve;
  await host.start({ listen: ["127.0.0.1:0"], ...table });
  return { port: Number(/:(\d+)\//.exec(host.endpoints[0]!)![1]), accepted: accepted.promise, host };
}

const failure = (dialling: Promise<Pipe>): Promise<string> =>
  dialling.then(
    (pipe) => (pipe.close(), "connected"),
    (error: unknown) => (error instanceof GodwitError ? `${error.code}: ${error.message}` : String(error)),
  );
const gone = (socket: Socket) => new Promise<void>((resolve) => socket.on("close", () => resolve()));
/** Until it is over; with the bytes that came before. */
const read = (pipe: Pipe) =>
  new Promise<string>((resolve) => {
    let text = "";
    pipe.open({
      data: (bytes) => (text += Buffer.from(bytes).toString()),
      drain() {},
      closed: () => resolve(text),
    });
  });

describe("a server that answers anything else", () => {
  const good = (head: string) =>
    encodeSwitch(parseUpgrade(head.trimEnd())!.headers.get("sec-websocket-key")!, "godwit.1");
  for (const [name, answer, why] of [
    ["200 and a body", () => `HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n${"x".repeat(9)}`, "answered 200"],
    ["404", () => "HTTP/1.1 404 Not Found\r\n\r\n", "answered 404"],
    ["an accept of another key", () => encodeSwitch("x", "godwit.1"), "not to this request"],
    ["another subprotocol", (head) => good(head).replace("godwit.1", "chat"), "does not speak for Godwit"],
    [
      "an extension",
      (head) => good(head).replace(/\r\n$/, "Sec-WebSocket-Extensions: x\r\n\r\n"),
      "extension",
    ],
    ["no HTTP", () => "SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"],
    ["a head of 8 KiB", () => `HTTP/1.1 101 x\r\nX: ${"x".repeat(8 * 1024)}`, "does not speak HTTP"],
  ] as [string, (head: string) => string, string][])
    test(`${name}: the dial fails, says why, and the connection goes`, async () => {
      const closed = Promise.withResolvers<void>();
      const port = await answering((head, socket) => {
        socket.on("close", closed.resolve);
        socket.write(answer(head), "latin1");
      });
      const said = await failure((await dialler())(`ws://127.0.0.1:${port}/godwit`));
      expect(said).toStartWith("GODWIT_DIAL_FAILED: ");
      expect(said).toContain(why);
      await closed.promise;
    });

  test("a head without an end is read no further than its bound", async () => {
    const closed = Promise.withResolvers<void>();
    let written = 0;
    const port = await answering((_, socket) => {
      socket.on("close", closed.resolve);
      const piece = Buffer.alloc(1_024, "x");
      const more = () => {
        while (!socket.destroyed && socket.write(piece)) written += piece.length;
      };
      socket.on("drain", more);
      socket.write("HTTP/1.1 101 Switching Protocols\r\nX: ");
      more();
    });
    expect(await failure((await dialler())(`ws://127.0.0.1:${port}/godwit`))).toContain("GODWIT_DIAL_FAILED");
    await closed.promise;
    // What the kernel took on both sides, and no more.
    expect(written).toBeLessThan(16 * 1024 * 1024);
  });

  test("nothing, and closes: the dial fails at once", async () => {
    for (const end of ["end", "resetAndDestroy"] as const) {
      const port = await answering((_, socket) => void socket[end]());
      const said = await failure((await dialler())(`ws://127.0.0.1:${port}/godwit`));
      expect(said).toStartWith("GODWIT_DIAL_FAILED: ");
    }
  });

  test("nothing at all, or half a head, or no TLS: whoever gives the dial up is told at once, and the connection goes", async () => {
    for (const [scheme, half] of [
      ["ws", ""],
      ["ws", "HTTP/1.1 101 Swi"],
      ["wss", ""],
    ] as const) {
      const abort = new AbortController();
      const closed = Promise.withResolvers<void>();
      const port = await answering((_, socket) => {
        socket.on("close", closed.resolve);
        socket.write(half, () =>
          abort.abort(new GodwitError("GODWIT_TIMEOUT", "enough", { kind: "transport" })),
        );
      });
      const said = await failure((await dialler())(`${scheme}://127.0.0.1:${port}/godwit`, abort.signal));
      expect(said).toBe("GODWIT_TIMEOUT: enough");
      await closed.promise;
    }
  });
});

describe("a server that is open", () => {
  const sevens = (length: number) => new Uint8Array(length).fill(7);
  const reserved = encodeFrame(Opcode.binary, sevens(3));
  reserved[0]! |= 0x20;
  const fragment = encodeFrame(Opcode.ping, sevens(3));
  fragment[0]! &= 0x7f;
  const bad: [string, Uint8Array][] = [
    ["a masked frame", encodeFrame(Opcode.binary, sevens(3), Uint8Array.of(1, 2, 3, 4))],
    ["a frame of 2^40 bytes", Uint8Array.of(0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0)],
    ["a ping of 126 bytes", encodeFrame(Opcode.ping, sevens(126))],
    ["a ping in pieces", fragment],
    ["text", encodeFrame(Opcode.text, sevens(3))],
    ["a reserved bit", reserved],
    ["a continuation of nothing", encodeFrame(Opcode.continuation, sevens(3))],
  ];
  for (const [name, frame] of bad)
    test(`${name} ends the connection; what came before it is read`, async () => {
      const closed = Promise.withResolvers<void>();
      const stream = Buffer.concat([
        encodeFrame(Opcode.binary, Buffer.from("before")),
        frame,
        sevens(200_000),
      ]);
      const port = await opening(stream, (socket) => void gone(socket).then(closed.resolve));
      const pipe = await (await dialler())(`ws://127.0.0.1:${port}/godwit`);
      expect(await read(pipe)).toBe("before");
      await closed.promise;
    });

  test("frames in pieces and whole are the stream; a ping between is answered, masked", async () => {
    const first = encodeFrame(Opcode.binary, Buffer.from("one "));
    first[0]! &= 0x7f;
    const heard = Promise.withResolvers<Buffer>();
    const stream = Buffer.concat([
      first,
      encodeFrame(Opcode.ping, Buffer.from("there?")),
      encodeFrame(Opcode.continuation, Buffer.from("two")),
    ]);
    const port = await opening(stream, (socket) => {
      let got = Buffer.alloc(0);
      socket.on("data", (bytes: Buffer) => {
        got = Buffer.concat([got, bytes]);
        if (got.length >= 12) heard.resolve(got);
      });
    });
    const pipe = await (await dialler())(`ws://127.0.0.1:${port}/godwit`);
    const text = Promise.withResolvers<void>();
    let said = "";
    pipe.open({
      data(data) {
        said += Buffer.from(data).toString();
        if (said === "one two") text.resolve();
      },
      drain() {},
      closed() {},
    });
    await text.promise;
    const pong = await heard.promise;
    expect([pong[0], pong[1]]).toEqual([0x8a, 0x86]);
    const mask = pong.subarray(2, 6);
    expect(
      pong
        .subarray(6, 12)
        .map((byte, i) => byte ^ mask[i & 3]!)
        .toString(),
    ).toBe("there?");
    pipe.close();
  });

  test("each frame has a mask of its own", async () => {
    const heard = Promise.withResolvers<Buffer>();
    const port = await opening(Buffer.alloc(0), (socket) => {
      let got = Buffer.alloc(0);
      socket.on("data", (data: Buffer) => {
        got = Buffer.concat([got, data]);
        if (got.length >= 16 * 7) heard.resolve(got);
      });
    });
    const pipe = await (await dialler())(`ws://127.0.0.1:${port}/godwit`);
    pipe.open({ data() {}, drain() {}, closed() {} });
    for (let i = 0; i < 16; i++) pipe.write(Uint8Array.of(0));
    const all = await heard.promise;
    const masks = new Set(
      Array.from({ length: 16 }, (_, i) => all.subarray(i * 7 + 2, i * 7 + 6).toString("hex")),
    );
    expect(masks.size).toBe(16);
    pipe.close();
  });

  test("a far end that goes without a word, or says goodbye, closes the pipe", async () => {
    const bye = encodeFrame(Opcode.close, Uint8Array.of(3, 0xe8));
    for (const leave of [
      (socket: Socket) => void socket.end(),
      (socket: Socket) => void socket.resetAndDestroy(),
      (socket: Socket) => void socket.write(bye),
    ]) {
      const port = await opening(encodeFrame(Opcode.binary, Buffer.from("x")), leave);
      const pipe = await (await dialler())(`ws://127.0.0.1:${port}/godwit`);
      expect(["x", ""]).toContain(await read(pipe));
    }
  });
});

describe("wss", () => {
  test("of a name and of an address, by the authority that is configured and by no other", async () => {
    const { port } = await listener({ cert: tls.certPath, key: tls.keyPath });
    const dial = await dialler({ ca: tls.certPath });
    for (const host of ["localhost", "127.0.0.1"])
      expect(await failure(dial(`wss://${host}:${port}/godwit`))).toBe("connected");
    const stranger = await dialler();
    expect(await failure(stranger(`wss://localhost:${port}/godwit`))).toMatch(
      /GODWIT_DIAL_FAILED.*self.signed/,
    );
    expect(await failure((await dialler({ verify: false }))(`wss://localhost:${port}/godwit`))).toBe(
      "connected",
    );
  });

  test("of a name whose address was judged: the certificate is the name's, and not the address's", async () => {
    const { port } = await listener({
      ...{ cert: tls.certPath, key: tls.keyPath, listen: ["127.0.0.2:0"], hosts: ["mesh.invalid"] },
    });
    const options = {
      proxy: undefined,
      trust: { ca: tls.cert, isVerified: true },
      clock: new ManualClock(),
      random: seededRandom(1),
      resolve: async () => [{ address: "127.0.0.2", family: 4 }],
    };
    const dial = (name: string) =>
      failure(
        dialWebSocket(
          parseWebSocketEndpoint(`wss://${name}:${port}/godwit`),
          options,
          AbortSignal.timeout(5_000),
          { refusal: () => undefined },
        ),
      );
    expect(await dial("mesh.invalid")).toBe("connected");
    expect(await dial("other.invalid")).toMatch(/GODWIT_DIAL_FAILED.*altnames/);
    expect(await dial("127.0.0.2")).toMatch(/GODWIT_DIAL_FAILED.*altnames/);
  });

  test("a certificate of another name will not do, unless none is asked for", async () => {
    const { port } = await listener({ cert: tls.certPath, key: tls.keyPath, listen: ["[::1]:0"] });
    const said = await failure((await dialler({ ca: tls.certPath }))(`wss://[::1]:${port}/godwit`));
    expect(said).toMatch(/GODWIT_DIAL_FAILED.*certificate/);
    expect(await failure((await dialler({ verify: false }))(`wss://[::1]:${port}/godwit`))).toBe("connected");
  });

  test("who speaks no TLS there is a dial that failed, with verification or without", async () => {
    const port = await answering((_, socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    for (const verify of [true, false])
      expect(await failure((await dialler({ verify }))(`wss://127.0.0.1:${port}/godwit`))).toMatch(
        /GODWIT_DIAL_FAILED.*WRONG_VERSION_NUMBER/,
      );
  });
});

describe("an HTTP proxy", () => {
  /** Leads wherever it is asked to, and notes by what words. */
  async function proxy(isSecure: boolean, answer = "HTTP/1.1 200 Connection established\r\n\r\n") {
    const asked: string[] = [];
    const server = isSecure ? createTlsServer({ cert: tls.cert, key: tls.key }) : createServer();
    const onSocket = (socket: Socket) =>
      socket.once("data", (bytes) => {
        const head = bytes.toString("latin1");
        asked.push(head);
        const [, port] = /^CONNECT \S+:(\d+) HTTP\/1\.1\r\n/.exec(head) ?? [];
        const far = connect(Number(port), "127.0.0.1", () => {
          socket.write(answer);
          socket.pipe(far).pipe(socket);
        });
        far.on("error", () => socket.destroy());
        socket.on("close", () => far.destroy());
      });
    const port = await portOf(server, onSocket, isSecure ? "secureConnection" : "connection");
    return { asked, port };
  }

  for (const [outer, inner] of [
    ["http", "ws"],
    ["http", "wss"],
    ["https", "ws"],
    ["https", "wss"],
  ] as const)
    test(`${inner} through an ${outer} proxy: megabytes both ways, however slow their reader`, async () => {
      const { asked, port } = await proxy(outer === "https");
      const certificate = { cert: tls.certPath, key: tls.keyPath };
      const far = await listener(inner === "wss" ? certificate : {});
      const dial = await dialler({
        ca: tls.certPath,
        proxy: `${outer}://us%40er:pa%3Ass@localhost:${port}`,
      });
      const pipe = await dial(`${inner}://localhost:${far.port}/godwit`);
      expect(asked[0]).toStartWith(
        `CONNECT localhost:${far.port} HTTP/1.1\r\nHost: localhost:${far.port}\r\n`,
      );
      expect(asked[0]).toContain(`Proxy-Authorization: Basic ${btoa("us@er:pa:ss")}\r\n`);
      const bytes = crypto.getRandomValues(new Uint8Array(3_000_000));
      await both(pipe, await far.accepted, bytes);
    });

  test("that refuses, or speaks no HTTP, or says more than its answer: the dial fails and says so", async () => {
    const far = await listener();
    for (const [answer, why] of [
      ["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy refused: it answered 407"],
      ["HTTP/1.1 101 Switching Protocols\r\n\r\n", "the proxy refused: it answered 101"],
      ["nonsense\r\n\r\n", "the proxy does not speak HTTP"],
      ["x".repeat(9_000), "the proxy does not speak HTTP"],
      ["HTTP/1.1 200 OK\r\n\r\nmore", "the proxy says more than its answer"],
    ] as const) {
      const { port } = await proxy(false, answer);
      const said = await failure(
        (await dialler({ proxy: `http://u:geheim@127.0.0.1:${port}` }))(`ws://127.0.0.1:${far.port}/godwit`),
      );
      expect(said).toStartWith("GODWIT_DIAL_FAILED: ");
      expect(said).toContain(why);
      expect(said).not.toContain("geheim");
    }
  });

  test("a certificate that proves nothing: neither its own nor the far end's will do", async () => {
    const { port, asked } = await proxy(true);
    const far = await listener({ cert: tls.certPath, key: tls.keyPath });
    const stranger = await dialler({ proxy: `https://localhost:${port}` });
    expect(await failure(stranger(`ws://localhost:${far.port}/godwit`))).toMatch(
      /GODWIT_DIAL_FAILED.*self.signed/,
    );
    expect(asked).toEqual([]);
    for (const scheme of ["http", "https"]) {
      const through = await proxy(scheme === "https");
      const dial = await dialler({ ca: tls.certPath, proxy: `${scheme}://localhost:${through.port}` });
      expect(await failure(dial(`wss://127.0.0.2:${far.port}/godwit`))).toMatch(
        /GODWIT_DIAL_FAILED.*altnames/,
      );
      expect(await failure(dial(`wss://127.0.0.1:${far.port}/godwit`))).toBe("connected");
    }
  });

  test("that says nothing is given up with the dial", async () => {
    const abort = new AbortController();
    const closed = Promise.withResolvers<void>();
    const port = await answering((_, socket) => {
      socket.on("close", closed.resolve);
      abort.abort(new GodwitError("GODWIT_TIMEOUT", "enough", { kind: "transport" }));
    });
    const dial = await dialler({ proxy: `http://127.0.0.1:${port}` });
    expect(await failure(dial("ws://mesh.invalid/godwit", abort.signal))).toBe("GODWIT_TIMEOUT: enough");
    await closed.promise;
  });

  test("is not asked for an address with a zone", async () => {
    const { port, asked } = await proxy(false);
    const dial = await dialler({ proxy: `http://127.0.0.1:${port}` });
    expect(await failure(dial("ws://[fe80::1%lo]:1/godwit"))).toMatch(
      /GODWIT_DIAL_FAILED.*means nothing to a proxy/,
    );
    expect(asked).toEqual([]);
  });
});

/** The same bytes both ways at once, each end reading a little and pausing between. */
async function both(one: Pipe, other: Pipe, bytes: Uint8Array): Promise<void> {
  const wanted = Bun.hash(bytes);
  const hashes = await Promise.all(
    [one, other].map(
      (pipe) =>
        new Promise<number | bigint>((resolve, reject) => {
          const got = new Uint8Array(bytes.length);
          let at = 0;
          let sent = 0;
          const send = () => {
            while (sent < bytes.length) {
              const piece = bytes.subarray(sent, sent + 100_000);
              sent += piece.length;
              if (!pipe.write(piece)) return;
            }
          };
          pipe.open({
            data(data) {
              got.set(data, at);
              at += data.length;
              if (at === bytes.length) return resolve(Bun.hash(got));
              pipe.pause(true);
              setImmediate(() => pipe.pause(false));
            },
            drain: send,
            closed: () => reject(new Error(`closed after ${at} bytes`)),
          });
          send();
        }),
    ),
  );
  expect(hashes).toEqual([wanted, wanted]);
  for (const pipe of [one, other]) pipe.close();
}
