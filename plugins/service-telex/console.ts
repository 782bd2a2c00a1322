/**
 * The telex port for people with `telnet`, `nc` or a teletype: commands, a message typed to its end mark, notes between
 * commands. Owns what one person sees; never prints what another wrote without making it safe. docs/telex.md "People".
 */
import { BoundedMap, BoundedSet, type IncomingMessage, type SentMessage } from "@godwit/sdk";
import type { Item } from "./lines.ts";
import { NOTE, Printer, safeLine, safeLines } from "./printer.ts";
import { answerback, type Arrival, faultOf, type Session, type SessionDeps } from "./session.ts";
import { isAddress, isoTime, parseMessageId, toMeshAddress } from "./telegram.ts";

const PAGE = 20;
/** Notes that wait while something is typed; more are only counted. */
export const NOTES_MAX = 32;
/** Messages of this session whose end is told. */
export const FOLLOWED_MAX = 256;
const NUMBERS_MAX = 1_000;
/** Bytes a line costs beside its text, so that a message of empty lines is bounded too. */
const LINE_END_BYTES = 1;
/** Lines of a draft kept apart. */
const DRAFT_LINES_MAX = 256;

const HELP = [
  "who                 who am I: callsign, location, id (also: WHO AM I)",
  "stations            who was heard of, and how far they are",
  "send ADDR TEXT      send one line",
  "send ADDR           then the text, ended by a line NNNN or a single dot;",
  "                    a line EEEE drops it. ADDR: DUN-A, DUNA, DUN or an id",
  "inbox [more]        messages for this node, newest first",
  "read N              one of them (N from inbox, or its id)",
  "delete N            remove it for good",
  "status [ID]         this node, or what became of a message",
  "live on|off         show what comes between commands (on)",
  "width 69 on|off     69 columns in upper case, for a teletype",
  "help, quit",
];

interface Draft {
  readonly to: string;
  lines: string[];
  bytes: number;
  isTooLong: boolean;
}

