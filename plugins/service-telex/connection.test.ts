import { describe, expect, test } from "bun:test";
import { Secret } from "@godwit/sdk/secret";
import { GodwitError } from "@godwit/sdk";
import fc from "fast-check";
import {
  BURST_BYTES,
  BURST_ITEMS,
  TURN_MS,
  LINE_MS,
  lineBytesMax,
  LOGIN_MS,
  STALL_MS,
} from "./connection.ts";
import { NOTES_MAX } from "./console.ts";
import { UNACKED_MAX } from "./program.ts";
import { handled, openLine, settled, uuid, telegram } from "./testing.ts";

const password = new Secret("correct horse");

describe("who speaks", () => {
  test("silence is a person, a brace is a program, anything else a person at once", async () => {
    const silent = openLine();
    expect(silent.wire.take()).toBe("");
    silent.clock.advance(1_000);
    expect(silent.wire.take()).toMatch(/^GODWIT .*DUN-A> $/s);

    const program = openLine();
    expect(await program.say("{")).toBe("");
    program.clock.advance(5_000);
    expect(program.wire.take()).toBe("");

    const person = openLine();
    expect(await person.say("who\r\n")).toMatch(/^GODWIT .*DUN-A> DUN-A\/DUN\/aaaaaaaaaa\r\n.*DUN-A> $/s);
  });

  test("a program that was slow is still understood, and a brace within a message stays text", async () => {
    const { say, clock, wire, mesh } = openLine();
    clock.advance(1_000);
    wire.take();
    expect(await say("send NYC-C\r\n{not json\r\nNNNN\r\n")).toMatch(/accepted/);
    expect(new TextDecoder().decode(mesh.outgoing[0]!.body)).toBe("{not json");
    expect(await say(telegram(1))).toBe(
      `{"message_id":"${uuid(1)}","status":"accepted","id":"${"2".padStart(32, "0")}"}\n`,
    );
    expect(await say("{]\n")).toMatch(/^\{"message_id":null,"status":"error"/);
  });
});

test("a web page cannot speak through a browser", async () => {
  for (const head of ["POST / HTTP/1.1\r\nHost: 127.0.0.1:8023", "post /x?y http/1.0", "Host: a"]) {
    const { say, mesh, wire } = openLine();
    await say(`${head}\r\nContent-Type: text/plain\r\n\r\nsend NYCC hello\r\n${telegram(1)}`);
    expect(mesh.outgoing).toHaveLength(0);
    expect(wire.end_).toBe("ended");
  }
});

describe("a person", () => {
  test("writes a message whose text is kept, with dots and lines", async () => {
    const { say, mesh } = openLine();
    expect(await say("send DUNA\r\n")).toMatch(/text for DUN-A/);
    expect(await say("one\r\n\r\n..\r\n...\r\nnnnn\r\n")).toMatch(/accepted 0+1\r\nDUN-A> $/);
    expect(new TextDecoder().decode(mesh.outgoing[0]!.body)).toBe("one\n\n.\n...");
    await say("send LON\r\nx\r\nEEEE\r\nsend LON\r\ny\r\n\x03send lon-b z  z\r\n");
    expect(mesh.outgoing.map(({ to, body }) => [to, new TextDecoder().decode(body)])).toEqual([
      ["DUN-A", "one\n\n.\n..."],
      ["lon-b", "z  z"],
    ]);
  });

  test("a message past the bound is read to its end and not sent; nothing of it becomes a command", async () => {
    const { say, mesh } = openLine({ message_max: 256 });
    const heard = await say(`send NYCC\r\n${"x".repeat(200)}\r\n${"y".repeat(100)}\r\nquit\r\nNNNN\r\n`);
    expect(heard).toMatch(/not sent: more than 256 bytes\r\nDUN-A> $/);
    expect(await say(`send NYCC\r\n${"x".repeat(lineBytesMax(256) + 1)}\r\nquit\r\n.\r\n`)).toMatch(
      /not sent/,
    );
    expect(await say(`send NYCC\r\n${"\r\n".repeat(300)}NNNN\r\n`)).toMatch(/not sent/);
    expect(mesh.outgoing).toHaveLength(0);
    await say(`send NYCC\r\n${"x".repeat(128)}\r\n${"y".repeat(127)}\r\nNNNN\r\n`);
    expect(mesh.outgoing[0]?.body.length).toBe(256);
  });

  test("a message of very many lines keeps them all", async () => {
    const { say, mesh } = openLine({ message_max: 65_536 });
    const lines = Array.from({ length: 2_000 }, (_, i) => (i % 3 === 0 ? "" : `line ${i}`));
    await say(`send NYCC\r\n${lines.join("\r\n")}\r\nNNNN\r\n`);
    expect(new TextDecoder().decode(mesh.outgoing[0]!.body)).toBe(lines.join("\n"));
  });

  test("hears why a message was not accepted", async () => {
    const { say, mesh, seen } = openLine();
    expect(await say("send N!\r\n")).toMatch(/that is no address/);
    mesh.failure = new GodwitError("GODWIT_QUEUE_FULL", "the outbox is full\u001b", { kind: "capacity" });
    expect(await say("send NYCC x\r\n")).toMatch(
      /\*\*\* not accepted: the outbox is full\? \(GODWIT_QUEUE_FULL\)/,
    );
    expect(seen).toMatchObject({ accepted: 0, refused: 1 });
  });

  test("notes wait while something is typed, are bounded, and can be turned off", async () => {
    const { say, mesh, connection, wire } = openLine();
    await say("send NYCC\r\n");
    for (let i = 0; i < NOTES_MAX + 3; i++) connection.onArrival(mesh.receive(`body ${i}`));
    expect(wire.take()).toBe("");
    const heard = await say("EEEE\r\n");
    expect(heard.match(/\*\*\* message/g)).toHaveLength(NOTES_MAX);
    expect(heard).toMatch(/\*\*\* and 3 more; see inbox\r\nDUN-A> $/);
    await say("half a wo");
    connection.onArrival(mesh.receive("later"));
    expect(wire.take()).toBe("");
    expect(await say("\x15\r\n")).toMatch(/later/);
    await say("live off\r\n");
    connection.onArrival(mesh.receive("never"));
    expect(wire.take()).toBe("");
  });

  test("hears only of the end of messages sent here", async () => {
    const { say, connection, wire } = openLine();
    await say("send NYCC x\r\n");
    const sent = { to: "NYC-C", createdAtMs: 0, receipt: undefined };
    connection.onSent({ ...sent, id: "1".padStart(32, "0"), state: "relayed", reason: undefined });
    connection.onSent({ ...sent, id: "9".repeat(32), state: "expired", reason: undefined });
    expect(wire.take()).toBe("");
    connection.onSent({ ...sent, id: "1".padStart(32, "0"), state: "refused", reason: "no\nsuch key" });
    expect(wire.take()).toBe(`\r\n*** refused ${"1".padStart(32, "0")}: no?such key\r\nDUN-A> `);
  });

  test("says of a receipt without a signature what shows it", async () => {
    const { say, connection, wire } = openLine();
    const trace = [{ id: "a".repeat(52), callsign: "NYC-C", atMs: 0 }];
    const by = { by: "a".repeat(52), byCallsign: "NYC-C", atMs: 0, trace };
    for (const [number, receipt, words] of [
      [1, { ...by, proof: "signature", signature: "5b".repeat(64) }, "5b".repeat(16)],
      [2, { ...by, proof: "session", signature: undefined }, "proven by its session"],
      [3, { ...by, proof: "lost", signature: undefined }, "proven by nothing any more"],
    ] as const) {
      await say("send NYCC x\r\n");
      const id = String(number).padStart(32, "0");
      connection.onSent({ id, to: "NYC-C", createdAtMs: 0, state: "delivered", reason: undefined, receipt });
      expect(wire.take()).toContain(
        `*** delivered ${id} by NYC-C at 1970-01-01T00:00:00.000Z, NYC-C, receipt ${words}\r\n`,
      );
    }
  });

  test("width 69: short lines, upper case, nothing but ASCII", async () => {
    const { say, mesh } = openLine();
    await say("width 69 on\r\n");
    mesh.receive(`${"wort ".repeat(40)}\ngr\u00fc\u00dfe \u65e5 ${"x".repeat(200)}`);
    const heard = await say("inbox\r\nread 1\r\nstations\r\nhelp\r\n");
    for (const line of heard.replaceAll("DUN-A> ", "").split("\r\n")) {
      expect(line.length).toBeLessThanOrEqual(69);
      expect(line).toMatch(/^[\x20-\x60\x7b-\x7e]*$/);
    }
    expect(heard).toContain("GRUSSE ?");
    expect(await say("width 80 on\r\nwidth off\r\n")).toMatch(/WIDTH 69 ON, OR.*width 69 off/s);
  });

  test("property: what others write never reaches a terminal as control characters", async () => {
    // As its strings of any unit are, but for a table of all of them, which takes a second.
    const text = fc
      .array(fc.integer({ min: 0, max: 0x10ffff }), { maxLength: 80 })
      .map((points) => String.fromCodePoint(...points));
    await fc.assert(
      fc.asyncProperty(text, text, text, fc.boolean(), async (body, subject, reason, isTeletype) => {
        const { say, mesh, connection, wire } = openLine();
        await say(`width 69 ${isTeletype ? "on" : "off"}\r\nsend NYCC x\r\n`);
        connection.onArrival(mesh.receive(body, { subject }));
        const id = "1".padStart(32, "0");
        connection.onSent({ id, to: "NYC-C", createdAtMs: 0, receipt: undefined, state: "refused", reason });
        const heard = `${wire.take()}${await say("inbox\r\nread 1\r\n")}`;
        expect(heard.replaceAll("\r\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}]/u);
      }),
      { numRuns: 100 },
    );
  });
});

describe("a program", () => {
  test("is answered in order, however its bytes arrive", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }), async (sizes) => {
        const { connection, wire } = openLine();
        const bytes = new TextEncoder().encode([1, 2, 3, 4, 5].map((n) => telegram(n, "\u00e9")).join(""));
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length]!;
          connection.onData(bytes.subarray(at, at + size));
          at += size;
        }
        await settled();
        const ids = wire
          .take()
          .trim()
          .split("\n")
          .map((line) => (JSON.parse(line) as { message_id: string }).message_id);
        expect(ids).toEqual([1, 2, 3, 4, 5].map(uuid));
      }),
      { numRuns: 50 },
    );
  });

  test("any bytes after the brace get errors or nothing, and a good line after them is accepted", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3_000 }), async (noise) => {
        const { say, connection } = openLine();
        await say(Uint8Array.of(0x7b, ...noise.filter((byte) => byte !== 0), 10));
        expect(connection.isOpen).toBe(true);
        expect(await say(telegram(7))).toContain('"status":"accepted"');
      }),
      { numRuns: 50 },
    );
    const { say } = openLine({ message_max: 65_536 });
    expect(await say(`{"a":${"[".repeat(100_000)}\n`)).toContain("GODWIT_REQUEST_INVALID");
  });

  test("gets at most a window of its inbox, and the rest as it acknowledges", async () => {
    const { say, mesh, connection, wire } = openLine();
    for (let i = 0; i < UNACKED_MAX + 5; i++) mesh.receive(`body ${i}`);
    const heard = await say('{"receive":true}\n');
    const pushed = heard
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => JSON.parse(line) as { id: string });
    expect(pushed).toHaveLength(UNACKED_MAX);
    expect(await say(`{"ack":"${pushed[0]!.id}"}\n`)).toMatch(
      /^\{"status":"acknowledged".*\n\{"message_id"[^\n]*body 16/s,
    );
    // Again, and one that somebody else removed: no error, and its place is free.
    expect(await say(`{"ack":"${pushed[0]!.id}"}\n`)).toMatch(/^\{"status":"acknowledged"[^\n]*\n$/);
    await mesh.inbox.remove(pushed[1]!.id);
    connection.onArrival(mesh.receive("new"));
    await settled();
    expect(wire.take()).toContain("body 17");
    expect(await say('{"ack":"x"}\n{"receive":1}\n{"state":"00"}\n')).toMatch(/error.*\n.*error.*\n.*error/);
    expect(await say('{"receive":false}\n')).toMatch(/stopped/);
    connection.onArrival(mesh.receive("unseen"));
    await settled();
    expect(wire.take()).toBe("");
  });
});

