/**
 * The telex port of real nodes: DUN-A - LON-B - NYC-C as processes of the compiled binary, and callers on sockets: a
 * person, Project Telex programs, and such as mean no good.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import recorded from "../../plugins/service-telex/recorded-lines.json" with { type: "json" };
import { Caller } from "./caller.ts";

const CONNECTIONS_MAX = 12;
let lab: Lab;
const ports = {
  a: freePort(),
  b: freePort(),
  c: freePort(),
  locked: freePort(),
  open: freePort(),
  choosy: freePort(),
};
let a: LabNode;
let c: LabNode;
const callers: Caller[] = [];

async function call(port: number): Promise<Caller> {
  const caller = await Caller.call(port);
  callers.push(caller);
  return caller;
}

/** A person: Enter brings the banner at once. */
async function dial(port: number): Promise<Caller> {
  const caller = await call(port);
  caller.say("\r\n");
  await caller.hear(/GODWIT \S+ TELEX.*?> /s);
  return caller;
}

/** As the port writes an id that it made. */
const uuidOf = (id: string): string => id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");

const telegram = (to: string, body: string, messageId: string = crypto.randomUUID()) => ({
  message_id: messageId,
  timestamp_created: "2026-01-31T12:00:00Z",
  routing: { source: "DUNA", destination: to, priority: 5 },
  content: { subject: "TEST", body, content_type: "text/plain" },
  trace: [{ node_id: "DUN-A", timestamp: "2026-01-31T12:00:00Z" }],
});

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  const password = join(lab.dir, "telex.password");
  await writeFile(password, "correct horse\n");
  await chmod(password, 0o600);
  const telex = (name: string, port: number, more = "") =>
    `[services.${name}]\ntype = "telex"\nlisten = "127.0.0.1:${port}"\nmax_connections = ${CONNECTIONS_MAX}\n${more}\n`;
  const b = await lab.add({ callsign: "LON-B", network: "telex", extra: telex("telex", ports.b) });
  a = await lab.add({
    callsign: "DUN-A",
    network: "telex",
    peers: [b.endpoint],
    extra: [
      telex("telex", ports.a),
      telex("locked", ports.locked, `password = "file:${password}"`),
      telex("open", ports.open, 'allow_from = ["127.0.0.1"]'),
      telex("choosy", ports.choosy, 'allow_from = ["192.0.2.0/24", "2001:db8::/32"]'),
    ].join("\n"),
  });
  c = await lab.add({
    callsign: "NYC-C",
    network: "telex",
    peers: [b.endpoint],
    extra: telex("telex", ports.c, 'allow_from = ["127.0.0.0/8"]'),
  });
  await Promise.all(lab.nodes.map((node) => node.start()));
  const reaches = async (node: LabNode, callsign: string) => {
    const { routes } = await node.json<{ routes: { callsign: string | null }[] }>("/mesh/routes");
    return routes.some((route) => route.callsign === callsign);
  };
  await a.until("a route to NYC-C", () => reaches(a, "NYC-C"), 20_000);
  await c.until("a route to DUN-A", () => reaches(c, "DUN-A"), 20_000);
}, 60_000);

afterAll(async () => {
  for (const caller of callers) caller.hangUp();
  await lab.close();
});

