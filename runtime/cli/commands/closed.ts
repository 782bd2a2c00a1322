/**
 * Closed meshes: the network's authority (its key stays offline, so these commands need no node), revocations, and the
 * network secret. What travels between machines is one line of text. docs/closed-meshes.md
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { RevocationView, RotationView, SecretsView } from "../../view/contract/closed.ts";
import { loadConfig } from "../../config/load.ts";
import { whyMadeUp } from "../../closed/secret-strength.ts";
import { createAuthority, loadAuthority, loadIdentity } from "../../identity/keystore.ts";
import { parseCallsign } from "../../identity/names.ts";
import { formatNameGrant, formatRevocation } from "../../identity/proof-text.ts";
import { encodeRevocation, REVOCATION_REASON_BYTES_MAX, signName } from "../../identity/record.ts";
import { signRotation } from "../../identity/rotation.ts";
import { fileReason, godwitError } from "../../kernel/errors.ts";
import { parseNodeId } from "../../kernel/ids.ts";
import { systemRandom } from "../../kernel/random.ts";
import { ApiProblem, segment } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";
import { spareColumn, stateColumn, table } from "../table-text.ts";

const DEFAULT_KEY = "godwit-authority.key";
/** Written as base64: 32 random bytes in 44 characters that survive an editor. */
const SECRET_BYTES = 32;
const PROOF_BYTES_MAX = 4_096;

function say(context: CommandContext, value: unknown, human: string): number {
  context.io.stdout(context.isJson ? `${JSON.stringify(value)}\n` : human);
  return exitCodes.fine;
}

const keyPath = (context: CommandContext): string => context.option("key") ?? DEFAULT_KEY;

