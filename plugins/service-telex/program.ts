/**
 * The telex port for programs: one JSON object a line, one line of answer to each, in order. Takes Project Telex's
 * messages; hands out the inbox with acknowledgements. docs/telex.md "Programs" is normative.
 */
import type { IncomingMessage, SentMessage } from "@godwit/sdk";
import type { Item } from "./lines.ts";
import { faultOf, type Session, type SessionDeps } from "./session.ts";
import { type Fault, formatTelegram, isoTime, parseMessageId, readTelegram, toUuid } from "./telegram.ts";

/** Messages handed out and not yet acknowledged. */
export const UNACKED_MAX = 16;
const ECHO_CHARS_MAX = 128;

export class Program implements Session {
  readonly #deps: SessionDeps;
  readonly #unacked = new Set<string>();
  #isReceiving = false;
  #isPushing = false;
  #isPushWanted = false;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
  }

  async handle(item: Item): Promise<void> {
    if (item.kind === "too-long")
      return this.#refuse(null, { code: "GODWIT_TOO_BIG", message: "the line is longer than allowed" });
    if (item.kind !== "line" || item.text.trim() === "") return;
    const value = item.isUtf8 ? parseObject(item.text) : undefined;
    if (value === undefined) {
      const message = item.isUtf8
        ? "Malformed JSON: the line is not a JSON object"
        : "Invalid UTF-8 encoding: the line is not UTF-8";
      return this.#refuse(null, { code: "GODWIT_REQUEST_INVALID", message });
    }
    if ("receive" in value) return this.#receive(value["receive"]);
    if ("ack" in value) return await this.#acknowledge(value["ack"]);
    if ("state" in value) return await this.#tellState(value["state"]);
    await this.#send(value);
  }

  onArrival(): void {
    this.#push();
  }

  onSent(): void {}

  farewell(reason: string): void {
    this.#refuse(undefined, { code: "GODWIT_STOPPED", message: reason });
  }

  async #send(value: Readonly<Record<string, unknown>>): Promise<void> {
    const { mesh, messageMax, count } = this.#deps;
    const given = value["message_id"];
    const messageId = typeof given === "string" ? given.slice(0, ECHO_CHARS_MAX) : null;
    const read = readTelegram(value, messageMax);
    if ("fault" in read) {
      count("refused");
      return this.#refuse(messageId, read.fault);
    }
    try {
      const { id } = await mesh.send(read.message);
      count("accepted");
      this.#answer({ message_id: messageId ?? toUuid(id), status: "accepted", id });
    } catch (error) {
      count("refused");
      this.#refuse(messageId, faultOf(error));
    }
  }

  #receive(wanted: unknown): void {
    if (typeof wanted !== "boolean")
      return this.#refuse(undefined, {
        code: "GODWIT_REQUEST_INVALID",
        message: "receive: expected true or false",
      });
    this.#isReceiving = wanted;
    // Whoever asks again has forgotten what was not acknowledged.
    this.#unacked.clear();
    this.#answer({ status: wanted ? "receiving" : "stopped", messages: this.#deps.mesh.inbox.count });
    this.#push();
  }

  async #acknowledge(text: unknown): Promise<void> {
    const id = typeof text === "string" ? parseMessageId(text) : undefined;
    if (id === undefined)
      return this.#refuse(undefined, {
        code: "GODWIT_REQUEST_INVALID",
        message: "ack: expected the id or message_id of a received message",
      });
    try {
      await this.#deps.mesh.inbox.remove(id);
    } catch (error) {
      const fault = faultOf(error);
      // Acknowledged before, perhaps over a connection that broke: the outcome is what was asked for.
      if (fault.code !== "GODWIT_MESSAGE_UNKNOWN") return this.#refuse(undefined, fault);
    }
    this.#unacked.delete(id);
    this.#answer({ status: "acknowledged", id });
    this.#push();
  }

  async #tellState(text: unknown): Promise<void> {
    const id = typeof text === "string" ? parseMessageId(text) : undefined;
    const sent = id === undefined ? undefined : await this.#deps.mesh.sent(id);
    if (sent === undefined)
      return this.#refuse(undefined, {
        code: "GODWIT_MESSAGE_UNKNOWN",
        message: "state: expected the id of a message that this node sent",
      });
    this.#answer({ status: "state", ...stateOf(sent) });
  }

  /** Hands out the oldest messages that this program has not got yet, up to the window. Never two at once. */
  #push(): void {
    this.#isPushWanted = true;
    if (this.#isPushing || !this.#isReceiving) return;
    this.#isPushing = true;
    void this.#pushAll().finally(() => {
      this.#isPushing = false;
      if (this.#isPushWanted && this.#isReceiving && this.#deps.line.isOpen) this.#push();
    });
  }

  async #pushAll(): Promise<void> {
    const { line, mesh } = this.#deps;
    this.#isPushWanted = false;
    while (this.#isReceiving && line.isOpen) {
      if (line.isBacklogged) await line.drained();
      const next = await this.#next();
      if (next === undefined || !this.#isReceiving || !line.isOpen) return;
      this.#unacked.add(next.id);
      const body = await this.#body(next);
      if (body === "gone") this.#unacked.delete(next.id);
      else if (this.#unacked.has(next.id))
        line.print(formatTelegram(next, mesh.self.callsign ?? mesh.self.id, body));
    }
  }

  async #next(): Promise<IncomingMessage | undefined> {
    const { inbox } = this.#deps.mesh;
    const oldest = await inbox.list({ order: "oldest-first", limit: UNACKED_MAX + 1 });
    // Handed out from the oldest on, so that all of the window is on that page. Somebody else on this node may have removed one: its place is free.
    const here = new Set(oldest.map(({ id }) => id));
    for (const id of this.#unacked) if (!here.has(id)) this.#unacked.delete(id);
    if (this.#unacked.size >= UNACKED_MAX) return undefined;
    return oldest.find(({ id }) => !this.#unacked.has(id));
  }

  async #body({ id, size }: IncomingMessage): Promise<Uint8Array | undefined | "gone"> {
    const { mesh, messageMax } = this.#deps;
    try {
      if (size > messageMax) return (await mesh.inbox.get(id)) === undefined ? "gone" : undefined;
      return await mesh.inbox.body(id);
    } catch {
      return "gone";
    }
  }

  #answer(value: Readonly<Record<string, unknown>>): void {
    this.#deps.line.print(`${JSON.stringify(value)}\n`);
  }

  /** `messageId` null: the line had none; undefined: it was no message. */
  #refuse(messageId: string | null | undefined, { code, message }: Fault): void {
    const of = messageId === undefined ? {} : { message_id: messageId };
    this.#answer({ ...of, status: "error", error: message, code });
  }
}

function stateOf({ id, to, state, reason, receipt }: SentMessage): Record<string, unknown> {
  return {
    id,
    to,
    state,
    reason: reason ?? null,
    receipt:
      receipt === undefined
        ? null
        : {
            by: receipt.byCallsign ?? receipt.by,
            at: isoTime(receipt.atMs),
            proof: receipt.proof,
            signature: receipt.signature ?? null,
          },
  };
}

/** Undefined unless the text is one JSON object. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
