/** `godwit serf`: the cluster that discovery.serf is a member of. */
import { readSecret, Secret, SECRET_REFERENCE } from "@godwit/sdk/secret";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import * as render from "../render.ts";
import { stateColumn, table } from "../table-text.ts";

/** One of `serf members --json`. */
export interface SerfMember {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly status: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly node: string | null;
  readonly endpoints: readonly string[];
  readonly why: string | null;
}

interface MembersAnswer {
  readonly members: readonly SerfMember[];
}

interface QueryAnswer {
  readonly acks: readonly string[];
  readonly answers: readonly { readonly from: string; readonly text: string }[];
}

interface KeysAnswer {
  readonly members: number;
  readonly done: number;
  readonly faults: Readonly<Record<string, string>>;
  readonly keys: Readonly<Record<string, number>>;
  readonly primaryKeys: Readonly<Record<string, number>>;
}

/** The tag that says which node a member is: its id stands in a column of its own. */
const IDENTITY_TAG = "godwit";
const KEY_ACTIONS = ["list", "install", "use", "remove"];

async function ask<T>(context: CommandContext, request: string, input: object = {}): Promise<T> {
  const instance = context.option("discovery");
  const json = { request, input, ...(instance === undefined ? {} : { instance }) };
  return (await (await context.client()).call<T>("POST", "/plugins/serf/requests", { json })).value;
}

const print = (context: CommandContext, value: unknown, text: string): number => {
  context.io.stdout(context.isJson ? `${JSON.stringify(value)}\n` : text);
  return exitCodes.fine;
};

const payloadOf = (text: string | undefined): object =>
  text === undefined ? {} : { payload: Buffer.from(text).toString("base64") };

export const members: CommandModule = {
  async run(context) {
    const answer = await ask<MembersAnswer>(context, "members");
    const rows = answer.members.map((member) => [
      member.name,
      member.address.includes(":")
        ? `[${member.address}]:${member.port}`
        : `${member.address}:${member.port}`,
      member.status,
      member.node ?? "",
      member.why ?? member.endpoints.join(" "),
      Object.entries(member.tags)
        .filter(([tag]) => tag !== IDENTITY_TAG)
        .map(([tag, value]) => `${tag}=${value}`)
        .join(","),
    ]);
    return print(
      context,
      answer,
      table(["MEMBER", "ADDRESS", stateColumn("STATUS"), "NODE", "HINTS", "TAGS"], rows, context.paint),
    );
  },
};

export const event: CommandModule = {
  async run(context) {
    const [name, payload] = context.args;
    if (name === undefined) {
      const events = await ask<{ at_ms: number; name: string; text: string }[]>(context, "events");
      const lines = events.map(
        ({ at_ms: atMs, name: of, text }) =>
          `${context.paint.moment(new Date(atMs).toISOString())}  ${render.safeLine(of)}  ${render.safeLine(text)}\n`,
      );
      return print(context, events, lines.join(""));
    }
    const coalesce = !context.isSet("no-coalesce");
    const answer = await ask(context, "event", { name, coalesce, ...payloadOf(payload) });
    return print(context, answer, `event ${render.safeLine(name)} is on its way\n`);
  },
};

export const query: CommandModule = {
  async run(context) {
    const [name, payload] = context.args;
    const tags = Object.fromEntries(
      context.options("tag").map((text) => {
        const at = text.indexOf("=");
        if (at < 1) throw godwitError("GODWIT_USAGE", "--tag takes TAG=EXPRESSION, such as role=web.*");
        return [text.slice(0, at), text.slice(at + 1)];
      }),
    );
    const relay = context.option("relay");
    const timeoutMs = durationOf(context, "timeout");
    const answer = await ask<QueryAnswer>(context, "query", {
      name,
      ...payloadOf(payload),
      nodes: context.options("node"),
      tags,
      ...(relay === undefined ? {} : { relay: Number(relay) }),
      ...(timeoutMs === undefined ? {} : { timeout_ms: timeoutMs }),
    });
    const lines = [
      ...answer.answers.map(({ from, text }) => `${render.safeLine(from)}  ${render.safeLine(text)}`),
      `acks: ${answer.acks.length} (${render.safeLine(answer.acks.join(", "))}), answers: ${answer.answers.length}`,
    ];
    return print(context, answer, `${lines.join("\n")}\n`);
  },
};

export const keys: CommandModule = {
  async run(context) {
    const [action = "list", key] = context.args;
    if (!KEY_ACTIONS.includes(action))
      throw godwitError("GODWIT_USAGE", `"${action}" is none of ${KEY_ACTIONS.join(", ")}`);
    if ((action === "list") !== (key === undefined))
      throw godwitError("GODWIT_USAGE", "list takes no key, the others take one as serf keygen prints it");
    const answer = await ask<KeysAnswer>(context, "keys", { action, ...keyOf(context, key) });
    const lines = [
      ...Object.entries(answer.keys).map(
        ([of, count]) =>
          `${of}  ${count} of ${answer.members}${answer.primaryKeys[of] === undefined ? "" : `, primary on ${answer.primaryKeys[of]}`}`,
      ),
      ...Object.entries(answer.faults).map(([member, why]) => `${member}: ${why}`),
      ...(action === "list" ? [] : [`${answer.done} of ${answer.members} members did it`]),
    ];
    print(context, answer, lines.map((line) => `${render.safeLine(line)}\n`).join(""));
    return answer.done === answer.members ? exitCodes.fine : exitCodes.failed;
  },
};

/** As it stands, or what a reference names, so that it need not stand in the list of processes. */
function keyOf(context: CommandContext, text: string | undefined): { key?: string } {
  if (text === undefined) return {};
  if (!SECRET_REFERENCE.test(text)) return { key: text };
  const read = readSecret(text, context.env, { bytesMin: 1, bytesMax: 128 });
  if (!(read instanceof Secret))
    throw godwitError("GODWIT_USAGE", `expected a gossip key, found ${read.found}`);
  return { key: read.revealText().trim() };
}

export const remove: CommandModule = {
  async run(context) {
    const [name] = context.args;
    const answer = await ask<{ name: string; status: string }>(context, "remove", {
      name,
      prune: context.isSet("prune"),
    });
    return print(context, answer, `${render.safeLine(answer.name)} is ${answer.status}\n`);
  },
};
