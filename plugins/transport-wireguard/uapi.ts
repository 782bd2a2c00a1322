/**
 * The cross-platform interface of userspace WireGuard (wireguard.com/xplatform): lines `key=value` over a unix socket, keys in
 * hex, an empty line at the end; the answer ends with `errno=N` and an empty line.
 */
import { GodwitError, parseHostPort, type Clock, type HostPort } from "@godwit/sdk";
import { formatIp, tryParseIp } from "@godwit/sdk/netlink";
import type { WgChange, WgDevice, WgDoor, WgPeer } from "./device.ts";
import { Secret } from "@godwit/sdk/secret";
import { KEY_BYTES, keyText, parseKey, publicKeyOf } from "./keys.ts";

/** Where every implementation puts its sockets, of all network namespaces alike. */
export const SOCKET_FOLDER = "/var/run/wireguard";
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
const TIMEOUT_MS = 3_000;

export const socketPathOf = (name: string): string => `${SOCKET_FOLDER}/${name}.sock`;

const failed = (what: string, cause?: unknown) =>
  new GodwitError("GODWIT_PLUGIN_FAILED", `wireguard: ${what}`, { kind: "transport", retry: "later", cause });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The whole request. It holds secrets. */
export function formatChange({ privateKey, listenPort, peers = [] }: WgChange): string {
  const lines = ["set=1"];
  if (privateKey !== undefined) lines.push(`private_key=${hex(privateKey.reveal())}`);
  if (listenPort !== undefined) lines.push(`listen_port=${listenPort}`);
  for (const peer of peers) {
    const { publicKey, presharedKey, endpoint, keepaliveSeconds, allowedIps, isRemoved } = peer;
    lines.push(`public_key=${hex(parseKey(publicKey)!)}`);
    if (isRemoved === true) {
      lines.push("remove=true");
      continue;
    }
    if (presharedKey !== undefined)
      lines.push(`preshared_key=${hex(presharedKey?.reveal() ?? new Uint8Array(KEY_BYTES))}`);
    if (endpoint !== undefined)
      lines.push(
        `endpoint=${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`,
      );
    if (keepaliveSeconds !== undefined) lines.push(`persistent_keepalive_interval=${keepaliveSeconds}`);
    if (allowedIps !== undefined) {
      lines.push("replace_allowed_ips=true");
      for (const text of allowedIps) lines.push(`allowed_ip=${text}`);
    }
  }
  return `${lines.join("\n")}\n\n`;
}

type Draft = { -readonly [Key in keyof WgPeer]: WgPeer[Key] } & { allowedIps: string[] };

/** An answer to `get=1`. Throws GODWIT_PLUGIN_FAILED, which never quotes it. */
export function parseDevice(text: string): WgDevice {
  let publicKey: string | undefined;
  let listenPort = 0;
  const peers: Draft[] = [];
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at < 0) continue;
    const [key, value] = [line.slice(0, at), line.slice(at + 1)];
    const peer = peers.at(-1);
    if (key === "errno") {
      if (value !== "0") throw failed(`the device refused: errno ${value.slice(0, 10)}`);
    } else if (key === "public_key") {
      peers.push({
        publicKey: keyText(readKey(value)),
        presharedKey: undefined,
        endpoint: undefined,
        keepaliveSeconds: 0,
        handshakeMs: 0,
        receivedBytes: 0,
        sentBytes: 0,
        allowedIps: [],
      });
    } else if (key === "private_key") {
      const bytes = readKey(value);
      if (bytes.some((byte) => byte !== 0)) publicKey = keyText(publicKeyOf(new Secret(bytes)));
    } else if (key === "listen_port") listenPort = readNumber(value, 65_535);
    else if (peer !== undefined) readPeerLine(peer, key, value);
  }
  return { publicKey, listenPort, peers };
}

