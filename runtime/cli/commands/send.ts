/** `godwit send`: text, a file or standard input to an address; with --wait until the receipt. */
import { closeSync, fstatSync, openSync } from "node:fs";
import { basename } from "node:path";
import type { MessageView, NameView } from "../../view/contract/node.ts";
import { nearest } from "../../config/suggest.ts";
import { sleep } from "../../kernel/clock.ts";
import { fileReason, godwitError } from "../../kernel/errors.ts";
import { withFileName } from "../../kernel/media-type.ts";
import { BODY_BYTES_MAX } from "../../wire/constants.ts";
import { type ApiClient, isNodeAway } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import { Meter, stateWords } from "../progress.ts";
import * as render from "../render.ts";

const POLL_FIRST_MS = 100;
const POLL_CAP_MS = 2_000;
/** A bar that stands still for longer looks broken. */
const POLL_SENDING_MS = 500;
/** A transient message is answered when it left; a full disk takes its time to fail. */
const COMMIT_TIMEOUT_MS = 60_000;
const TEXT = "text/plain; charset=utf-8";
const BINARY = "application/octet-stream";
const FINAL: ReadonlySet<string> = new Set(["delivered", "expired", "refused", "withdrawn"]);

export const send: CommandModule = {
  async run(context) {
    const { body, contentType } = await readBody(context);
    const query = queryOf(context);
    const timeoutMs = durationOf(context, "timeout");
    const client = await context.client();
    const answer = await client.call<{ id: string }>("POST", `/messages?${query.toString()}`, {
      body,
      contentType,
      timeoutMs: COMMIT_TIMEOUT_MS,
    });
    const { id } = answer.value;
    if (!context.isSet("wait")) {
      const became = context.isSet("transient") ? "left this node" : "is queued";
      context.io.stdout(context.isJson ? `${answer.text}\n` : `${id} ${became}\n`);
      if (!context.isJson && !context.isSet("transient")) await sayWhyItWaits(context, client, id);
      return exitCodes.fine;
    }
    if (!context.isJson) context.io.stderr(`${id} is queued\n`);
    const meter = new Meter(context);
    try {
      return await follow(context, client, { id, timeoutMs, meter });
    } finally {
      meter.clear();
    }
  },
};

/** A name that nobody has is no error: who has it may be heard of tomorrow. Whoever mistyped it has to be told. */
async function sayWhyItWaits(context: CommandContext, client: ApiClient, id: string): Promise<void> {
  const view = await client.call<MessageView>("GET", `/messages/${id}`).catch(() => undefined);
  const { state, reason, to = "", expires_in_seconds } = view?.value ?? {};
  if (state !== "queued" || reason?.includes("heard of") !== true) return;
  const names = await client.call<{ names: NameView[] }>("GET", "/mesh/names").catch(() => undefined);
  const near = meantBy(to, names?.value.names.map(({ name }) => name) ?? []);
  const meant = near === undefined ? "`godwit names` shows who is known." : `did you mean ${near}?`;
  const until = expires_in_seconds == null ? "" : ` and expires ${context.paint.ahead(expires_in_seconds)}`;
  context.io.stderr(
    `${render.safeLine(reason)}; ${render.safeLine(meant)} It waits${until}, or \`godwit outbox rm ${id.slice(0, 8)}\` withdraws it\n`,
  );
}

/** A name or a location near to what was written; LONDON may mean LON. */
function meantBy(to: string, names: readonly string[]): string | undefined {
  const known = new Set(names.flatMap((name) => [name, name.split("-")[0]!]));
  const begins = (a: string, b: string) => a.startsWith(b) || b.startsWith(a);
  return nearest(to, known) ?? [...known].find((name) => begins(name, to.toUpperCase().split("-")[0]!));
}

function queryOf(context: CommandContext): URLSearchParams {
  const query = new URLSearchParams({ to: context.args[0]! });
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined) query.set(name, value);
  };
  set("subject", context.option("subject"));
  const priority = context.option("priority");
  if (priority !== undefined && !/^[0-3]$/.test(priority))
    throw godwitError(
      "GODWIT_USAGE",
      `--priority is 0 (most urgent), 1, 2 (unless you say so) or 3, not "${priority}"`,
    );
  set("priority", priority);
  set("idempotency_key", context.option("key"));
  const ttlMs = durationOf(context, "ttl");
  set("ttl_seconds", ttlMs === undefined ? undefined : String(Math.ceil(ttlMs / 1000)));
  if (context.isSet("failover") && context.isSet("no-failover"))
    throw godwitError("GODWIT_USAGE", "--failover and --no-failover exclude each other");
  if (context.isSet("failover")) query.set("failover", "true");
  if (context.isSet("no-failover")) query.set("failover", "false");
  if (context.isSet("transient")) query.set("transient", "true");
  return query;
}