/** What a program of another user hears that says something at once. */
async function heardAsNobody(port: number): Promise<string> {
  const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; printf '{"receive": true}\\n' >&3; exec timeout 1 cat <&3`;
  const child = Bun.spawn(
    ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "bash", "-c", script],
    {
      stdout: "pipe",
      stderr: "ignore",
    },
  );
  return await new Response(child.stdout).text();
}

test.skipIf(process.getuid?.() !== 0)(
  "another user of the machine cannot read, delete or send the node's mail over loopback",
  async () => {
    expect(await heardAsNobody(ports.a)).toContain("GODWIT_FORBIDDEN");
    // With a password, or where the operator lets all users call, it is nobody's user that counts.
    expect(await heardAsNobody(ports.locked)).not.toContain("GODWIT_FORBIDDEN");
    expect(await heardAsNobody(ports.open)).not.toContain("GODWIT_FORBIDDEN");
    await dial(ports.a);
  },
);

describe("a person", () => {
  test("types a message in DUN-A that appears live in NYC-C, and sees the receipt live", async () => {
    const [dundee, newYork] = await Promise.all([dial(ports.a), dial(ports.c)]);
    dundee.say("WHO AM I\r\n");
    await dundee.hear(/DUN-A\/DUN\/[a-z2-7]{10}\r\n.*id [a-z2-7]{52}\r\n/s);
    dundee.say("stations\r\n");
    await dundee.hear(/NYC-C +reachable +via LON-B/);
    dundee.say("send nycc\r\nHELLO NEW YOXX\b\bRK\r\nthis is wrong\x15ALL WELL\r\n..\r\nNNNN\r\n");
    const [, id] = await dundee.hear(/accepted ([0-9a-f]{32})\r\n/);
    const [, number] = await newYork.hear(
      /\*\*\* message (\d+) from DUN-A\r\nHELLO NEW YORK\r\nALL WELL\r\n\.\r\nNYC-C> /,
    );
    await dundee.hear(
      new RegExp(
        `\\*\\*\\* delivered ${id} by NYC-C at \\S+, DUN-A > LON-B > NYC-C, receipt [0-9a-f]{32}\r\nDUN-A> $`,
      ),
    );
    dundee.say(`status ${id}\r\n`);
    await dundee.hear(/delivered [0-9a-f]{32} by NYC-C/);

    newYork.say("inbox\r\n");
    await newYork.hear(new RegExp(` ${number} {2}\\S+ \\S+Z {2}DUN-A +25 B\r\n`));
    newYork.say(`read ${number}\r\n`);
    await newYork.hear(
      /ZCZC [0-9a-f]{32}\r\nFROM DUN-A TO NYC-C\r\nSENT .* BY DUN-A > LON-B > NYC-C\r\n\r\nHELLO/,
    );
    newYork.say("width 69 on\r\n");
    await newYork.hear(/WIDTH 69 ON\r\n/);
    newYork.say(`delete ${number}\r\n`);
    await newYork.hear(/DELETED [0-9A-F]{32}\r\n/);
    newYork.say(`read ${number}\r\n`);
    await newYork.hear(/\*\*\* NO SUCH MESSAGE; SEE INBOX\r\n/);
    dundee.say("quit\r\n");
    await dundee.hear(/goodbye\r\n/);
    await dundee.closed();
    newYork.hangUp();
  }, 30_000);

  test("who says nothing gets the banner; who finishes at once is still answered", async () => {
    const silent = await call(ports.a);
    await silent.hear(/GODWIT .* TELEX, NETWORK TELEX\r\nDUN-A.*DUN-A> $/s);
    silent.say("\x05");
    await silent.hear(/DUN-A\/DUN\/[a-z2-7]{10}\r\nDUN-A> $/);
    silent.hangUp();
    const brief = await call(ports.a);
    brief.say("stations\nsend LON-B one line for you\n");
    brief.finish();
    await brief.hear(/LON-B.*accepted [0-9a-f]{32}\r\n/s);
    await brief.closed();
  }, 30_000);

  test("sees no control characters of others, and no forged notes", async () => {
    const newYork = await dial(ports.c);
    await a.send({
      to: "NYC-C",
      body: "\u001b[2Jboo\u0007\r\n*** delivered forged\nNNNN",
      subject: "a\r\n*** b",
    });
    await newYork.hear(
      /\*\*\* message \d+ from DUN-A: a\?\?\*\*\* b\r\n\?\[2Jboo\?\r\n \*\*\* delivered forged\r\n NNNN\r\nNYC-C> /,
    );
    newYork.hangUp();
  }, 30_000);
});

describe("a program", () => {
  test("of Project Telex is understood: each recorded line is accepted with an id, or answered with words that it looks for", async () => {
    const program = await call(ports.a);
    const { lines } = recorded as {
      lines: { what: string; line: string; accepted?: object; error?: string }[];
    };
    for (const { what, line, accepted, error } of lines) {
      program.say(`${line}\n`);
      const answer = await program.hearJson();
      if (accepted === undefined) {
        expect([what, answer["status"], answer["code"]]).toEqual([what, "error", "GODWIT_REQUEST_INVALID"]);
        expect(answer["error"]).toStartWith(error!);
        continue;
      }
      expect([what, answer["status"]]).toEqual([what, "accepted"]);
      const given = (JSON.parse(line) as { message_id?: string }).message_id;
      expect(answer["message_id"]).toBe(given ?? uuidOf(answer["id"] as string));
      const { state } = await a.json<{ state: string }>(`/messages/${answer["id"] as string}`);
      expect(["queued", "sent", "delivered"]).toContain(state);
    }
    // Without an id of its own the same line again is another message.
    const least = lines.find(({ what }) => what.startsWith("the least"))!.line;
    program.say(`${least}\n${least}\n`);
    const ids = [await program.hearJson(), await program.hearJson()].map(({ id }) => id);
    expect(new Set(ids).size).toBe(2);
    program.hangUp();
  }, 30_000);

  test("is answered line by line; a repeated message_id is the same message; bad lines cost only themselves", async () => {
    const program = await call(ports.a);
    const first = telegram("NYCC", "FIRST");
    program.sayJson(first);
    const accepted = await program.hearJson();
    expect(accepted).toEqual({
      message_id: first.message_id,
      status: "accepted",
      id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    const stored = await a.json<{ to: string; priority: number }>(`/messages/${accepted["id"] as string}`);
    expect(stored).toMatchObject({ to: "NYC-C", priority: 2 });
    program.say("{nonsense\n[]\n\n");
    program.sayJson({ ...telegram("NYCC", "x"), routing: { destination: "NYCC", priority: 0 } });
    program.sayJson(telegram("!!", "x"));
    program.sayJson({ ...first, content: { body: "ANOTHER" } });
    program.sayJson(first);
    const invalid = { code: "GODWIT_REQUEST_INVALID" };
    expect(await program.hearJson()).toMatchObject({ message_id: null, status: "error", ...invalid });
    expect(await program.hearJson()).toMatchObject({ message_id: null, status: "error", ...invalid });
    expect(await program.hearJson()).toMatchObject({
      status: "error",
      ...invalid,
      error: "Validation error: routing.priority: expected a whole number from 1 to 9",
    });
    expect(await program.hearJson()).toMatchObject({ status: "error", ...invalid });
    expect(await program.hearJson()).toMatchObject({
      message_id: first.message_id,
      code: "GODWIT_IDEMPOTENCY_CONFLICT",
    });
    expect(await program.hearJson()).toEqual(accepted);
    program.hangUp();
  }, 30_000);

  test("receives its inbox in Project Telex's shape and removes by acknowledging", async () => {
    const program = await call(ports.b);
    const sender = await call(ports.a);
    program.sayJson({ receive: true });
    const { status, messages } = await program.hearJson<{ status: string; messages: number }>();
    expect(status).toBe("receiving");
    for (let i = 0; i < messages; i++) program.sayJson({ ack: (await program.hearJson())["message_id"] });
    for (let i = 0; i < messages; i++)
      expect(await program.hearJson()).toMatchObject({ status: "acknowledged" });
    // More than the window, so that some wait for an acknowledgement.
    const bodies = Array.from({ length: 20 }, (_, i) => `NUMBER ${i} \u00e9\n`);
    for (const body of bodies)
      sender.sayJson({ ...telegram("LONB", body), routing: { destination: "LONB", priority: 1 } });
    const got: string[] = [];
    while (got.length < bodies.length) {
      const line = await program.hearJson<
        Record<string, unknown> & { content: { body: string }; id: string }
      >();
      if (line["status"] === "acknowledged") continue;
      expect(line).toMatchObject({
        routing: { source: "DUNA", destination: "LONB", priority: 1 },
        content: { subject: "TEST", content_type: "text/plain" },
        trace: [{ node_id: "DUN-A" }, { node_id: "LON-B" }],
      });
      expect(line["message_id"]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
      got.push(line.content.body);
      program.sayJson({ ack: line.id });
    }
    expect(got.toSorted()).toEqual(bodies.toSorted());
    await lab.nodes[0]!.until(
      "an empty inbox",
      async () => (await lab.nodes[0]!.box("inbox")).length === 0,
      10_000,
    );
    program.hangUp();
    sender.hangUp();
  }, 30_000);

  test("may send bodies up to the bound and not above, and lines beyond it only cost an answer", async () => {
    const program = await call(ports.a);
    program.sayJson(telegram("NYCC", "\u00e9".repeat(32 * 1024)));
    expect(await program.hearJson()).toMatchObject({ status: "accepted" });
    program.sayJson(telegram("NYCC", "x".repeat(64 * 1024 + 1)));
    expect(await program.hearJson()).toMatchObject({ status: "error", code: "GODWIT_TOO_BIG" });
    for (let i = 0; i < 8; i++) program.say("y".repeat(64 * 1024));
    program.say("\n");
    expect(await program.hearJson()).toMatchObject({ message_id: null, code: "GODWIT_TOO_BIG" });
    program.sayJson(telegram("NYCC", "still here"));
    expect(await program.hearJson()).toMatchObject({ status: "accepted" });
    program.hangUp();
  }, 30_000);

  test("learns what became of a message", async () => {
    const program = await call(ports.a);
    program.sayJson(telegram("NYCC", "WHERE AM I"));
    const { id } = await program.hearJson<{ id: string }>();
    await a.until(
      "delivery",
      async () => (await a.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
      15_000,
    );
    program.sayJson({ state: id });
    expect(await program.hearJson()).toMatchObject({
      status: "state",
      id,
      state: "delivered",
      receipt: { by: "NYC-C" },
    });
    program.hangUp();
  }, 30_000);
});

describe("who may not", () => {
  test("take answers fast enough gets them late and whole, and holds up nobody", async () => {
    const asked = 12_000;
    const slow = await dial(ports.b);
    slow.listen(false);
    slow.say(`${"help\r\n".repeat(asked)}quit\r\n`);
    const program = await call(ports.b);
    for (let i = 0; i < 500; i++) program.sayJson({ state: "0" });
    for (let i = 0; i < 500; i++) await program.hearJson();
    program.hangUp();
    slow.listen(true);
    await slow.hear(/goodbye\r\n/);
    expect(slow.transcript.match(/help, quit/g)).toHaveLength(asked);
    await slow.closed();
  }, 30_000);

  test("hold a line with half a word: others are served, and a second line of theirs too", async () => {
    const slow = await Promise.all(Array.from({ length: CONNECTIONS_MAX - 2 }, () => call(ports.a)));
    for (const caller of slow) caller.say('{"message_id": "');
    const program = await call(ports.a);
    program.sayJson(telegram("NYCC", "QUICK"));
    expect(await program.hearJson()).toMatchObject({ status: "accepted" });
    for (const caller of [...slow, program]) caller.hangUp();
  }, 30_000);

  test("say the password says nothing else, person or program", async () => {
    const person = await call(ports.locked);
    person.say("\r\n");
    await person.hear(/password: $/);
    await person.hear(/that is not the password\r\npassword: $/);
    expect(person.transcript).not.toContain("DUN-A");
    person.say("correct horse\r\n");
    await person.hear(/GODWIT .* TELEX, .*DUN-A> $/s);
    person.hangUp();
    const program = await call(ports.locked);
    program.sayJson(telegram("NYCC", "LET ME IN"));
    expect(await program.hearJson()).toMatchObject({
      status: "error",
      code: "GODWIT_UNAUTHORIZED",
    });
    program.sayJson({ password: "correct horse" });
    expect(await program.hearJson()).toEqual({ status: "welcome" });
    program.sayJson(telegram("NYCC", "THANKS"));
    expect(await program.hearJson()).toMatchObject({ status: "accepted" });
    program.hangUp();
    const guesser = await call(ports.locked);
    guesser.say("one\r\ntwo\r\nthree\r\ncorrect horse\r\n");
    await guesser.closed();
    expect(guesser.transcript).not.toContain("DUN-A");
  }, 30_000);

  test("call from elsewhere is told so and cut off", async () => {
    const stranger = await call(ports.choosy);
    expect(await stranger.hearJson()).toMatchObject({ status: "error", code: "GODWIT_FORBIDDEN" });
    await stranger.closed();
  }, 30_000);

  test("one caller too many is turned away; a stranger gives way; a line that ends makes room", async () => {
    // One line in eight is for callers from elsewhere.
    const held = await Promise.all(Array.from({ length: CONNECTIONS_MAX - 1 }, () => dial(ports.b)));
    const late = await call(ports.b);
    expect(await late.hearJson()).toMatchObject({ code: "GODWIT_TOO_MANY_REQUESTS" });
    await late.closed();
    held[0]!.say("quit\r\n");
    await held[0]!.closed();
    // Who says nothing does not keep out who comes.
    const silent = await call(ports.b);
    const next = await dial(ports.b);
    await silent.closed();
    for (const caller of [...held, next]) caller.hangUp();

    const strangers = await Promise.all(
      Array.from({ length: CONNECTIONS_MAX - 1 }, () => call(ports.locked)),
    );
    for (const stranger of strangers) await stranger.hear(/password: $/);
    const friend = await call(ports.locked);
    friend.say("correct horse\r\n");
    await friend.hear(/DUN-A> $/);
    expect(strangers.filter(({ isClosed }) => isClosed)).toHaveLength(1);
    for (const caller of [...strangers, friend]) caller.hangUp();
  }, 30_000);
});

test("a port that is taken degrades the node and no more, and is used once it comes free", async () => {
  const blocker = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const node = await lab.add({
    callsign: "WAIT-A",
    network: "elsewhere",
    extra: `[services.telex]\ntype = "telex"\nlisten = "127.0.0.1:${blocker.port}"\n`,
  });
  const health = async () =>
    (await (await node.api("/health")).json()) as { status: string; checks: unknown[] };
  try {
    await node.start();
    expect(await health()).toMatchObject({
      status: "degraded",
      checks: expect.arrayContaining([
        expect.objectContaining({
          name: "service.telex",
          status: "degraded",
          reason: expect.stringContaining("cannot listen"),
        }),
      ]),
    });
  } finally {
    blocker.stop(true);
  }
  await node.until("its port", async () => (await health()).status === "ok", 15_000);
  const person = await dial(blocker.port);
  await node.kill("SIGTERM");
  await person.hear(/\*\*\* this node is stopping; goodbye\r\n/);
  await person.closed();
}, 30_000);

test("a secret written into the configuration is refused and not repeated", async () => {
  const node = await lab.add({
    callsign: "LEAK-A",
    extra: '[services.telex]\ntype = "telex"\npassword = "correct horse battery"\n',
  });
  const child = Bun.spawn([binaryPath, "config", "check", "--config", node.configPath], {
    env: {},
    stdout: "ignore",
    stderr: "pipe",
  });
  const words = await new Response(child.stderr).text();
  expect(await child.exited).toBe(78);
  expect(words).toContain("services.telex.password");
  expect(words).not.toContain("horse");
});

test("beyond loopback the node does not start without a password or allow_from", async () => {
  const open = await lab.add({
    callsign: "OPEN-A",
    extra: '[services.telex]\ntype = "telex"\nlisten = "0.0.0.0:8023"\n',
  });
  const child = Bun.spawn([binaryPath, "config", "check", "--config", open.configPath], {
    env: {},
    stdout: "ignore",
    stderr: "pipe",
  });
  const words = await new Response(child.stderr).text();
  expect(await child.exited).toBe(78);
  expect(words).toContain("services.telex.listen");
  expect(words).toContain("allow_from");
});