describe("bounds", () => {
  test("a caller who vanished while nothing was read from him is noticed", async () => {
    const { connection, wire, clock, seen } = openLine();
    wire.room = 0;
    connection.onData(new TextEncoder().encode("{}\n".repeat(100_000)));
    await handled(connection, clock);
    expect(wire.isPaused).toBe(true);
    connection.check(clock.monotonicMs());
    expect(seen.closed).toBe(0);
    wire.isGone = true;
    connection.check(clock.monotonicMs());
    await settled();
    expect([seen.closed, wire.end_, clock.pending]).toEqual([1, "terminated", 0]);
  });

  test("a flood is taken in turns with others, lines and bytes alike", async () => {
    const lines = openLine();
    lines.connection.onData(new TextEncoder().encode("{}\n".repeat(BURST_ITEMS * 3)));
    await settled();
    expect(lines.wire.take().match(/\n/g)).toHaveLength(BURST_ITEMS);
    expect(lines.connection.isYielding).toBe(true);
    lines.clock.advance(TURN_MS);
    await settled();
    expect(lines.wire.take().match(/\n/g)).toHaveLength(BURST_ITEMS);

    const bytes = openLine();
    bytes.connection.onData(new TextEncoder().encode(`{${"x".repeat(BURST_BYTES * 2)}\n`));
    await settled();
    expect([bytes.connection.isYielding, bytes.wire.take()]).toEqual([true, ""]);
    await handled(bytes.connection, bytes.clock);
    expect(bytes.wire.take()).toContain("GODWIT_TOO_BIG");
  });

  test("a caller who takes nothing for a minute is cut off", async () => {
    const { connection, wire, clock, say } = openLine();
    wire.room = 10;
    await say("help\r\n");
    clock.advance(STALL_MS + 1);
    connection.check(clock.monotonicMs());
    expect(wire.end_).toBe("terminated");
  });

  test("a program's line must end in time, a person's may take as long as he likes", async () => {
    const program = openLine();
    await program.say('{"message_id":');
    for (let i = 0; i < 4; i++) {
      program.clock.advance(LINE_MS / 4);
      program.connection.check(program.clock.monotonicMs());
      expect(program.wire.take()).toBe("");
      await program.say(" ");
    }
    program.clock.advance(1);
    program.connection.check(program.clock.monotonicMs());
    expect(program.wire.take()).toContain("GODWIT_STOPPED");
    expect(program.wire.end_).toBe("ended");
    program.clock.advance(10_000);
    program.connection.check(program.clock.monotonicMs());
    expect(program.wire.end_).toBe("terminated");

    const person = openLine();
    await person.say("sta");
    person.clock.advance(LINE_MS * 4);
    person.connection.check(person.clock.monotonicMs());
    expect(await person.say("tions\r\n")).toContain("NYC-C");
  });

  test("silence ends a line after the idle time, a word starts it anew, 0 means never", async () => {
    const { say, clock, connection, wire } = openLine({ idle_timeout: 1_000 });
    await say("\r\n");
    clock.advance(900);
    await say("\r\n");
    clock.advance(900);
    connection.check(clock.monotonicMs());
    expect(wire.end_).toBe("open");
    clock.advance(200);
    connection.check(clock.monotonicMs());
    expect(wire.take()).toMatch(/\*\*\* nothing was said for too long; goodbye\r\n$/);
    expect(wire.end_).toBe("ended");
    const patient = openLine({ idle_timeout: 0 });
    patient.clock.advance(1e12);
    patient.connection.check(patient.clock.monotonicMs());
    expect(patient.wire.end_).toBe("open");
  });

  test("nothing is left when the caller is gone", async () => {
    const { connection, clock, seen, say, wire } = openLine();
    connection.onClosed();
    connection.onClosed();
    expect(seen.closed).toBe(1);
    expect(clock.pending).toBe(0);
    expect(await say("who\r\n")).toBe("");
    expect(wire.end_).toBe("open");
    const guesser = openLine({ password });
    await guesser.say("wrong guess\r\n");
    expect(guesser.clock.pending).toBe(1);
    guesser.connection.cut();
    await settled();
    expect([guesser.clock.pending, guesser.seen.closed, guesser.wire.end_]).toEqual([0, 1, "terminated"]);
  });

  test("who has said all is answered, and then let go", async () => {
    const { connection, wire, say } = openLine();
    await say("who\r\nsend NYCC last");
    connection.onEnd();
    await settled();
    expect(wire.take()).toMatch(/accepted/);
    expect(wire.end_).toBe("ended");
  });
});

