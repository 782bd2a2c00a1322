/**
 * `godwit wg`: the overlay of transport.wireguard. A plain device's private key is made here and printed here, and goes nowhere else.
 */
import { generateKeyPairSync } from "node:crypto";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";
import { table } from "../table-text.ts";

const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const KEEPALIVE_SECONDS = 25;

interface DeviceAnswer {
  readonly address: string;
  readonly public_key: string;
  readonly networks: readonly string[];
  readonly hosts: readonly string[];
  readonly mtu: number;
}

interface ShowAnswer {
  readonly interface: string;
  readonly address: string;
  readonly ipv4: string | null;
  readonly public_key: string;
  readonly peers: readonly {
    name: string;
    address: string | null;
    endpoint: string | null;
    handshake_seconds: number | null;
    preshared: boolean;
    received_bytes: number;
    sent_bytes: number;
  }[];
}

async function ask<T>(context: CommandContext, request: string, input: unknown = {}): Promise<T> {
  const instance = context.option("transport");
  const json = { request, input, ...(instance === undefined ? {} : { instance }) };
  return (await (await context.client()).call<T>("POST", "/plugins/wireguard/requests", { json })).value;
}

/** Base64 of both halves, as `wg genkey` and `wg pubkey` print them. */
function makeKeys(): { privateKey: string; publicKey: string } {
  const keys = generateKeyPairSync("x25519");
  const last = (der: Buffer) => der.subarray(-32).toString("base64");
  return {
    privateKey: last(keys.privateKey.export({ format: "der", type: "pkcs8" })),
    publicKey: last(keys.publicKey.export({ format: "der", type: "spki" })),
  };
}

export const peerConfig: CommandModule = {
  async run(context) {
    const name = context.args[0]!.toLowerCase();
    const given = context.option("public-key");
    if (given !== undefined && !KEY.test(given))
      throw godwitError("GODWIT_USAGE", "--public-key is a key as `wg pubkey` prints it: 44 characters");
    const made = given === undefined ? makeKeys() : undefined;
    const publicKey = given ?? made!.publicKey;
    const answer = await ask<DeviceAnswer>(context, "add-device", { name, public_key: publicKey });
    const endpoint = context.option("endpoint") ?? answer.hosts[0];
    const lines = [
      `# ${render.safeLine(name)}: a plain WireGuard device behind this node`,
      "[Interface]",
      made === undefined
        ? "# PrivateKey = the one that belongs to the public key"
        : `PrivateKey = ${made.privateKey}`,
      `Address = ${answer.address}/128`,
      `MTU = ${answer.mtu}`,
      "",
      "[Peer]",
      `PublicKey = ${answer.public_key}`,
      `AllowedIPs = ${answer.networks.join(", ")}`,
      endpoint === undefined
        ? "# Endpoint = where this node is reached: --endpoint HOST:PORT"
        : `Endpoint = ${endpoint}`,
      `PersistentKeepalive = ${KEEPALIVE_SECONDS}`,
    ];
    const text = `${lines.map((line) => render.safeLine(line)).join("\n")}\n`;
    context.io.stdout(context.isJson ? `${JSON.stringify({ name, config: text })}\n` : text);
    if (endpoint === undefined)
      context.io.stderr("this node tells nobody where it is reached: give --endpoint HOST:PORT\n");
    return exitCodes.fine;
  },
};

export const remove: CommandModule = {
  async run(context) {
    const name = context.args[0]!.toLowerCase();
    await ask(context, "remove-device", { name });
    context.io.stdout(
      context.isJson ? `${JSON.stringify({ name })}\n` : `${render.safeLine(name)} is removed\n`,
    );
    return exitCodes.fine;
  },
};

export const rotate: CommandModule = {
  async run(context) {
    const answer = await ask<{ public_key: string }>(context, "rotate");
    context.io.stdout(
      context.isJson
        ? `${JSON.stringify(answer)}\n`
        : `the new key ${answer.public_key} is announced and comes into force in seconds; static lists and plain devices need it\n`,
    );
    return exitCodes.fine;
  },
};

export const show: CommandModule = {
  async run(context) {
    const answer = await ask<ShowAnswer>(context, "show");
    if (context.isJson) {
      context.io.stdout(`${JSON.stringify(answer)}\n`);
      return exitCodes.fine;
    }
    const { interface: name, address, ipv4, public_key: key, peers } = answer;
    context.io.stdout(`${name}  ${address}${ipv4 === null ? "" : `  ${ipv4}`}  ${key}\n`);
    const rows = peers.map((peer) => [
      render.safeLine(peer.name),
      peer.address ?? "",
      peer.endpoint ?? "",
      peer.handshake_seconds === null ? "never" : `${peer.handshake_seconds} s ago`,
      peer.preshared ? "yes" : "no",
      String(peer.received_bytes),
      String(peer.sent_bytes),
    ]);
    const heads = ["PEER", "ADDRESS", "ENDPOINT", "HANDSHAKE", "PRESHARED", "RECEIVED", "SENT"];
    if (rows.length > 0) context.io.stdout(table(heads, rows, context.paint));
    return exitCodes.fine;
  },
};
