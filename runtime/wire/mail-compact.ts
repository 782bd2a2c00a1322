/**
 * The compact form of a message inside its seal: of the header only what its recipient cannot know. What is left out stands in the recipient's own
 * record, or in what it keeps of the session since the first message of that (`MailContext`). Pure. Must never leave out what the two ends might take
 * for different things: a reference names one value for good, or is none. docs/protocol/delivery.md "The compact form" is normative.
 */
import type { NodeId } from "../kernel/ids.ts";
import { concatBytes, decodeError, Reader, Writer } from "./bytes.ts";
import { readReferences, writeReferences } from "./machine-references.ts";
import {
  ADDRESS_BYTES_MAX,
  CONTENT_TYPE_BYTES_MAX,
  decodeInnerMessage,
  type InnerMessage,
  MACHINES_MAX,
  PlainForm,
  SUBJECT_BYTES_MAX,
} from "./message.ts";
import { STORE_EPOCH_BYTES } from "./peer-messages.ts";

/** What a recipient keeps of the message that a session is kept with. */
export interface MailContext {
  /** 8 bytes. */
  readonly mailEpoch: Uint8Array;
  readonly counter: number;
  /** Sender's wall clock, s since 1970: u32. */
  readonly createdAtS: number;
  /** As addressed. */
  readonly to: string;
}

/** What the recipient of a message knows without being told. */
export interface Implied {
  readonly id: NodeId;
  /** That of every record that names the prekey which the message is sealed to; undefined: they have none. */
  readonly callsign: string | undefined;
  /** Of the session that the message came in, where it was named by what is kept of it. */
  readonly context: MailContext | undefined;
  /** Whom the recipient may take the machines for that such an address means, itself among them; without it there are none. */
  readonly machinesAt?: (address: string) => readonly NodeId[];
}

/** How the address is told: lowest bits of the flags. Append-only. */
export const MailAddress = { context: 0, id: 1, callsign: 2, text: 3 } as const;
/** How the content type is told: bits 4 and 5 of the flags. Append-only. */
export const MailType = { plain: 0, plainUtf8: 1, told: 2 } as const;
/** Content types by number, where they are told; 0: as text. Append-only. */
export const MailTypeNumber = { text: 0, octets: 1, json: 2 } as const;

const ADDRESS_BITS = 0b11;
const NAME = 0x04;
const CREATED = 0x08;
const TYPE_SHIFT = 4;
const TYPE_BITS = 0b11;
const MORE = 0x40;
/** In the second byte, which is there with MORE. */
const MACHINES = 0x01;
const SUBJECT = 0x02;
const REFERENCES = 0x04;
const USUAL_DELAY = 0x08;
const MORE_KNOWN = MACHINES | SUBJECT | REFERENCES | USUAL_DELAY;

/** The failover delay that nothing is told of, ms. */
export const FAILOVER_DELAY_USUAL_MS = 60_000;

const U16_MAX = 0xffff;
const U32_MAX = 0xffff_ffff;
/** Of the time since that of the context. */
const UNIT_S = 2;

const types: Readonly<Record<number, string>> = {
  [MailType.plain]: "text/plain",
  [MailType.plainUtf8]: "text/plain; charset=utf-8",
};
const numberedTypes: Readonly<Record<number, string>> = {
  [MailTypeNumber.octets]: "application/octet-stream",
  [MailTypeNumber.json]: "application/json",
};
const numberIn = (of: Readonly<Record<number, string>>, type: string): number | undefined => {
  const found = Object.entries(of).find(([, name]) => name === type);
  return found === undefined ? undefined : Number(found[0]);
};

/** Undefined: its time is out of what can be said. Its epoch is borrowed. */
export function contextOf({
  mailEpoch,
  counter,
  createdAtMs,
  to,
}: Pick<InnerMessage, "mailEpoch" | "counter" | "createdAtMs" | "to">): MailContext | undefined {
  const createdAtS = Math.floor(createdAtMs / 1_000);
  return createdAtS >= 0 && createdAtS <= U32_MAX ? { mailEpoch, counter, createdAtS, to } : undefined;
}

/** As it is kept, and named in a session (docs/protocol/sealing.md): mail epoch 8 | counter varint | created u32 s | address text. */
export const encodeContext = ({ mailEpoch, counter, createdAtS, to }: MailContext): Uint8Array =>
  new Writer(96).bytes(mailEpoch).varint(counter).u32(createdAtS).text(to).finish();

