/** `godwit list sign`: a list of peers for `discovery.static`, signed with this node's key. Format: docs/joining.md. */
import { readFile } from "node:fs/promises";
import { loadConfig } from "../../config/load.ts";
import { loadIdentity } from "../../identity/keystore.ts";
import { PLAUSIBLE_WALL_MS } from "../../kernel/clock.ts";
import { fileReason, godwitError } from "../../kernel/errors.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";

const EXPIRES_DEFAULT_MS = 30 * 24 * 3_600_000;
const PEERS_MAX = 1_024;
const PEER = /^[a-z][a-z0-9+.-]*:\/\/[^\s#]+(#[a-zA-Z2-7]{51}[aAqQ])?$/;
const DOMAIN = new TextEncoder().encode("godwit peer list 1\0");

export const sign: CommandModule = {
  async run(context) {
    const { io } = context;
    const { node } = await loadConfig({ path: context.option("config"), env: context.env });
    const identity = loadIdentity(node.stateDir);
    const lifetimeMs = durationOf(context, "expires") ?? EXPIRES_DEFAULT_MS;
    const wallMs = io.clock.wallMs();
    if (wallMs < PLAUSIBLE_WALL_MS) throw usage("this machine's clock is not set: sign where it is right");
    const number = context.option("sequence") ?? String(Math.floor(wallMs / 1_000));
    if (!/^\d{1,15}$/.test(number))
      throw usage("--sequence is a whole number; a newer list has a higher one");
    const payload = Buffer.from(
      JSON.stringify({
        sequence: Number(number),
        expires_at: Math.floor((wallMs + lifetimeMs) / 1_000),
        peers: await readPeers(context.args[0]!),
      }),
    );
    const signature = identity.sign(Buffer.concat([DOMAIN, payload]));
    const list = {
      payload: payload.toString("base64"),
      signature: Buffer.from(signature).toString("base64"),
    };
    io.stdout(`${JSON.stringify(list)}\n`);
    if (!context.isJson)
      io.stderr(`signed as number ${number}; the nodes that read it need key = "${identity.id}"\n`);
    return exitCodes.fine;
  },
};

async function readPeers(path: string): Promise<string[]> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw usage(`cannot read ${path}: ${fileReason(error)}`);
  });
  const peers = text
    .split(/\r?\n/)
    .flatMap((line) => line.replace(/(^|\s)#.*$/, "").split(/[\s,]+/))
    .filter((word) => word !== "");
  const wrong = peers.find((peer) => !PEER.test(peer));
  if (wrong !== undefined) throw usage(`"${wrong.slice(0, 60)}" in ${path} is no endpoint`);
  if (peers.length > PEERS_MAX) throw usage(`${path} has more than ${PEERS_MAX} peers`);
  return peers;
}

const usage = (message: string) => godwitError("GODWIT_USAGE", message);
