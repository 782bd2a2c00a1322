import { describe, expect, test } from "bun:test";
import type { MessagePriority } from "@godwit/sdk";
import fc from "fast-check";
import {
  formatTelegram,
  isAddress,
  parseMessageId,
  readTelegram,
  toMeshAddress,
  toMeshPriority,
  toTelexAddress,
  toTelexPriority,
  toUuid,
} from "./telegram.ts";
import recorded from "./recorded-lines.json" with { type: "json" };
import { FakeMesh } from "./testing.ts";

const uuid = "6F9619FF-8B86-4D01-B42D-00C04FC964FF";
const good = {
  message_id: uuid,
  timestamp_created: "2026-01-31T12:00:00+00:00",
  routing: { source: "DUNA", destination: "nycc", priority: 1 },
  content: { subject: "HELLO", body: "caf\u00e9", content_type: "text/plain" },
  trace: [],
  extra: { is: "skipped" },
};

test.each([
  ["DUNA", "DUN-A"],
  ["dun1", "DUN-1"],
  ["123Z", "123-Z"],
  ["DUN-A", "DUN-A"],
  ["DUN", "DUN"],
  ["GLASGOW", "GLASGOW"],
])("address %s is %s", (telex, mesh) => {
  expect(toMeshAddress(telex)).toBe(mesh);
});

test("addresses of three and one come back short, others whole", () => {
  expect(toTelexAddress("DUN-A", "id")).toBe("DUNA");
  expect(toTelexAddress("LOND-A", "id")).toBe("LOND-A");
  expect(toTelexAddress(undefined, "id")).toBe("id");
  for (const text of ["", "A", "DUN-", "-A", "DUN A", "D\u00dcNA", "TOOLONGER9", "DUN-A-B"])
    expect(isAddress(text)).toBe(false);
});

test("nine priorities are four and come back in order", () => {
  const mapped = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(toMeshPriority);
  expect(mapped).toEqual([0, 1, 1, 2, 2, 2, 3, 3, 3]);
  for (const priority of [0, 1, 2, 3] as MessagePriority[])
    expect(toMeshPriority(toTelexPriority(priority))).toBe(priority);
});

test("ids as UUIDs and back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const id = Buffer.from(bytes).toString("hex");
      expect(toUuid(id)).toMatch(/^.{8}-.{4}-.{4}-.{4}-.{12}$/);
      expect(parseMessageId(toUuid(id).toUpperCase())).toBe(id);
    }),
  );
  expect(parseMessageId("12")).toBeUndefined();
});

describe("reading", () => {
  test("takes over what a telegram says", () => {
    expect(readTelegram(good, 100)).toEqual({
      message: {
        to: "NYC-C",
        body: new TextEncoder().encode("caf\u00e9"),
        subject: "HELLO",
        contentType: "text/plain",
        priority: 0,
        failover: true,
        idempotencyKey: `telex:${uuid.toLowerCase()}`,
      },
    });
    const bare = { message_id: uuid, routing: { destination: "NYC" }, content: { body: "" } };
    expect(readTelegram(bare, 100)).toMatchObject({
      message: { to: "NYC", priority: 2, contentType: "text/plain" },
    });
  });

  test.each([
    ["message_id", { ...good, message_id: "17" }],
    ["timestamp_created", { ...good, timestamp_created: "yesterday" }],
    ["routing", { ...good, routing: "NYCC" }],
    ["routing.destination", { ...good, routing: { source: "DUNA" } }],
    ["routing.destination", { ...good, routing: { destination: "N Y" } }],
    ["routing.source", { ...good, routing: { source: 1, destination: "NYCC" } }],
    ["routing.priority", { ...good, routing: { destination: "NYCC", priority: 10 } }],
    ["routing.priority", { ...good, routing: { destination: "NYCC", priority: 1.5 } }],
    ["content", { ...good, content: null }],
    ["content.body", { ...good, content: { body: 1 } }],
    ["content.content_type", { ...good, content: { body: "", content_type: "text/plain\r\nx: y" } }],
    ["trace", { ...good, trace: "DUN-A" }],
  ])("names %s", (path, value) => {
    const read = readTelegram(value, 100);
    expect(read).toMatchObject({ fault: { code: "GODWIT_REQUEST_INVALID" } });
    expect("fault" in read && read.fault.message.startsWith(`Validation error: ${path}: expected `)).toBe(
      true,
    );
  });

  test("bounds the body in bytes, not characters", () => {
    expect(readTelegram(good, 5)).toHaveProperty("message");
    expect(readTelegram(good, 4)).toMatchObject({ fault: { code: "GODWIT_TOO_BIG" } });
  });

  test("property: any JSON is read or refused, never a crash", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const read = readTelegram(value, 100);
        expect("message" in read || read.fault.message.length > 0).toBe(true);
      }),
    );
  });
});

test("writing gives one line that can be sent on, binary bodies in base64, large ones left out", () => {
  const mesh = new FakeMesh();
  const { message } = mesh.receive("line 1\nline 2", { subject: "S", priority: 1 });
  const line = formatTelegram(message, "DUN-A", new TextEncoder().encode("line 1\nline 2"));
  expect(line.indexOf("\n")).toBe(line.length - 1);
  const written = JSON.parse(line) as Record<string, unknown>;
  expect(written).toEqual({
    message_id: toUuid(message.id),
    id: message.id,
    timestamp_created: "2027-01-15T08:00:00.000Z",
    routing: { source: "NYCC", destination: "DUNA", priority: 3 },
    content: { subject: "S", body: "line 1\nline 2", content_type: "text/plain" },
    trace: [{ node_id: "NYC-C", timestamp: "2027-01-15T08:00:00.000Z" }],
  });
  expect(readTelegram(written, 100)).toHaveProperty("message");
  expect(JSON.parse(formatTelegram({ ...message, hopsUntraced: 2 }, "DUN-A", undefined))).toMatchObject({
    hops_untraced: 2,
  });
  const content = (body: Uint8Array | undefined) =>
    (JSON.parse(formatTelegram(message, "DUN-A", body)) as { content: unknown }).content;
  expect(content(Uint8Array.of(255, 0))).toMatchObject({ body: null, body_base64: "/wA=" });
  expect(content(undefined)).toMatchObject({ body: null, size: 13 });
});

interface RecordedLine {
  readonly what: string;
  readonly line: string;
  readonly accepted?: Readonly<Record<"to" | "body", string>> & { readonly [field: string]: unknown };
  readonly error?: string;
}

/** Shapes that clients of Project Telex write: append-only. */
const { lines } = recorded as { lines: RecordedLine[] };

test.each(lines.filter(({ accepted }) => accepted !== undefined).map((one) => [one.what, one] as const))(
  "a line of Project Telex is a message: %s",
  (_, { line, accepted }) => {
    const read = readTelegram(JSON.parse(line), 65_536);
    if ("fault" in read) throw new Error(read.fault.message);
    const { to, priority, subject, body, idempotencyKey: key } = read.message;
    const text = new TextDecoder().decode(body);
    expect({
      to,
      priority,
      ...(subject === undefined ? {} : { subject }),
      body: text,
      ...(key === undefined ? {} : { key }),
    }).toEqual(accepted as never);
  },
);