/** Owned by the caller. Throws GODWIT_DECODE. */
export function decodeContext(bytes: Uint8Array): MailContext {
  const reader = new Reader(bytes);
  return {
    mailEpoch: reader.bytes(STORE_EPOCH_BYTES).slice(),
    counter: reader.varint(),
    createdAtS: reader.u32(),
    to: reader.text(ADDRESS_BYTES_MAX),
  };
}

/**
 * What stands before machines and subject, and says what to leave out: to be kept where the same message may be sealed again, because what is implied changes.
 * `refers`: machines go by references, which their recipient has to know. Undefined: the compact form cannot say it.
 */
export function compactStart(inner: InnerMessage, implied: Implied, refers = false): Uint8Array | undefined {
  const { to, contentType, machines } = inner;
  const own = contextOf(inner);
  if (own === undefined || machines.length > MACHINES_MAX) return undefined;
  const { context } = implied;
  const counted = countedSince(context, own);
  const units = unitsSince(context, own);
  const address =
    to === context?.to
      ? MailAddress.context
      : to === implied.id
        ? MailAddress.id
        : to === implied.callsign
          ? MailAddress.callsign
          : MailAddress.text;
  const type = numberIn(types, contentType) ?? MailType.told;
  const more = moreOf(inner, refers);
  const writer = new Writer(32).u8(
    PlainForm.compact |
      address |
      (counted === undefined ? NAME : 0) |
      (units === undefined ? CREATED : 0) |
      (type << TYPE_SHIFT) |
      (more === 0 ? 0 : MORE),
  );
  if (more !== 0) writer.u8(more);
  if (counted === undefined) writer.bytes(own.mailEpoch).varint(own.counter);
  else writer.varint(counted);
  if (units === undefined) writer.u32(own.createdAtS);
  else writer.u16(units);
  if (address === MailAddress.text) writer.text(to);
  if (type === MailType.told) {
    const number = numberIn(numberedTypes, contentType) ?? MailTypeNumber.text;
    writer.u8(number);
    if (number === MailTypeNumber.text) writer.text(contentType);
  }
  return writer.finish();
}

function moreOf({ machines, failoverDelayMs, subject }: InnerMessage, refers: boolean): number {
  const told = subject === "" ? 0 : SUBJECT;
  if (machines.length === 0) return told;
  if (!refers) return told | MACHINES;
  const isUsual = Math.floor(failoverDelayMs) === FAILOVER_DELAY_USUAL_MS;
  return told | MACHINES | REFERENCES | (isUsual ? USUAL_DELAY : 0);
}

const moreIn = (start: Uint8Array): number => ((start[0]! & MORE) === 0 ? 0 : start[1]!);

/** Of one from `compactStart`. */
export const refersToMachines = (start: Uint8Array): boolean => (moreIn(start) & REFERENCES) !== 0;

/** `start`: of this message, from `compactStart`. */
export function encodeCompact(start: Uint8Array, inner: InnerMessage): Uint8Array {
  const { machines, failoverDelayMs, subject, body } = inner;
  if (machines.length === 0 && subject === "") return concatBytes([start, body]);
  const writer = new Writer(start.length + machines.length * 32 + subject.length + body.length + 16);
  writer.bytes(start);
  if (machines.length > 0) {
    writer.u8(machines.length);
    const more = moreIn(start);
    if ((more & REFERENCES) !== 0) writeReferences(writer, inner, machines);
    else for (const machine of machines) writer.nodeId(machine);
    if ((more & USUAL_DELAY) === 0) writer.varint(Math.floor(failoverDelayMs));
  }
  if (subject !== "") writer.text(subject);
  return writer.bytes(body).finish();
}

/**
 * In either form. `body` shares the memory of `bytes`. Of a compact one the time is rounded down, to a second or to two, and without machines there is
 * no failover delay. Throws GODWIT_DECODE, and so where it refers to what `implied` does not have.
 */
