/** A tor that is none: control port and SOCKS port on loopback, onion addresses that lead where ADD_ONION said. */
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ed25519 } from "@noble/curves/ed25519.js";
import { safeCookieHash } from "./auth.ts";
import { type Door, onionNameOf, parseDoor } from "./endpoint.ts";

export interface FakeTorOptions {
  /** Asked for instead of a cookie. */
  readonly password?: string;
  /** A password is as good as the cookie. */
  readonly takesBoth?: boolean;
  /** Name of the folder of the cookie. */
  readonly cookieFolder?: string;
  /** Answers with a hash that nobody could make who knows the cookie. */
  readonly isImpostor?: boolean;
  readonly progress?: number;
  readonly refusesOnions?: boolean;
  /** Onion addresses are uploaded at once. */
  readonly uploads?: boolean;
}

export class FakeTor {
  readonly folder = mkdtempSync(join(tmpdir(), "godwit-faketor-"));
  readonly cookie = crypto.getRandomValues(new Uint8Array(32));
  /** Every command, as it came. */
  readonly commands: string[] = [];
  /** User and password of every stream, in order. */
  readonly streams: { readonly user: string; readonly password: string; readonly host: string }[] = [];
  /** Where a host leads; onion addresses come by ADD_ONION. */
  readonly routes = new Map<string, Door>();
  /** Answered to CONNECT instead of doing it. */
  refusal: number | undefined;
  /** Streams to this many more targets hang. */
  hanging = 0;
  socksPort = 0;
  controlPort = 0;
  readonly #options: FakeTorOptions;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #controls = new Set<Socket>();
  readonly #owners = new Map<string, Socket>();

  constructor(options: FakeTorOptions = {}) {
    this.#options = options;
  }

  async start(): Promise<this> {
    mkdirSync(this.cookieFolder, { recursive: true });
    writeFileSync(join(this.cookieFolder, "cookie"), this.cookie, { mode: 0o600 });
    this.socksPort = await this.#listen(this.socksPort, (socket) => this.#onSocks(socket));
    this.controlPort = await this.#listen(this.controlPort, (socket) => this.#onControl(socket));
    return this;
  }

