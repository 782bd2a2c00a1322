/** The compact header against a decoder that is written from docs/protocol/delivery.md alone, as plainly as can be, and shares nothing with the code. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId, type NodeId, nodeIdBytes } from "../kernel/ids.ts";
import {
  compactStart,
  contextOf,
  decodeContext,
  decodeMail,
  encodeCompact,
  encodeContext,
  type Implied,
} from "./mail-compact.ts";
import { encodeInnerMessage, type InnerMessage } from "./message.ts";

/** Undefined: malformed. */
function reference(bytes: Uint8Array, implied: Implied): InnerMessage | undefined {
  let at = 0;
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw new Error("short");
    return Buffer.from(bytes.subarray(at, (at += length)));
  };
  const byte = (): number => take(1)[0]!;
  const varint = (): number => {
    const read: number[] = [];
    do read.push(byte());
    while (read.at(-1)! >= 128 && read.length < 8);
    if (read.at(-1)! >= 128 || (read.length > 1 && read.at(-1) === 0)) throw new Error("varint");
    const value = read.reduceRight((sum, one) => sum * 128n + BigInt(one & 127), 0n);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error("varint");
    return Number(value);
  };
  const text = (max: number): string => {
    const length = varint();
    if (length > max) throw new Error("long");
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(take(length));
  };
  const context = () => implied.context ?? undefinedContext();
  const undefinedContext = (): never => {
    throw new Error("no context");
  };
  try {
    const bits = byte().toString(2).padStart(8, "0");
    if (bits[0] !== "1") return undefined;
    const more = bits[1] === "1" ? byte() : 0;
    if ((bits[1] === "1" && more === 0) || more > 15) return undefined;
    const [isDelayUsual, isReferred, hasSubject, hasMachines] = more.toString(2).padStart(4, "0");
    if (hasMachines === "0" && (isDelayUsual === "1" || isReferred === "1")) return undefined;
    let [mailEpoch, counter]: [Uint8Array, number] = [new Uint8Array(0), 0];
    if (bits[5] === "1") [mailEpoch, counter] = [new Uint8Array(take(8)), varint()];
    else {
      const since = varint();
      const { counter: from, mailEpoch: epoch } = context();
      [mailEpoch, counter] = [epoch, since % 2 === 1 ? from - (since + 1) / 2 : from + since / 2];
      if (counter < 0 || counter > Number.MAX_SAFE_INTEGER) return undefined;
    }
    const createdAtS =
      bits[4] === "1" ? take(4).readUInt32BE() : context().createdAtS + 2 * take(2).readUInt16BE();
    const address = Number.parseInt(bits.slice(6), 2);
    const to = [() => context().to, () => implied.id, () => implied.callsign, () => text(64)][address]!();
    if (to === undefined) return undefined;
    const type = Number.parseInt(bits.slice(2, 4), 2);
    let contentType: string | undefined = ["text/plain", "text/plain; charset=utf-8"][type];
    if (type === 3) return undefined;
    if (type === 2) {
      const number = byte();
      contentType = number === 0 ? text(255) : ["application/octet-stream", "application/json"][number - 1];
    }
    if (contentType === undefined) return undefined;
    const machines: InnerMessage["machines"][number][] = [];
    let failoverDelayMs = 0;
    if (hasMachines === "1") {
      const count = byte();
      if (count < 1 || count > 16) return undefined;
      if (isReferred === "1") {
        const told = Array.from({ length: count }, () => take(2).toString("hex"));
        const check = take(4).toString("hex");
        const known = implied.machinesAt?.(to) ?? [];
        const hex = (nodes: readonly NodeId[]) => {
          const hash = createHash("sha256").update("\x0egodwit machine").update(mailEpoch);
          hash.update(varintOf(counter));
          for (const one of nodes) hash.update(nodeIdBytes(one));
          return hash.digest("hex");
        };
        const lists = told.reduce<NodeId[][]>(
          (before, short) =>
            before.flatMap((list) =>
              known.filter((one) => hex([one]).startsWith(short)).map((one) => [...list, one]),
            ),
          [[]],
        );
        const meant = lists.find((list) => hex(list).startsWith(check));
        if (meant === undefined) return undefined;
        machines.push(...meant);
      } else for (let n = 0; n < count; n++) machines.push(formatNodeId(new Uint8Array(take(32))));
      failoverDelayMs = isDelayUsual === "1" ? 60_000 : varint();
    }
    const subject = hasSubject === "1" ? text(1_024) : "";
    const rest = new Uint8Array(take(bytes.length - at));
    const createdAtMs = createdAtS * 1_000;
    return {
      mailEpoch,
      counter,
      to,
      createdAtMs,
      machines,
      failoverDelayMs,
      subject,
      contentType,
      body: rest,
    };
  } catch {
    return undefined;
  }
}

