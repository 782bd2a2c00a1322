/** Reading and removing messages: inbox, outbox, message. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Box, MessageView } from "../../view/contract/node.ts";
import { fileReason, godwitError } from "../../kernel/errors.ts";
import { fileNameOf } from "../../kernel/media-type.ts";
import type { ApiClient } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { stateWords } from "../progress.ts";
import * as render from "../render.ts";
import { type Column, type Fact, facts, nodeColumn, spareColumn, stateColumn, table } from "../table-text.ts";

type MessageWithBody = MessageView & { body?: string; body_base64?: string };

const ID = /^[0-9a-f]{32}$/;
/** Characters of an id in lists; as many are enough on the command line when they are unique. */
const ID_SHOWN_CHARS = 10;
const PREFIX_CHARS_MIN = 6;
/** How far back a shortened id is looked for. */
const PREFIX_PAGES_MAX = 20;
const PAGE = 500;

const listOf = (box: Box): CommandModule => ({
  async run(context) {
    const limit = context.option("limit");
    const after = context.option("after");
    const query = new URLSearchParams({ box });
    if (limit !== undefined) query.set("limit", limit);
    if (after !== undefined) query.set("after", after);
    const client = await context.client();
    const answer = await client.call<{ messages: MessageView[]; next: string | null }>(
      "GET",
      `/messages?${query.toString()}`,
    );
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else context.io.stdout(listText(context, box, answer.value, after));
    return exitCodes.fine;
  },
});

export const inbox = listOf("inbox");
export const outbox = listOf("outbox");

function listText(
  { paint }: CommandContext,
  box: Box,
  { messages, next }: { messages: MessageView[]; next: string | null },
  after: string | undefined,
): string {
  if (messages.length === 0)
    return after === undefined
      ? `the ${box} is empty\n`
      : `the ${box} has nothing after ${after} (give the whole id)\n`;
  const rows = messages.map((message) => [
    message.id.slice(0, ID_SHOWN_CHARS),
    paint.moment(message.created_at),
    box === "inbox" ? (message.from_callsign ?? render.short(message.from)) : message.to,
    stateWords(message),
    render.size(message.size),
    ...(box === "outbox" ? [paint.ahead(message.expires_in_seconds ?? null)] : []),
    message.subject ?? fileNameOf(message.content_type) ?? "",
  ]);
  const id: Column = { title: "ID", shorten: (cell) => cell.slice(0, PREFIX_CHARS_MIN) };
  const header = [
    id,
    "SENT",
    box === "inbox" ? "FROM" : "TO",
    stateColumn(),
    spareColumn("SIZE"),
    ...(box === "outbox" ? [spareColumn("EXPIRES")] : []),
    "SUBJECT",
  ];
  const more = next === null ? "" : `more: godwit ${box} --after ${next}\n`;
  return table(header, rows, paint) + more;
}

export const show: CommandModule = {
  async run(context) {
    const client = await context.client();
    const id = await completeId(client, context.args[0]!, ["outbox", "inbox", "transit"]);
    const answer = await client.call<MessageWithBody>("GET", `/messages/${id}`);
    context.io.stdout(context.isJson ? `${answer.text}\n` : messageText(context, answer.value));
    return exitCodes.fine;
  },
};

export const read: CommandModule = {
  async run(context) {
    const isRaw = context.isSet("raw");
    if (isRaw && context.io.isStdoutTty)
      throw godwitError(
        "GODWIT_USAGE",
        "--raw writes what the sender chose, escape sequences too: redirect it, > file",
      );
    const client = await context.client();
    const id = await completeId(client, context.args[0]!, ["inbox", "outbox"]);
    if (isRaw) {
      const response = await client.fetch("GET", `/messages/${id}/body`);
      context.io.stdout(new Uint8Array(await response.arrayBuffer()));
      return exitCodes.fine;
    }
    const answer = await client.call<MessageWithBody>("GET", `/messages/${id}`);
    const folder = context.option("save");
    if (folder !== undefined) return await save(context, client, answer.value, folder);
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else {
      const { from, from_callsign: callsign, created_at: at, subject, content_type } = answer.value;
      const file = fileNameOf(content_type);
      const rows: Fact[] = [
        ["from", callsign === null ? from : render.nodeName(from, callsign)],
        ["sent", context.paint.moment(at)],
      ];
      if (subject !== null) rows.push(["subject", subject]);
      if (file !== undefined) rows.push(["file", file]);
      const head = facts(rows, context.paint);
      context.io.stdout(`${head}\n${await bodyText(client, answer.value)}`);
    }
    return exitCodes.fine;
  },
};