/** A new file that only its owner may read; an existing one is never replaced. */
function writePrivate(path: string, text: string): void {
  try {
    const handle = openSync(path, "wx", 0o600);
    try {
      writeSync(handle, text);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
  } catch (cause) {
    const folder = dirname(resolve(path));
    const reason = existsSync(folder) ? fileReason(cause) : `there is no such folder; mkdir -p ${folder}`;
    throw godwitError("GODWIT_USAGE", `cannot write ${path}: ${reason}`, cause);
  }
}

/** The network's name: of the option, else of this machine's configuration. */
async function networkOf(context: CommandContext): Promise<string> {
  const named = context.option("network");
  if (named !== undefined) return named;
  return (await loadConfig({ path: context.option("config"), env: context.env })).node.network;
}

/** An argument that is the line itself, or names a file that holds it. */
function lineOf(argument: string, prefix: string): string {
  if (argument.startsWith(`${prefix}:`)) return argument;
  try {
    return readFileSync(argument, "utf8").slice(0, PROOF_BYTES_MAX).trim();
  } catch (cause) {
    throw godwitError(
      "GODWIT_USAGE",
      `${argument} is no file that can be read, and no ${prefix}:... line`,
      cause,
    );
  }
}

function give(context: CommandContext, value: object, line: string): number {
  const out = context.option("out");
  if (out === undefined) return say(context, { ...value, text: line }, `${line}\n`);
  writePrivate(out, `${line}\n`);
  return say(context, { ...value, path: out }, `written to ${out}\n`);
}

export const authorityInit: CommandModule = {
  async run(context) {
    const path = keyPath(context);
    const { id } = createAuthority(path, systemRandom);
    return say(
      context,
      { id, path },
      `${id}\nkept in ${path}: take it off this machine; on every node write\n\n  [network]\n  authority = "${id}"\n`,
    );
  },
};

export const authoritySignName: CommandModule = {
  async run(context) {
    const [name, node] = context.args as [string, string];
    const callsign = parseCallsign(name);
    if (callsign === undefined)
      throw godwitError("GODWIT_ADDRESS_INVALID", `${name} is no callsign like DUN-A`);
    const authority = loadAuthority(keyPath(context));
    const serial = serialOf(context);
    const id = parseNodeId(node.toLowerCase());
    const proof = signName(authority, { callsign, id, serial }, await networkOf(context));
    return give(context, { name: callsign, id, serial }, formatNameGrant({ callsign, id, ...proof }));
  },
};

/** Of two proofs for one name the higher serial counts: the first is 1, each transfer takes a higher one. */
function serialOf(context: CommandContext): number {
  const serial = Number(context.option("serial") ?? 1);
  if (Number.isInteger(serial) && serial >= 1 && serial <= 0xffff_ffff) return serial;
  throw godwitError("GODWIT_USAGE", "--serial is a whole number from 1 to 4294967295");
}

function reasonOf(context: CommandContext): string {
  const reason = context.option("reason") ?? "";
  if (Buffer.byteLength(reason) <= REVOCATION_REASON_BYTES_MAX) return reason;
  throw godwitError("GODWIT_USAGE", `--reason has at most ${REVOCATION_REASON_BYTES_MAX} bytes`);
}

export const authorityRevoke: CommandModule = {
  async run(context) {
    const id = parseNodeId(context.args[0]!.toLowerCase());
    const reason = reasonOf(context);
    if (reason === "")
      throw godwitError("GODWIT_USAGE", 'say why with --reason "...": everybody will see it, for good');
    const authority = loadAuthority(keyPath(context));
    const record = encodeRevocation(authority, id, await networkOf(context), reason);
    return give(context, { id, reason }, formatRevocation(record));
  },
};

export const revokeSelf: CommandModule = {
  async run(context) {
    const { node } = await loadConfig({ path: context.option("config"), env: context.env });
    const identity = loadIdentity(node.stateDir);
    if (context.option("confirm") !== identity.id)
      throw godwitError(
        "GODWIT_USAGE",
        `this ends ${identity.id} for good; if that is meant: --confirm ${identity.id}`,
      );
    const record = encodeRevocation(identity, identity.id, node.network, reasonOf(context));
    return give(context, { id: identity.id }, formatRevocation(record));
  },
};

export const revoke: CommandModule = {
  async run(context) {
    const given = context.option("publish");
    if (given === undefined)
      throw godwitError("GODWIT_USAGE", "name the revocation: godwit revoke --publish FILE");
    const revocation = lineOf(given, "godwit-revocation");
    const client = await context.client();
    const { value, text } = await client.call<RevocationView>("POST", "/mesh/revocations", {
      json: { revocation },
    });
    context.io.stdout(
      context.isJson
        ? `${text}\n`
        : `${value.id} is revoked for good, by ${value.by_authority ? "the authority" : "itself"}\n`,
    );
    return exitCodes.fine;
  },
};

export const revocations: CommandModule = {
  async run(context) {
    const client = await context.client();
    const { value, text } = await client.call<{ revocations: RevocationView[] }>("GET", "/mesh/revocations");
    const rows = value.revocations.map((row) => [
      row.id,
      row.by_authority ? "authority" : "itself",
      row.reason ?? "",
    ]);
    context.io.stdout(
      context.isJson ? `${text}\n` : table(["NODE", "REVOKED BY", "REASON"], rows, context.paint),
    );
    return exitCodes.fine;
  },
};

/** What chance makes look like words, once in ten thousand times, would be taken for a person's. */
function newSecret(): string {
  for (;;) {
    const secret = Buffer.from(systemRandom.bytes(SECRET_BYTES)).toString("base64");
    if (whyMadeUp(Buffer.from(secret)) === undefined) return secret;
  }
}

/** For a first start that may happen again: files that are there stay as they are. */
function makeMissing(context: CommandContext, files: readonly string[]): number {
  const rows = files.map((file) => {
    const path = resolve(file);
    const isMade = !existsSync(path);
    if (isMade) writePrivate(path, `${newSecret()}\n`);
    return { path, made: isMade };
  });
  const lines = rows.map(({ path, made }) => (made ? `made ${path}\n` : `${path} is there and stays\n`));
  return say(context, { files: rows }, lines.join(""));
}

export const secretNew: CommandModule = {
  async run(context) {
    const out = context.option("out");
    if (context.args.length > 0 && out === undefined) return makeMissing(context, context.args);
    if (out === undefined || context.args.length > 0)
      throw godwitError(
        "GODWIT_USAGE",
        "name a new file for it, godwit secret new --out /etc/godwit/network.key, or files of which those are made that are missing: godwit secret new FILE...",
      );
    const path = resolve(out);
    writePrivate(out, `${newSecret()}\n`);
    return say(
      context,
      { path },
      `written to ${path}; on every node of a new mesh: network_secret = "file:${path}"\n` +
        "a mesh that lives already takes a new secret without a break by: godwit secret rotate --out FILE\n",
    );
  },
};

export const secretList: CommandModule = {
  async run(context) {
    const client = await context.client();
    const { value, text } = await client.call<SecretsView>("GET", "/mesh/secrets");
    const rows = value.epochs.map((row) => [
      row.epoch,
      row.state,
      row.source,
      String(row.generation),
      String(row.links),
      context.paint.ahead(row.retires_in_seconds),
    ]);
    const header = ["EPOCH", stateColumn(), "FROM", spareColumn("GENERATION"), "LINKS", "ENDS"];
    context.io.stdout(
      context.isJson
        ? `${text}\n`
        : rows.length === 0
          ? "the mesh is open\n"
          : table(header, rows, context.paint),
    );
    return exitCodes.fine;
  },
};

export const secretRotate: CommandModule = {
  async run(context) {
    const out = context.option("out");
    if (out === undefined)
      throw godwitError(
        "GODWIT_USAGE",
        "name a new file for the secret: new machines will need it (--out FILE)",
      );
    const client = await context.client();
    const { value: now } = await client.call<SecretsView>("GET", "/mesh/secrets");
    const path = context.option("key");
    const order = { generation: now.generation + 1, secret: new TextEncoder().encode(newSecret()) };
    const { signature } =
      path === undefined ? { signature: undefined } : signRotation(loadAuthority(path), order, now.network);
    writePrivate(out, `${new TextDecoder().decode(order.secret)}\n`);
    const rotation = {
      json: {
        generation: order.generation,
        secret_base64: Buffer.from(order.secret).toString("base64"),
        ...(signature === undefined ? {} : { signature_base64: Buffer.from(signature).toString("base64") }),
        everyone: context.isSet("everyone"),
      },
    };
    const { value, text } = await client
      .call<RotationView>("POST", "/mesh/secrets/rotate", rotation)
      .catch((error: unknown) => {
        // A node that refused has not got it; one that may have got it keeps it in its state_dir.
        if (error instanceof ApiProblem) unlinkSync(out);
        throw error;
      });
    const left = value.left_out.map(({ id, reason }) => `  ${id}: ${render.safeLine(reason)}\n`).join("");
    context.io.stdout(
      context.isJson
        ? `${text}\n`
        : `epoch ${value.epoch}, generation ${value.generation}: on its way to ${render.counted(value.sent.length, "node")}\n` +
            (left === "" ? "" : `left out:\n${left}`) +
            `kept in ${out} for new machines\n`,
    );
    return exitCodes.fine;
  },
};

export const secretRetire: CommandModule = {
  async run(context) {
    const client = await context.client();
    const { value, text } = await client.call<{ retired: string[] }>("POST", "/mesh/secrets/retire");
    const what = value.retired.length === 0 ? "nothing to retire" : `retired: ${value.retired.join(" ")}`;
    context.io.stdout(context.isJson ? `${text}\n` : `${what}\n`);
    return exitCodes.fine;
  },
};

export const adoptName: CommandModule = {
  async run(context) {
    const proof = lineOf(context.args[0]!, "godwit-name");
    const client = await context.client();
    const { value, text } = await client.call<{ name: string; serial: number }>("POST", "/mesh/names/adopt", {
      json: { proof },
    });
    context.io.stdout(
      context.isJson
        ? `${text}\n`
        : `this node is ${value.name} by the authority's word, serial ${value.serial}\n`,
    );
    return exitCodes.fine;
  },
};

export const forgetName: CommandModule = {
  async run(context) {
    const [name] = context.args as [string];
    const client = await context.client();
    const { text } = await client.call("POST", `/mesh/names/${segment(name)}/forget`);
    context.io.stdout(
      context.isJson
        ? `${text}\n`
        : `${render.safeLine(name)} is forgotten; the next node to claim it is pinned\n`,
    );
    return exitCodes.fine;
  },
};