export function decodeMail(bytes: Uint8Array, implied: Implied): InnerMessage {
  const [flags] = bytes;
  if (flags === undefined || flags < PlainForm.compact) return decodeInnerMessage(bytes);
  const reader = new Reader(bytes);
  reader.u8();
  const more = (flags & MORE) === 0 ? 0 : reader.u8();
  const isOdd = (more & MACHINES) === 0 && (more & (REFERENCES | USUAL_DELAY)) !== 0;
  if (((flags & MORE) !== 0 && more === 0) || (more & ~MORE_KNOWN) !== 0 || isOdd)
    throw decodeError(`more flags ${more} of a message are not known`);
  const name =
    (flags & NAME) === 0
      ? nameSince(reader.varint(), implied.context)
      : { mailEpoch: reader.bytes(STORE_EPOCH_BYTES).slice(), counter: reader.varint() };
  const createdAtS =
    (flags & CREATED) === 0 ? needed(implied.context).createdAtS + UNIT_S * reader.u16() : reader.u32();
  const to = addressOf(flags & ADDRESS_BITS, implied) ?? reader.text(ADDRESS_BYTES_MAX);
  const contentType = typeOf((flags >> TYPE_SHIFT) & TYPE_BITS, reader);
  let machines: readonly NodeId[] = [];
  let failoverDelayMs = 0;
  if ((more & MACHINES) !== 0) {
    machines = machinesOf(reader, (more & REFERENCES) !== 0, name, () => implied.machinesAt?.(to) ?? []);
    failoverDelayMs = (more & USUAL_DELAY) === 0 ? reader.varint() : FAILOVER_DELAY_USUAL_MS;
  }
  const subject = (more & SUBJECT) === 0 ? "" : reader.text(SUBJECT_BYTES_MAX);
  const createdAtMs = createdAtS * 1_000;
  return {
    ...name,
    ...{ to, createdAtMs, machines, failoverDelayMs, subject, contentType },
    body: reader.rest(),
  };
}

function machinesOf(
  reader: Reader,
  areReferences: boolean,
  name: Pick<InnerMessage, "mailEpoch" | "counter">,
  known: () => readonly NodeId[],
): NodeId[] {
  const count = reader.u8();
  if (count === 0 || count > MACHINES_MAX)
    throw decodeError(`message sealed to ${count} machines, 1 to ${MACHINES_MAX} are told`);
  if (areReferences) return readReferences(reader, name, count, known());
  return Array.from({ length: count }, () => reader.nodeId());
}

/** Counter since that of the context, to be written as varint: 0, -1, 1, -2, ... are 0, 1, 2, 3. Undefined: it has no part in that. */
function countedSince(context: MailContext | undefined, own: MailContext): number | undefined {
  if (context === undefined || Buffer.compare(context.mailEpoch, own.mailEpoch) !== 0) return undefined;
  const difference = own.counter - context.counter;
  const counted = difference < 0 ? -2 * difference - 1 : 2 * difference;
  return counted <= U32_MAX ? counted : undefined;
}

function nameSince(
  counted: number,
  context: MailContext | undefined,
): Pick<InnerMessage, "mailEpoch" | "counter"> {
  const { mailEpoch, counter } = needed(context);
  const difference = counted % 2 === 0 ? counted / 2 : -(counted + 1) / 2;
  const named = counter + difference;
  if (!Number.isSafeInteger(named) || named < 0) throw decodeError("counter of a message is out of range");
  return { mailEpoch, counter: named };
}

function unitsSince(context: MailContext | undefined, own: MailContext): number | undefined {
  if (context === undefined) return undefined;
  const units = Math.floor((own.createdAtS - context.createdAtS) / UNIT_S);
  return units >= 0 && units <= U16_MAX ? units : undefined;
}

/** Undefined: it follows as text. */
function addressOf(told: number, implied: Implied): string | undefined {
  switch (told) {
    case MailAddress.context:
      return needed(implied.context).to;
    case MailAddress.id:
      return implied.id;
    case MailAddress.callsign:
      if (implied.callsign === undefined)
        throw decodeError("message to the callsign of a record that has none");
      return implied.callsign;
    default:
      return undefined;
  }
}

function typeOf(told: number, reader: Reader): string {
  const usual = types[told];
  if (usual !== undefined) return usual;
  if (told !== MailType.told) throw decodeError(`content type ${told} of a message is not known`);
  const number = reader.u8();
  if (number === MailTypeNumber.text) return reader.text(CONTENT_TYPE_BYTES_MAX);
  const numbered = numberedTypes[number];
  if (numbered === undefined) throw decodeError(`content type number ${number} is not known`);
  return numbered;
}

function needed(context: MailContext | undefined): MailContext {
  if (context === undefined) throw decodeError("message refers to a session of which nothing is kept");
  return context;
}