/** As the page says. */
function varintOf(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest < 128 ? rest : (rest % 128) + 128);
    if (rest < 128) return Buffer.from(bytes);
  }
}

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const node = bytesOf(32).map((bytes) =>
  formatNodeId(Uint8Array.from(bytes, (byte, at) => (at === 31 ? byte & 127 : byte))),
);
const [pool] = fc.sample(fc.array(node, { minLength: 20, maxLength: 20 }), { numRuns: 1, seed: 3 });
const epochs = [new Uint8Array(8).fill(1), new Uint8Array(8).fill(2)] as const;
const self = formatNodeId(new Uint8Array(32).fill(7));
const counter = fc.oneof(fc.nat({ max: 70_000 }), fc.nat({ max: Number.MAX_SAFE_INTEGER }));
const createdAtS = fc.oneof(
  fc.integer({ min: 1_800_000_000, max: 1_800_140_000 }),
  fc.nat({ max: 0xffff_ffff }),
);
const to = fc.constantFrom<string>(self, "LON-B", "LON-C", "LON", "ü ,\u0000");

const implied: fc.Arbitrary<Implied> = fc.record({
  id: fc.constant(self),
  callsign: fc.constantFrom("LON-B", undefined),
  machinesAt: fc.constant(() => pool!),
  context: fc.option(fc.record({ mailEpoch: fc.constantFrom(...epochs), counter, createdAtS, to }), {
    nil: undefined,
  }),
});

const inner: fc.Arbitrary<InnerMessage> = fc
  .record({
    mailEpoch: fc.constantFrom(...epochs),
    counter,
    to,
    createdAtMs: fc.tuple(createdAtS, fc.nat({ max: 999 })).map(([s, ms]) => s * 1_000 + ms),
    machines: fc.oneof(fc.constant([]), fc.array(fc.constantFrom(...pool!), { maxLength: 16 })),
    failoverDelayMs: fc.oneof(fc.nat(), fc.constant(60_000)),
    subject: fc.oneof(fc.constant(""), fc.string({ maxLength: 40 })),
    contentType: fc.constantFrom(
      "text/plain",
      "text/plain; charset=utf-8",
      "application/octet-stream",
      "application/json",
      'image/png; name="x"',
      "",
    ),
    body: fc.uint8Array({ maxLength: 20 }),
  })
  .map((drawn) => (drawn.machines.length === 0 ? { ...drawn, failoverDelayMs: 0 } : drawn));