  get cookieFolder(): string {
    return join(this.folder, this.#options.cookieFolder ?? "");
  }

  get config() {
    return { socks: `127.0.0.1:${this.socksPort}`, control: `127.0.0.1:${this.controlPort}` };
  }

  /** Streams and control connections break; the ports stay, so that `start` finds them again. */
  async stop(): Promise<void> {
    const closing = this.#servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closing);
    this.routes.clear();
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  tell(event: string): void {
    for (const control of this.#controls) control.write(`650 ${event}\r\n`);
  }

  /** Control connections end, streams live on. */
  dropControl(): void {
    for (const control of this.#controls) control.destroy();
  }

  #listen(port: number, onSocket: (socket: Socket) => void): Promise<number> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      onSocket(socket);
    });
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: "127.0.0.1", port }, () => resolve((server.address() as { port: number }).port));
    });
  }

  #onSocks(socket: Socket): void {
    let held = Buffer.alloc(0);
    let stage: "methods" | "password" | "request" | "open" = "methods";
    let [user, password] = ["", ""];
    const onData = (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      if (stage === "methods" && held.length >= 2 && held.length >= 2 + held[1]!) {
        const hasPassword = held.subarray(2, 2 + held[1]!).includes(2);
        held = held.subarray(2 + held[1]!);
        stage = hasPassword ? "password" : "request";
        socket.write(Uint8Array.of(5, hasPassword ? 2 : 0));
      }
      if (stage === "password" && held.length >= 2 && held.length >= 3 + held[1]!) {
        const at = 2 + held[1]!;
        if (held.length < at + 1 + held[at]!) return;
        user = held.toString("latin1", 2, at);
        password = held.toString("latin1", at + 1, at + 1 + held[at]!);
        held = held.subarray(at + 1 + held[at]!);
        stage = "request";
        socket.write(Uint8Array.of(1, 0));
      }
      if (stage === "request" && held.length >= 5) {
        const length = held[3] === 3 ? 7 + held[4]! : held[3] === 1 ? 10 : 22;
        if (held.length < length) return;
        const host = held[3] === 3 ? held.toString("latin1", 5, length - 2) : `type ${held[3]}`;
        const port = held.readUInt16BE(length - 2);
        stage = "open";
        socket.removeListener("data", onData);
        this.streams.push({ user, password, host });
        this.#connect(socket, host, port);
      }
    };
    socket.on("data", onData);
  }

  #connect(socket: Socket, host: string, port: number): void {
    const reply = (code: number) => Uint8Array.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0);
    if (this.hanging > 0) return void this.hanging--;
    const route = this.routes.get(`${host}:${port}`);
    if (this.refusal !== undefined || route === undefined) return void socket.end(reply(this.refusal ?? 4));
    const far = createConnection({ ...route, allowHalfOpen: false });
    this.#sockets.add(far);
    far.on("close", () => this.#sockets.delete(far));
    far.once("error", () => socket.destroy());
    far.once("connect", () => {
      socket.write(reply(0));
      socket.pipe(far);
      far.pipe(socket);
      socket.on("close", () => far.destroy());
      far.on("close", () => socket.destroySoon());
    });
  }

  #onControl(socket: Socket): void {
    let text = "";
    let serverHash: Buffer | undefined;
    let isIn = false;
    socket.on("close", () => {
      this.#controls.delete(socket);
      for (const [route, owner] of this.#owners)
        if (owner === socket) {
          this.#owners.delete(route);
          this.routes.delete(route);
        }
    });
    socket.on("data", (bytes) => {
      const lines = (text + bytes.toString("latin1")).split("\r\n");
      text = lines.pop()!;
      for (const line of lines) {
        this.commands.push(line);
        socket.write(answer(line));
      }
    });
    const { password, takesBoth = false, isImpostor = false, progress = 100, uploads = true } = this.#options;
    const methods = [
      ...(password === undefined || takesBoth ? ["COOKIE", "SAFECOOKIE"] : []),
      ...(password === undefined ? [] : ["HASHEDPASSWORD"]),
    ];
    const where = methods.includes("COOKIE") ? ` COOKIEFILE="${this.cookieFolder}/cookie"` : "";
    const answer = (line: string): string => {
      const [name = "", ...words] = line.split(" ");
      if (name === "PROTOCOLINFO")
        return `250-PROTOCOLINFO 1\r\n250-AUTH METHODS=${methods.join()}${where}\r\n250 OK\r\n`;
      if (name === "AUTHCHALLENGE") {
        const parts = {
          cookie: this.cookie,
          clientNonce: Buffer.from(words[1]!, "hex"),
          serverNonce: crypto.getRandomValues(new Uint8Array(32)),
        };
        serverHash = safeCookieHash("controller", parts);
        const proof = isImpostor ? "00".repeat(32) : safeCookieHash("server", parts).toString("hex");
        return `250 AUTHCHALLENGE SERVERHASH=${proof} SERVERNONCE=${Buffer.from(parts.serverNonce).toString("hex")}\r\n`;
      }
      if (name === "AUTHENTICATE") {
        isIn =
          (methods.includes("COOKIE") && words[0] === serverHash?.toString("hex")) ||
          (password !== undefined && line === `AUTHENTICATE "${password}"`);
        if (isIn) this.#controls.add(socket);
        return isIn ? "250 OK\r\n" : "515 Authentication failed\r\n";
      }
      if (!isIn) return "514 Authentication required\r\n";
      if (name === "GETINFO")
        return `250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=${progress} TAG=done SUMMARY="Done"\r\n250-status/circuit-established=1\r\n250-network-liveness=up\r\n250 OK\r\n`;
      if (name === "ADD_ONION" && this.#options.refusesOnions === true)
        return "512 Invalid VIRTPORT/TARGET\r\n";
      if (name === "ADD_ONION") return this.#addOnion(socket, line, uploads);
      return "250 OK\r\n";
    };
  }

  #addOnion(socket: Socket, line: string, uploads: boolean): string {
    const [, port = "", target = ""] = /Port=(\d+),(\S+)/.exec(line) ?? [];
    const name = onionNameOfBlob(line);
    if (this.routes.has(`${name}.onion:${port}`)) return "550 Onion address collision\r\n";
    this.routes.set(`${name}.onion:${port}`, parseDoor(target)!);
    this.#owners.set(`${name}.onion:${port}`, socket);
    if (uploads) queueMicrotask(() => socket.write(`650 HS_DESC UPLOADED ${name} UNKNOWN $AA~x\r\n`));
    return `250-ServiceID=${name}\r\n250 OK\r\n`;
  }
}

/** From the expanded key, as tor does it: the scalar times the base point. */
function onionNameOfBlob(line: string): string {
  const expanded = Buffer.from(/ED25519-V3:(\S+)/.exec(line)![1]!, "base64");
  const scalar = BigInt(`0x${Buffer.from(expanded.subarray(0, 32)).reverse().toString("hex")}`);
  return onionNameOf(ed25519.Point.BASE.multiply(scalar % ed25519.Point.Fn.ORDER).toBytes());
}
