/** What an operator asks of a running instance (`godwit serf`). */
import { GodwitError, type PluginContext } from "@godwit/sdk";
import { z } from "zod/mini";
import type { Agent } from "./agent.ts";
import { keyOutcome, QUERY_NAMES } from "./serf/keys.ts";
import { INTERNAL_PREFIX } from "./serf/serf.ts";
import { parseKey } from "./wire/keyring.ts";
import { decodeTags, encodeKeyRequest } from "./wire/serf-messages.ts";
import { NAME_BYTES_MAX } from "./wire/types.ts";

/** A request has 30 s in all. */
const TIMEOUT_MS_MAX = 25_000;
const KEY_TIMEOUT_MS = 5_000;

const name = z.string().check(z.minLength(1), z.maxLength(NAME_BYTES_MAX));
const payload = z._default(z.base64().check(z.maxLength(1_400)), "");
const schemas = {
  event: z.strictObject({ name, payload, coalesce: z._default(z.boolean(), true) }),
  query: z.strictObject({
    name,
    payload,
    nodes: z._default(z.array(name).check(z.maxLength(64)), []),
    tags: z._default(z.record(name, z.string().check(z.maxLength(256))), {}),
    relay: z._default(z.int().check(z.minimum(0), z.maximum(8)), 0),
    timeout_ms: z.optional(z.int().check(z.minimum(10), z.maximum(TIMEOUT_MS_MAX))),
  }),
  keys: z.strictObject({
    action: z.enum(["list", "install", "use", "remove"]),
    key: z.optional(z.string().check(z.maxLength(64))),
  }),
  remove: z.strictObject({ name, prune: z._default(z.boolean(), false) }),
};

const refused = (message: string): GodwitError =>
  new GodwitError("GODWIT_REQUEST_INVALID", message, { kind: "protocol" });

function parsed<T>(schema: z.ZodMiniType<T>, input: unknown): T {
  const result = schema.safeParse(input ?? {});
  if (result.success) return result.data;
  const [first] = result.error.issues;
  throw refused(`${first?.path.join(".") ?? "the request"}: ${first?.message ?? "is none"}`);
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
/** As it stands where it is text, else in hexadecimal digits. */
function shown(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return `0x${Buffer.from(bytes).toString("hex")}`;
  }
}

/** `agent`: the one that runs now; undefined: it does not listen yet. */
export function answerRequests(ctx: PluginContext, agent: () => Agent | undefined): void {
  ctx.onRequest(async (request, input) => {
    const running = agent();
    if (running === undefined)
      throw new GodwitError(
        "GODWIT_PLUGIN_FAILED",
        "this instance does not listen yet: see godwit plugin list --running",
        {
          kind: "plugin",
          retry: "later",
        },
      );
    switch (request) {
      case "members":
        return membersOf(running);
      case "events":
        return running.events.map(({ atMs, event }) => ({
          at_ms: atMs,
          name: event.name,
          payload: base64(event.payload),
          text: shown(event.payload),
          ltime: event.ltime,
        }));
      case "event": {
        const { name: of, payload: body, coalesce } = parsed(schemas.event, input);
        sendEvent(running, of, Buffer.from(body, "base64"), coalesce);
        return { name: of };
      }
      case "query":
        return await query(running, parsed(schemas.query, input));
      case "keys":
        return await keys(running, parsed(schemas.keys, input));
      case "remove":
        return remove(running, parsed(schemas.remove, input));
      default:
        throw refused(`it knows no request "${request}": members, event, events, query, keys, remove`);
    }
  });
}

function membersOf({ serf, hints, listening }: Agent): object {
  const { members } = serf.memberlist;
  const rows = [...serf.roll].map((entry) => {
    const standing = hints.standingOf(entry.name);
    return {
      name: entry.name,
      address: entry.at.address,
      port: entry.at.port,
      status: entry.status,
      tags: Object.fromEntries(decodeTags(entry.meta)),
      node: standing?.claim?.id ?? null,
      endpoints: standing?.hints ?? [],
      why: standing?.why ?? null,
    };
  });
  return {
    name: members.self.name,
    port: listening.port,
    health: serf.memberlist.health,
    clocks: serf.clocks,
    members: rows.sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

function sendEvent({ serf }: Agent, of: string, body: Uint8Array, canCoalesce: boolean): void {
  try {
    serf.sendEvent(of, body, canCoalesce);
  } catch (error) {
    throw refused(error instanceof Error ? error.message : String(error));
  }
}

async function query({ serf }: Agent, asked: z.infer<typeof schemas.query>): Promise<object> {
  if (asked.name.startsWith(INTERNAL_PREFIX))
    throw refused(`names that begin with ${INTERNAL_PREFIX} are Serf's own: for keys see godwit serf keys`);
  try {
    const { acks, answers } = await serf.queries.ask(asked.name, Buffer.from(asked.payload, "base64"), {
      nodes: asked.nodes,
      tags: new Map(Object.entries(asked.tags)),
      wantsAck: true,
      relayFactor: asked.relay,
      timeoutMs: asked.timeout_ms ?? serf.queryTimeoutMs,
    });
    const shownAnswers = answers.map(({ from, payload: bytes }) => ({
      from,
      payload: base64(bytes),
      text: shown(bytes),
    }));
    return { acks, answers: shownAnswers };
  } catch (error) {
    throw refused(error instanceof Error ? error.message : String(error));
  }
}

async function keys({ serf }: Agent, asked: z.infer<typeof schemas.keys>): Promise<object> {
  const key = asked.key === undefined ? undefined : parseKey(asked.key);
  if (asked.action !== "list" && key === undefined)
    throw refused("expected a key of 16, 24 or 32 bytes in base64, as serf keygen prints it");
  const expected = serf.memberlist.members.liveCount;
  const outcome = keyOutcome(
    await serf.queries.ask(QUERY_NAMES[asked.action], encodeKeyRequest(key ?? new Uint8Array(0)), {
      timeoutMs: Math.max(KEY_TIMEOUT_MS, serf.queryTimeoutMs),
      expected,
    }),
  );
  return { members: expected, ...outcome };
}

function remove({ serf }: Agent, { name: of, prune }: z.infer<typeof schemas.remove>): object {
  const entry = serf.roll.get(of);
  if (entry === undefined)
    throw new GodwitError("GODWIT_NOT_FOUND", `no member is called "${of}"`, { kind: "protocol" });
  if (entry.status === "alive") throw refused(`${of} is alive: only who failed or left can be removed`);
  serf.remove(of, prune);
  return { name: of, status: serf.roll.get(of)?.status ?? "forgotten" };
}