export class Console implements Session {
  readonly #deps: SessionDeps;
  readonly #printer = new Printer();
  readonly #followed = new BoundedSet<string>({ name: "followed messages", max: FOLLOWED_MAX });
  readonly #notes: (readonly string[])[] = [];
  #notesLost = 0;
  /** Numbers are this session's names for messages of the inbox. */
  readonly #numbers = new BoundedMap<number, string>({ name: "numbers of messages", max: NUMBERS_MAX });
  #nextNumber = 1;
  #listedTo: string | undefined;
  #draft: Draft | undefined;
  #isLive = true;
  #isBusy = false;
  #isAtPrompt = false;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
  }

  greet(): void {
    const { self, inbox } = this.#deps.mesh;
    this.#print([
      `GODWIT ${self.version} TELEX, NETWORK ${safeLine(self.network).toUpperCase()}`,
      answerback(this.#deps.mesh),
      `${inbox.count} in the inbox; help lists what can be done`,
    ]);
    this.#prompt();
  }

  /** A line that begins with a brace belongs to a message then, not to a program. */
  get isComposing(): boolean {
    return this.#draft !== undefined;
  }

  async handle(item: Item): Promise<void> {
    this.#isBusy = true;
    this.#isAtPrompt = false;
    try {
      await this.#handle(item);
    } catch (error) {
      const { code, message } = faultOf(error);
      this.#print([`${NOTE} ${safeLine(message)} (${code})`]);
    } finally {
      this.#isBusy = false;
    }
    if (this.#draft === undefined && this.#deps.line.isOpen) {
      this.#flushNotes();
      this.#prompt();
    }
  }

  onArrival({ message, text }: Arrival): void {
    if (!this.#isLive) return;
    const number = this.#numberOf(message.id);
    const lines = text === undefined ? [`(${message.size} bytes; read ${number})`] : safeLines(text);
    this.#note([`${NOTE} message ${number} from ${senderOf(message)}${subjectOf(message)}`, ...lines]);
  }

  onSent(message: SentMessage): void {
    if (!this.#followed.has(message.id)) return;
    const end = endOf(message);
    if (end === undefined) return;
    this.#followed.delete(message.id);
    this.#note([`${NOTE} ${end}`]);
  }

  farewell(reason: string): void {
    this.#print([...(this.#isAtPrompt ? [""] : []), `${NOTE} ${reason}`]);
  }

  async #handle(item: Item): Promise<void> {
    switch (item.kind) {
      case "who":
        return this.#print([answerback(this.#deps.mesh)]);
      case "interrupt":
        if (this.#draft !== undefined) return this.#drop();
        return this.#print([""]);
      case "end":
        if (this.#draft === undefined) this.#quit();
        return;
      case "too-long":
        if (this.#draft === undefined) return this.#print([`${NOTE} that line was too long`]);
        this.#draft.isTooLong = true;
        return;
      case "line":
        return this.#draft === undefined ? await this.#command(item.text) : await this.#compose(item.text);
    }
  }

  async #command(line: string): Promise<void> {
    const [, word = "", rest = ""] = /^\s*(\S*)\s*(.*?)\s*$/s.exec(line) ?? [];
    switch (word.toLowerCase()) {
      case "":
        return;
      case "who":
      case "whoami":
      case "wru":
        return this.#who();
      case "stations":
        return this.#stations();
      case "send":
        return await this.#send(rest);
      case "inbox":
        return await this.#inbox(rest.toLowerCase());
      case "read":
        return await this.#read(rest);
      case "delete":
        return await this.#delete(rest);
      case "status":
        return await this.#status(rest);
      case "live":
        this.#isLive = this.#switch(rest, this.#isLive) ?? this.#isLive;
        return this.#print([this.#isLive ? "live: what comes is shown" : "live off: see inbox"]);
      case "width":
        return this.#width(rest);
      case "help":
      case "?":
        return this.#print(HELP);
      case "quit":
      case "exit":
      case "bye":
        return this.#quit();
      default:
        return this.#print([`${NOTE} there is no command "${safeLine(word.slice(0, 40))}"; try help`]);
    }
  }

  #who(): void {
    const { self } = this.#deps.mesh;
    this.#print([
      answerback(this.#deps.mesh),
      `callsign ${self.callsign ?? "none"}, location ${self.location ?? "none"}`,
      `id ${self.id}`,
    ]);
  }

  #stations(): void {
    const stations = this.#deps.mesh.stations();
    if (stations.length === 0) return this.#print(["nobody was heard of yet"]);
    this.#print(
      stations.map(({ callsign, id, isReachable, costMs, via }) => {
        const name = safeLine(callsign ?? id).padEnd(17);
        if (!isReachable) return `${name} not reachable now`;
        const way =
          via?.id === id ? "direct" : `via ${safeLine(via?.callsign ?? via?.id.slice(0, 10) ?? "?")}`;
        return `${name} reachable  ${way}  ${(costMs ?? 0).toFixed(1)} ms`;
      }),
    );
  }

  async #send(rest: string): Promise<void> {
    const [, address = "", text = ""] = /^(\S*)\s*(.*)$/s.exec(rest) ?? [];
    if (!isAddress(address))
      return this.#print([
        `${NOTE} ${address === "" ? "send to whom?" : "that is no address:"} DUN-A, DUNA, DUN or a node id`,
      ]);
    const to = toMeshAddress(address);
    if (text !== "") return await this.#submit(to, text);
    this.#draft = { to, lines: [], bytes: 0, isTooLong: false };
    this.#print([`text for ${safeLine(to).toUpperCase()}; end with NNNN or a single dot, EEEE drops it`]);
  }

  async #compose(line: string): Promise<void> {
    const draft = this.#draft!;
    const mark = line.trim().toUpperCase();
    if (mark === "EEEE") return this.#drop();
    if (mark === "NNNN" || mark === ".") {
      this.#draft = undefined;
      if (draft.isTooLong) return this.#print([`${NOTE} not sent: more than ${this.#deps.messageMax} bytes`]);
      if (draft.lines.every((one) => one.trim() === "")) return this.#print([`${NOTE} nothing to send`]);
      return await this.#submit(draft.to, draft.lines.join("\n"));
    }
    // Two dots stand for one, so that a line of a single dot can be sent.
    const text = mark === ".." ? "." : line;
    draft.bytes += Buffer.byteLength(text) + LINE_END_BYTES;
    // What is too long is still read to its end, or the rest of it would be taken for commands.
    if (draft.bytes - LINE_END_BYTES > this.#deps.messageMax) {
      draft.isTooLong = true;
      draft.lines.length = 0;
    }
    if (draft.isTooLong) return;
    draft.lines.push(text);
    // Tens of thousands of short strings would cost many times what they say.
    if (draft.lines.length > DRAFT_LINES_MAX) draft.lines = [draft.lines.join("\n")];
  }

  #drop(): void {
    this.#draft = undefined;
    this.#print([`${NOTE} dropped, nothing was sent`]);
  }

  async #submit(to: string, text: string): Promise<void> {
    const { mesh, count, messageMax } = this.#deps;
    const body = new TextEncoder().encode(text);
    if (body.length > messageMax) return this.#print([`${NOTE} not sent: more than ${messageMax} bytes`]);
    let id: string;
    try {
      ({ id } = await mesh.send({ to, body, contentType: "text/plain; charset=utf-8" }));
    } catch (error) {
      count("refused");
      const { code, message } = faultOf(error);
      return this.#print([`${NOTE} not accepted: ${safeLine(message)} (${code})`]);
    }
    count("accepted");
    this.#print([`accepted ${id}`]);
    this.#followed.add(id);
    // It may have been delivered before its id was known here.
    const sent = await mesh.sent(id);
    if (sent !== undefined) this.onSent(sent);
  }

  async #inbox(what: string): Promise<void> {
    const { inbox } = this.#deps.mesh;
    const after = what === "more" ? this.#listedTo : undefined;
    const page = await inbox.list({
      order: "newest-first",
      limit: PAGE,
      ...(after === undefined ? {} : { after }),
    });
    if (page.length === 0) return this.#print([after === undefined ? "the inbox is empty" : "no more"]);
    this.#listedTo = page.at(-1)!.id;
    this.#print([
      ...page.map((message) => {
        const number = String(this.#numberOf(message.id)).padStart(4);
        const at = isoTime(message.deliveredAtMs).slice(0, 16).replace("T", " ");
        return `${number}  ${at}Z  ${senderOf(message).padEnd(10)} ${message.size} B${subjectOf(message)}`;
      }),
      `${page.length} of ${inbox.count}`,
    ]);
  }

  async #read(text: string): Promise<void> {
    const message = await this.#find(text);
    if (message === undefined) return this.#print([`${NOTE} no such message; see inbox`]);
    const { mesh, messageMax } = this.#deps;
    const head = [
      `ZCZC ${message.id}`,
      `FROM ${senderOf(message)} TO ${safeLine(message.to)}${subjectOf(message)}`,
      `SENT ${isoTime(message.createdAtMs)} BY ${wayOf(message)}`,
      "",
    ];
    if (message.size > messageMax) {
      const advice = `(${message.size} bytes: too long for here; godwit inbox read ${message.id})`;
      return this.#print([...head, advice, "NNNN"]);
    }
    const shown = textOf(await mesh.inbox.body(message.id)) ?? `(${message.size} bytes that are no text)`;
    this.#print([...head, ...safeLines(shown), "NNNN"]);
  }

  async #delete(text: string): Promise<void> {
    const message = await this.#find(text);
    if (message === undefined) return this.#print([`${NOTE} no such message; see inbox`]);
    await this.#deps.mesh.inbox.remove(message.id);
    this.#print([`deleted ${message.id}`]);
  }

  async #status(text: string): Promise<void> {
    const { mesh } = this.#deps;
    if (text !== "") {
      const id = parseMessageId(text);
      const sent = id === undefined ? undefined : await mesh.sent(id);
      if (sent === undefined) return this.#print([`${NOTE} this node sent no message with that id`]);
      const why = sent.reason === undefined ? "" : `: ${safeLine(sent.reason)}`;
      return this.#print([endOf(sent) ?? `${sent.state} ${sent.id} to ${safeLine(sent.to)}${why}`]);
    }
    const stations = mesh.stations();
    const reachable = stations.filter(({ isReachable }) => isReachable).length;
    this.#print([
      `${answerback(mesh)}, network ${safeLine(mesh.self.network)}, godwit ${mesh.self.version}`,
      `stations ${reachable} of ${stations.length} reachable, ${mesh.inbox.count} in the inbox`,
      `live ${this.#isLive ? "on" : "off"}, width 69 ${this.#printer.isTeletype ? "on" : "off"}`,
    ]);
  }

  #width(rest: string): void {
    const isOn = this.#switch(rest.replace(/^69\s*/, ""), this.#printer.isTeletype);
    if (isOn === undefined || (/^\d/.test(rest) && !/^69\b/.test(rest)))
      return this.#print([`${NOTE} width 69 on, or width 69 off`]);
    this.#printer.isTeletype = isOn;
    this.#print([isOn ? "width 69 on" : "width 69 off"]);
  }

  /** Nothing said: on. */
  #switch(text: string, _is: boolean): boolean | undefined {
    const word = text.trim().toLowerCase();
    return word === "" || word === "on" ? true : word === "off" ? false : undefined;
  }

  #quit(): void {
    this.#print(["goodbye"]);
    this.#deps.line.hangUp();
  }

  async #find(text: string): Promise<IncomingMessage | undefined> {
    const { inbox } = this.#deps.mesh;
    const number = /^\d{1,4}$/.test(text) ? this.#numbers.get(Number(text)) : undefined;
    const id = number ?? parseMessageId(text);
    return id === undefined ? undefined : await inbox.get(id);
  }

  /** A message keeps its number as long as this session remembers it. */
  #numberOf(id: string): number {
    for (const [number, known] of this.#numbers) if (known === id) return number;
    const number = this.#nextNumber;
    this.#nextNumber = (number % 9_999) + 1;
    this.#numbers.renew(number, id);
    return number;
  }

  /** Shown at once between commands, else when the command or the message is finished. */
  #note(lines: readonly string[]): void {
    const { line } = this.#deps;
    if (this.#notes.length >= NOTES_MAX) this.#notesLost++;
    else this.#notes.push(lines);
    if (this.#isBusy || this.#draft !== undefined || line.isTyping || line.isBacklogged) return;
    if (this.#isAtPrompt) this.#print([""]);
    this.#flushNotes();
    this.#prompt();
  }

  #flushNotes(): void {
    for (const lines of this.#notes.splice(0)) this.#print(lines);
    if (this.#notesLost > 0) this.#print([`${NOTE} and ${this.#notesLost} more; see inbox`]);
    this.#notesLost = 0;
  }

  #prompt(): void {
    const { self } = this.#deps.mesh;
    this.#deps.line.print(this.#printer.prompt(`${self.callsign ?? self.id.slice(0, 10)}> `));
    this.#isAtPrompt = true;
  }

  #print(lines: readonly string[]): void {
    this.#deps.line.print(this.#printer.format(lines));
  }
}