async function readBody(context: CommandContext): Promise<{ body: Uint8Array; contentType: string }> {
  const { io, args } = context;
  const [node, ...words] = args as [string, ...string[]];
  const file = context.option("file");
  if (file !== undefined && words.length > 0)
    throw godwitError("GODWIT_USAGE", "give either a text or --file");
  const chosen = context.option("content-type");
  if (file !== undefined && file !== "-") {
    const body = await readFile(file, node);
    // A name without an ending says nothing; what can be read may be read.
    const named = Bun.file(file).type || BINARY;
    const type = named === BINARY && isUtf8(body) ? TEXT : named;
    return { body, contentType: chosen ?? withFileName(type, basename(file)) };
  }
  if (file === "-" || (words.length === 1 && words[0] === "-") || (words.length === 0 && !io.isStdinTty)) {
    const body = await readStdin(io.stdin(), node);
    return { body, contentType: chosen ?? (isUtf8(body) ? TEXT : BINARY) };
  }
  if (words.length === 0)
    throw godwitError("GODWIT_USAGE", "nothing to send: give a text, - for standard input, or --file PATH");
  return { body: new TextEncoder().encode(words.join(" ")), contentType: chosen ?? TEXT };
}

async function readFile(path: string, node: string): Promise<Uint8Array> {
  let handle: number;
  try {
    handle = openSync(path, "r");
  } catch (error) {
    throw godwitError("GODWIT_USAGE", `cannot read ${path}: ${fileReason(error)}`, error);
  }
  try {
    const stat = fstatSync(handle);
    if (stat.isDirectory()) throw godwitError("GODWIT_USAGE", `${path} is a directory; send a file`);
    if (stat.size > BODY_BYTES_MAX) throw tooBig(node, stat.size, path);
    return await Bun.file(handle).bytes();
  } finally {
    closeSync(handle);
  }
}

async function readStdin(stdin: AsyncIterable<Uint8Array>, node: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stdin) {
    total += chunk.length;
    if (total > BODY_BYTES_MAX) throw tooBig(node);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** With the ways that there are. */
function tooBig(node: string, bytes?: number, path = "FILE") {
  const has = bytes === undefined ? "this is more" : `${path} has ${render.size(bytes)}`;
  return godwitError(
    "GODWIT_TOO_BIG",
    `a message carries at most ${render.size(BODY_BYTES_MAX)}, ${has}\n` +
      `  in parts:  split -b 16M ${path} part. && for part in part.*; do godwit send ${node} --file $part; done\n` +
      `             and there: cat part.* > ${path === "FILE" ? path : basename(path)}\n` +
      `  or with any tool that copies, through a port: godwit forward 127.0.0.1:2222 ${node} 127.0.0.1:22\n` +
      `             and then: rsync -e "ssh -p 2222" ${path} 127.0.0.1:`,
  );
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Polls, because that also survives a restart of the node in between; a local socket makes it cheap. */
async function follow(
  context: CommandContext,
  client: ApiClient,
  { id, timeoutMs, meter }: { id: string; timeoutMs: number | undefined; meter: Meter },
): Promise<number> {
  const { io } = context;
  const startedMs = io.clock.monotonicMs();
  let pauseMs = POLL_FIRST_MS;
  let told = "";
  let isSending = false;
  for (;;) {
    const answer = await lookAt(client, id);
    if (answer !== undefined) {
      const { state, progress } = answer.value;
      const line = stateWords(answer.value);
      if (FINAL.has(state)) {
        meter.clear();
        io.stdout(context.isJson ? `${answer.text}\n` : endText(context, answer.value, line));
        return state === "delivered" ? exitCodes.fine : exitCodes.failed;
      }
      isSending = progress != null;
      if (progress != null) meter.show(progress);
      // That it is queued was said when it was accepted.
      else if (line !== (told || "queued")) meter.line(line);
      if (isSending) pauseMs = Math.min(pauseMs, POLL_SENDING_MS);
      told = line;
    }
    if (timeoutMs !== undefined && io.clock.monotonicMs() - startedMs >= timeoutMs) {
      const onward = isSending ? "it goes on" : "it stays queued";
      throw godwitError(
        "GODWIT_TIMEOUT",
        `${id} is not delivered yet (${told || "the node does not answer"}); ${onward}: godwit message ${id}`,
      );
    }
    await sleep(io.clock, pauseMs, io.signal);
    pauseMs = Math.min(POLL_CAP_MS, pauseMs * 1.5);
  }
}

/** Undefined while the node is away: the message is durable, so waiting goes on. */
async function lookAt(client: ApiClient, id: string) {
  try {
    return await client.call<MessageView>("GET", `/messages/${id}`);
  } catch (error) {
    if (isNodeAway(error)) return undefined;
    throw error;
  }
}

function endText({ paint }: CommandContext, message: MessageView, line: string): string {
  if (message.state !== "delivered") return `${paint.bad(render.safeLine(line))}\n`;
  const { receipt, trace } = message;
  const by = receipt === null ? "" : ` with a receipt ${render.receiptBy(receipt)}`;
  const path = trace.map(({ node, callsign }) => callsign ?? render.short(node)).join(" -> ");
  return `${paint.good("delivered")}${render.safeLine(by)}${path === "" ? "" : `\n${render.safeLine(path)}`}\n`;
}