describe("the compact header", () => {
  test("says what the message says, to the decoder of the page and to the code", () => {
    fc.assert(
      fc.property(inner, implied, fc.boolean(), (message, known, refers) => {
        const bytes = encodeCompact(compactStart(message, known, refers)!, message);
        const read = decodeMail(bytes, known);
        expect(read).toEqual(reference(bytes, known)!);
        const { createdAtMs, ...rest } = read;
        expect(rest).toEqual({ ...message, createdAtMs: undefined } as never);
        const early = message.createdAtMs - createdAtMs;
        expect(early >= 0 && early < 3_000).toBe(true);
        expect(bytes.length).toBeLessThan(encodeInnerMessage(message).length + 1);
      }),
      { numRuns: 3_000 },
    );
  });

  test("of strangers is read as the page says, or refused where that refuses", () => {
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .tuple(fc.integer({ min: 128, max: 255 }), fc.uint8Array({ maxLength: 60 }))
        .map(([flags, rest]) => Uint8Array.of(flags, ...rest)),
      fc.tuple(inner, implied, fc.nat(), fc.nat({ max: 255 })).map(([message, known, at, byte]) => {
        const bytes = encodeCompact(compactStart(message, known, at % 2 === 1)!, message);
        bytes[at % bytes.length] = byte;
        return bytes;
      }),
    );
    fc.assert(
      fc.property(hostile, implied, (bytes, known) => {
        let read: InnerMessage | undefined;
        try {
          read = decodeMail(bytes, known);
        } catch (error) {
          expect((error as { code?: string }).code).toBe("GODWIT_DECODE");
        }
        if (bytes[0]! >= 128) expect(read).toEqual(reference(bytes, known));
      }),
      { numRuns: 5_000 },
    );
  });

  test("is refused where it refers to what is not there", () => {
    const message: InnerMessage = {
      ...{ mailEpoch: epochs[0], counter: 3, to: "LON-B", createdAtMs: 1_800_000_000_000, machines: [] },
      ...{ failoverDelayMs: 0, subject: "", contentType: "text/plain", body: new Uint8Array(1) },
    };
    const known: Implied = { id: self, callsign: "LON-B", context: contextOf(message) };
    const all = { ...message, counter: 4 };
    const bytes = encodeCompact(compactStart(all, known)!, all);
    expect(bytes).toEqual(Uint8Array.of(0x80, 2, 0, 0, 0));
    expect(() => decodeMail(bytes, { ...known, context: undefined })).toThrow("nothing is kept");
    const byCallsign = encodeCompact(compactStart(all, { ...known, context: undefined })!, all);
    expect(byCallsign.length).toBe(14 + 1);
    expect(() => decodeMail(byCallsign, { ...known, callsign: undefined })).toThrow("has none");
    // Before the first counter.
    expect(() => decodeMail(Uint8Array.of(0x80, 9, 0, 0), known)).toThrow("out of range");
  });

  test("cannot say a time before 1970 or after 2106, nor more than 16 machines", () => {
    const message = fc.sample(inner, { numRuns: 1, seed: 1 })[0]!;
    const known: Implied = { id: self, callsign: undefined, context: undefined };
    const start = (change: Partial<InnerMessage>) => compactStart({ ...message, ...change }, known);
    expect(start({ createdAtMs: 2 ** 32 * 1_000 - 1 })).toBeDefined();
    expect(start({ createdAtMs: 2 ** 32 * 1_000 })).toBeUndefined();
    expect(start({ createdAtMs: -1 })).toBeUndefined();
    expect(start({ machines: Array.from({ length: 17 }, () => self) })).toBeUndefined();
  });

  test("references to machines that their recipient does not know are refused, and two that look alike are told apart", () => {
    const [message] = fc.sample(inner, { numRuns: 1, seed: 1 });
    const known: Implied = { id: self, callsign: undefined, context: undefined };
    const machines = pool!.slice(0, 8);
    const told = { ...message!, machines, failoverDelayMs: 60_000, subject: "" };
    const bytes = encodeCompact(compactStart(told, known, true)!, told);
    const whole = encodeCompact(compactStart(told, known)!, told);
    expect(whole.length - bytes.length).toBe(8 * 30 - 4 + 3);
    expect(() => decodeMail(bytes, known)).toThrow("machines that are not known");
    expect(() => decodeMail(bytes, { ...known, machinesAt: () => machines.slice(1) })).toThrow("not known");
    // Ids that have the reference of one of them for this message.
    const crowd = Array.from({ length: 200_000 }, (_, n) => {
      const id = new Uint8Array(32);
      new DataView(id.buffer).setUint32(0, n);
      return id;
    });
    const salt = Buffer.concat([Buffer.from("\x0egodwit machine"), told.mailEpoch, varintOf(told.counter)]);
    const referenceOf = (id: Uint8Array) =>
      createHash("sha256").update(salt).update(id).digest("hex").slice(0, 4);
    const wanted = referenceOf(nodeIdBytes(machines[3]!));
    const doubles = crowd.filter((id) => referenceOf(id) === wanted).map(formatNodeId);
    expect(doubles.length).toBeGreaterThan(0);
    const all = [...doubles, ...machines];
    expect(decodeMail(bytes, { ...known, machinesAt: () => all }).machines).toEqual(machines);
  });

  test("a context is what it was, and none where its time cannot be said", () => {
    fc.assert(
      fc.property(inner, (message) => {
        const context = contextOf(message)!;
        expect(decodeContext(encodeContext(context))).toEqual(context);
      }),
    );
    const [message] = fc.sample(inner, { numRuns: 1, seed: 1 });
    expect(contextOf({ ...message!, createdAtMs: 2 ** 32 * 1_000 })).toBeUndefined();
    expect(contextOf({ ...message!, createdAtMs: -1 })).toBeUndefined();
  });
});