function readPeerLine(peer: Draft, key: string, value: string): void {
  switch (key) {
    case "preshared_key": {
      const bytes = readKey(value);
      if (bytes.some((byte) => byte !== 0)) peer.presharedKey = new Secret(bytes);
      return;
    }
    case "endpoint":
      peer.endpoint = readEndpoint(value);
      return;
    case "persistent_keepalive_interval":
      peer.keepaliveSeconds = readNumber(value, 65_535);
      return;
    case "last_handshake_time_sec":
      peer.handshakeMs += readNumber(value, 2 ** 40) * 1_000;
      return;
    case "last_handshake_time_nsec":
      peer.handshakeMs += Math.floor(readNumber(value, 1e9) / 1e6);
      return;
    case "rx_bytes":
      peer.receivedBytes = readNumber(value, Number.MAX_SAFE_INTEGER);
      return;
    case "tx_bytes":
      peer.sentBytes = readNumber(value, Number.MAX_SAFE_INTEGER);
      return;
    case "allowed_ip": {
      const [address = "", length = ""] = value.split("/");
      const bytes = tryParseIp(address);
      if (bytes === undefined) throw failed("the device has a malformed allowed address");
      peer.allowedIps.push(`${formatIp(bytes)}/${readNumber(length, 128)}`);
      return;
    }
    default:
  }
}

function readKey(value: string): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(value)) throw failed("the device has a malformed key");
  return new Uint8Array(Buffer.from(value, "hex"));
}

function readNumber(value: string, max: number): number {
  const number = /^\d{1,20}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number <= max)) throw failed("the device says a malformed number");
  return number;
}

function readEndpoint(value: string): HostPort | undefined {
  try {
    const { host, port } = parseHostPort(value);
    const bytes = tryParseIp(host.replace(/%.*$/, ""));
    return bytes === undefined ? undefined : { host: formatIp(bytes), port };
  } catch {
    return undefined;
  }
}

export class UapiDoor implements WgDoor {
  readonly #path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  async read(): Promise<WgDevice> {
    return parseDevice(await this.#ask("get=1\n\n"));
  }

  async change(change: WgChange): Promise<void> {
    const answer = await this.#ask(formatChange(change));
    const errno = /^errno=(-?\d{1,10})$/m.exec(answer)?.[1];
    if (errno !== "0") throw failed(`the device refused a change: errno ${errno ?? "missing"}`);
  }

  close(): void {}

  /** Rejects with GODWIT_PLUGIN_FAILED, which never quotes what was said. */
  #ask(request: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      let isOver = false;
      let end = () => {};
      const finish = (settle: () => void) => {
        if (isOver) return;
        isOver = true;
        timer.cancel();
        end();
        settle();
      };
      const fail = (what: string, cause?: unknown) => finish(() => reject(failed(what, cause)));
      const timer = this.#clock.after(TIMEOUT_MS, () =>
        fail(`the device did not answer within ${TIMEOUT_MS / 1_000} s`),
      );
      let waiting: Buffer = Buffer.from(request);
      const pump = (socket: { write(data: Uint8Array): number }) => {
        if (waiting.length > 0) waiting = waiting.subarray(Math.max(0, socket.write(waiting)));
      };
      Bun.connect({
        unix: this.#path,
        socket: {
          data(_, piece) {
            bytes += piece.length;
            if (bytes > ANSWER_BYTES_MAX) return fail("the answer of the device is too long");
            pieces.push(Buffer.from(piece));
            const tail = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces.slice(-2));
            if (tail.subarray(-2).toString() !== "\n\n") return;
            const text = Buffer.concat(pieces).toString();
            if (/(?:^|\n)errno=-?\d+\n\n$/.test(text)) finish(() => resolve(text));
          },
          drain: pump,
          end: () => fail("the device closed before it had answered"),
          close: () => fail("the device closed before it had answered"),
          error: (_, error) => fail("the socket of the device failed", error),
        },
      }).then(
        (socket) => {
          if (isOver) return void socket.terminate();
          end = () => void socket.terminate();
          pump(socket);
        },
        () => fail("the socket of the device does not answer"),
      );
    });
  }
}