describe("the password", () => {
  test("comes first, is not shown by telnet, and three wrong ones are enough", async () => {
    const { say, clock, wire, seen } = openLine({ password });
    expect(await say(Uint8Array.of(255, 253, 3))).toContain("password: ");
    expect(wire.bytes.slice(-6)).toEqual([255, 251, 1, 255, 252, 3]);
    expect(await say("who\r\nsend NYCC x\r\ncorrect horse\r\n")).toBe("");
    clock.advance(1_000);
    await settled();
    expect(wire.take()).toMatch(/that is not the password\r\npassword: $/);
    clock.advance(1_000);
    await settled();
    expect(wire.take()).toMatch(/DUN-A> $/s);
    expect(wire.bytes.join()).toContain("255,252,1");
    expect(seen).toMatchObject({ wrong: 2, accepted: 0 });

    const guesser = openLine({ password });
    await guesser.say("a\r\nb\r\nc\r\ncorrect horse\r\n");
    for (let i = 0; i < 3; i++) {
      guesser.clock.advance(1_000);
      await settled();
    }
    expect(guesser.wire.end_).toBe("ended");
    expect(guesser.wire.take()).not.toContain("DUN-A");
  });

  test("a stranger learns nothing, sends nothing and has a minute", async () => {
    const { say, clock, connection, wire, mesh } = openLine({ password });
    expect(await say("\x05\x05")).not.toContain("DUN-A");
    connection.onArrival(mesh.receive("secret"));
    connection.onSent({
      id: "",
      to: "",
      state: "expired",
      reason: "secret",
      createdAtMs: 0,
      receipt: undefined,
    });
    clock.advance(LOGIN_MS + 1);
    connection.check(clock.monotonicMs());
    expect(wire.take()).not.toContain("secret");
    expect(wire.end_).toBe("ended");
  });

  test("a program says it in its first line", async () => {
    const { say, clock, wire, mesh } = openLine({ password });
    await say(`${telegram(1)}{"receive":true}\n`);
    clock.advance(1_000);
    await settled();
    clock.advance(1_000);
    await settled();
    expect(wire.take().match(/GODWIT_UNAUTHORIZED/g)).toHaveLength(2);
    expect(mesh.outgoing).toHaveLength(0);
    expect(await say('{"password":"correct horse"}\n')).toBe('{"status":"welcome"}\n');
    expect(await say(telegram(1))).toContain("accepted");
  });
});