const wayOf = ({ trace, hopsUntraced }: IncomingMessage): string => {
  const untraced = hopsUntraced === 0 ? [] : [`(${hopsUntraced} NOT TRACED)`];
  return [...untraced, ...trace.map((hop) => safeLine(hop.callsign ?? hop.id.slice(0, 10)))].join(" > ");
};

const senderOf = ({ fromCallsign, from }: IncomingMessage): string =>
  safeLine(fromCallsign ?? from.slice(0, 10));

const subjectOf = ({ subject }: IncomingMessage): string =>
  subject === "" ? "" : `: ${safeLine(subject.slice(0, 200))}`;

/** Undefined while a message is still on its way. */
function endOf({ id, state, reason, receipt }: SentMessage): string | undefined {
  if (state === "queued" || state === "relayed") return undefined;
  if (state !== "delivered" || receipt === undefined)
    return `${state} ${id}${reason === undefined ? "" : `: ${safeLine(reason)}`}`;
  const by = safeLine(receipt.byCallsign ?? receipt.by.slice(0, 10));
  const way = receipt.trace.map((hop) => safeLine(hop.callsign ?? hop.id.slice(0, 10))).join(" > ");
  const proof =
    receipt.signature?.slice(0, 32) ??
    `proven by ${receipt.proof === "session" ? "its session" : "nothing any more"}`;
  return `delivered ${id} by ${by} at ${isoTime(receipt.atMs)}${way === "" ? "" : `, ${way}`}, receipt ${proof}`;
}

/** Undefined for what is not UTF-8. */
export function textOf(body: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    return undefined;
  }
}