/** Under the name that the sender gave it, or its id; never over a file that is there. */
async function save(
  { io, isJson }: CommandContext,
  client: ApiClient,
  { id, content_type }: MessageView,
  folder: string,
): Promise<number> {
  const path = join(folder, fileNameOf(content_type) ?? id);
  const body = new Uint8Array(await (await client.fetch("GET", `/messages/${id}/body`)).arrayBuffer());
  try {
    await writeFile(path, body, { flag: "wx" });
  } catch (error) {
    const isThere = error instanceof Error && "code" in error && error.code === "EEXIST";
    const why = isThere ? "it is there already; name another folder" : fileReason(error);
    throw godwitError("GODWIT_USAGE", `cannot write ${path}: ${why}`, error);
  }
  io.stdout(isJson ? `${JSON.stringify({ id, path, size: body.length })}\n` : `${render.safeLine(path)}\n`);
  return exitCodes.fine;
}

/** What fits a terminal; larger text is fetched, other bytes are only told of. */
async function bodyText(client: ApiClient, message: MessageWithBody): Promise<string> {
  let text = message.body;
  if (text === undefined && message.body_base64 === undefined && message.content_type.startsWith("text/"))
    text = await (await client.fetch("GET", `/messages/${message.id}/body`)).text();
  if (text === undefined)
    return `(${render.safeLine(message.content_type.split(";")[0]!)}, ${render.size(message.size)}: godwit inbox read ${message.id.slice(0, ID_SHOWN_CHARS)} --save .)\n`;
  const safe = render.safeText(text);
  return safe.endsWith("\n") ? safe : `${safe}\n`;
}

export const remove: CommandModule = {
  async run(context) {
    const client = await context.client();
    for (const text of context.args) {
      const id = await completeId(client, text, ["inbox", "outbox"]);
      const answer = await client.call("DELETE", `/messages/${id}`);
      context.io.stdout(context.isJson ? `${answer.text}\n` : `${id} is gone\n`);
    }
    return exitCodes.fine;
  },
};

function messageText({ paint }: CommandContext, message: MessageWithBody): string {
  const { receipt } = message;
  const where = stateWords(message);
  const proven =
    receipt === null
      ? "none yet"
      : `${render.receiptBy(receipt)} ${paint.moment(receipt.at)}${receipt.unconfirmed ? ", unconfirmed" : ""}`;
  const sealed = {
    true: "forward secret",
    false: "to the identity key: no forward secrecy",
    null: "not yet",
  };
  const text = facts(
    [
      ["id", message.id],
      [
        "from",
        message.from_callsign === null ? message.from : render.nodeName(message.from, message.from_callsign),
      ],
      ["to", message.to],
      ["subject", message.subject ?? "-"],
      ["state", where, /^\w+/.exec(where)![0]],
      ["priority", String(message.priority)],
      ["body", `${render.size(message.size)}, ${message.content_type}`],
      ["created", paint.moment(message.created_at)],
      ...(message.expires_in_seconds == null
        ? []
        : [["expires", paint.ahead(message.expires_in_seconds)] as const]),
      ["delivered", message.delivered_at === null ? "-" : paint.moment(message.delivered_at)],
      ["receipt", proven],
      ["sealed", sealed[`${message.forward_secret}`]],
    ],
    paint,
  );
  const { hops_untraced: untraced } = message;
  const hops = message.trace.map(({ node, callsign, at }) => [
    render.nodeName(node, callsign),
    paint.lag(at, message.created_at),
  ]);
  if (untraced) hops.unshift([untraced === 1 ? "1 hop not traced" : `${untraced} hops not traced`, "-"]);
  return hops.length === 0 ? text : `${text}\n${table([nodeColumn("HOP"), "AT"], hops, paint)}`;
}

/** A whole id as it is; else the one message whose id begins so. */
async function completeId(client: ApiClient, given: string, boxes: readonly Box[]): Promise<string> {
  const text = given.toLowerCase();
  if (ID.test(text)) return text;
  if (!/^[0-9a-f]+$/.test(text) || text.length < PREFIX_CHARS_MIN || text.length > 32)
    throw godwitError(
      "GODWIT_USAGE",
      `"${given.slice(0, 60)}" is no message id: 32 hex digits, or the first ${PREFIX_CHARS_MIN} or more of them`,
    );
  const found = new Set<string>();
  for (const box of boxes) {
    let after: string | null = null;
    for (let page = 0; page < PREFIX_PAGES_MAX; page++) {
      const query = new URLSearchParams({ box, limit: String(PAGE) });
      if (after !== null) query.set("after", after);
      const { value } = await client.call<{ messages: MessageView[]; next: string | null }>(
        "GET",
        `/messages?${query.toString()}`,
      );
      for (const { id } of value.messages) if (id.startsWith(text)) found.add(id);
      after = value.next;
      if (after === null) break;
    }
  }
  const [only] = found;
  if (only === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message id begins with ${text}`);
  if (found.size > 1)
    throw godwitError("GODWIT_USAGE", `${found.size} message ids begin with ${text}; give more of it`);
  return only;
}
