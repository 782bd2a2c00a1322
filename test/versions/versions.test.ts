/**
 * The previous release beside the build of this tree, as real processes: links and relays between them, a state folder
 * that moves from one to the other with mail in it, and a ring that is updated node by node under load.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { previousRelease, releaseBinary } from "../../scripts/releases.ts";
import { briefOf } from "../../runtime/identity/brief.ts";
import type { Identity } from "../../runtime/identity/keys.ts";
import { encodeRecord, MAIL_SESSIONS, peekRecord } from "../../runtime/identity/record.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { encodeLookup, encodeLookupReply } from "../../runtime/wire/lookup-messages.ts";
import { decodeProbeReply, encodeProbe } from "../../runtime/wire/peer-messages.ts";
import { Member } from "../hostile/member.ts";

const DELIVERY_MS = 30_000;
let lab: Lab;
let previous: string;

interface Mail {
  readonly id: string;
  readonly state: string;
  readonly from: string;
  readonly size: number;
}

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  previous = await releaseBinary(previousRelease);
  lab = await Lab.create();
}, 240_000);

afterAll(async () => {
  await lab?.close();
});

/** A line of three named `<prefix>-A` to `-C`, each calling the one before it; `old` says who runs the previous release. */
async function line(prefix: string, old: readonly boolean[]): Promise<LabNode[]> {
  const nodes: LabNode[] = [];
  for (const [index, isOld] of old.entries()) {
    const before = nodes.at(-1);
    nodes.push(
      await lab.add({
        callsign: `${prefix}-${"ABC"[index]}`,
        network: prefix.toLowerCase(),
        ...(before === undefined ? {} : { peers: [before.endpoint] }),
        // This tree's tell their neighbours the time.
        ...(isOld ? { command: [previous], linksWanted: null } : { nodeExtra: 'clock = "trusted"' }),
      }),
    );
  }
  await Promise.all(nodes.map((node) => node.start()));
  return nodes;
}

const versionOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { version: string } }>("/mesh/status")).node.version;

const delivered = async (node: LabNode, ids: readonly string[]): Promise<boolean> => {
  for (const id of ids)
    if ((await node.json<{ state: string }>(`/messages/${id}`)).state !== "delivered") return false;
  return true;
};

/** Ends the node. */
async function sessionsKept(node: LabNode): Promise<number> {
  await node.kill("SIGTERM");
  const db = new Database(join(node.stateDir, "godwit.db"), { readonly: true });
  try {
    return Number(db.query('SELECT count(*) FROM "session"').values()[0]![0]);
  } finally {
    db.close();
  }
}

const inboxBodies = async (node: LabNode): Promise<string[]> => {
  const bodies: string[] = [];
  for (const { id } of await node.box<Mail>("inbox"))
    bodies.push((await node.json<{ body: string }>(`/messages/${id}`)).body);
  return bodies.sort();
};

test("the previous release is another build", async () => {
  const [a, b] = await line("WHO", [true, false]);
  expect(await versionOf(a!)).toBe(previousRelease.version);
  expect(await versionOf(b!)).not.toBe(previousRelease.version);
});

const mixes: readonly (readonly [string, readonly [boolean, boolean, boolean]])[] = [
  ["OON", [true, true, false]],
  ["ONO", [true, false, true]],
  ["NON", [false, true, false]],
];
for (const [name, old] of mixes) {
  test(`mail and receipts cross ${old.map((isOld) => (isOld ? "old" : "new")).join(" - ")} both ways`, async () => {
    const [a, , c] = await line(name, old);
    // So large that either end lets the other send ahead, and that relays send on what still arrives.
    const big = "x".repeat(6_000_000);
    const there = [
      await a!.send({ to: `${name}-C`, body: "there" }),
      await a!.send({ to: `${name}-C`, body: big }),
    ];
    const back = [
      await c!.send({ to: `${name}-A`, body: "back" }),
      await c!.send({ to: `${name}-A`, body: big }),
    ];
    await a!.until("receipts from C", () => delivered(a!, there), DELIVERY_MS);
    await c!.until("receipts from A", () => delivered(c!, back), DELIVERY_MS);
    expect((await c!.box<Mail>("inbox")).length).toBe(2);
    expect((await a!.box<Mail>("inbox")).length).toBe(2);
    // Mail sessions are between those alone that both know them, whoever carries the mail.
    const sessions = old[0] || old[2] ? 0 : 1;
    for (const [end, isOld] of [
      [a!, old[0]],
      [c!, old[2]],
    ] as const)
      if (!isOld) expect(await sessionsKept(end)).toBe(sessions);
  }, 60_000);
}

test("the previous release reads records with brief ones, and brief ones, and skips questions for names", async () => {
  const [old] = await line("SKP", [true]);
  const recordOf = (identity: Identity, callsign: string) => {
    const prekey = { keyId: 7, publicKey: identity.dh.publicKey };
    const fields = { sequence: Date.now(), callsign, capabilities: [MAIL_SESSIONS], prekey, withBrief: true };
    return encodeRecord(identity, fields, "skp");
  };
  const records = [
    (identity: Identity) => recordOf(identity, "SKP-W"),
    (identity: Identity) => briefOf(peekRecord(recordOf(identity, "SKP-X")))!,
  ];
  const names = new Map<string, string>();
  for (const record of records) {
    const answers = new Set<number>();
    const member = new Member({
      network: "skp",
      record,
      hears: (frame) => void (frame[0] === FrameType.probeReply && answers.add(decodeProbeReply(frame))),
    });
    await member.join(old!);
    const lookup = {
      subject: { kind: "name", name: "SKP-A" },
      newerThan: undefined,
      wantsProof: true,
    } as const;
    member.send(encodeLookup(lookup));
    member.send(encodeLookupReply({ kind: "record", record: record(member.identity) }));
    member.send(encodeProbe(4_711));
    await old!.until("its answer", () => Promise.resolve(answers.has(4_711)), DELIVERY_MS);
    expect(member.isClosed).toBe(false);
    names.set(peekRecord(record(member.identity)).callsign!, member.identity.id);
    member.leave();
  }
  const held = (await old!.json<{ names: { name: string; node: string }[] }>("/mesh/names")).names;
  expect(new Map(held.map(({ name, node }) => [name, node]))).toEqual(names);
}, 60_000);

test("a state folder of the previous release opens with its identity, mail and names", async () => {
  const sender = await lab.add({ callsign: "MIG-A", network: "mig", command: [previous], linksWanted: null });
  const recipient = await lab.add({ callsign: "MIG-B", network: "mig", peers: [sender.endpoint] });
  await sender.start();
  const idBefore = (await sender.json<{ node: { id: string } }>("/mesh/status")).node.id;
  const ids: string[] = [];
  for (let index = 0; index < 20; index++)
    ids.push(await sender.send({ to: "MIG-B", body: `waiting ${index}`, idempotency_key: `key ${index}` }));
  await sender.kill("SIGKILL");

  await sender.reconfigure({ command: [binaryPath], linksWanted: 0 });
  await sender.start();
  expect((await sender.json<{ node: { id: string } }>("/mesh/status")).node.id).toBe(idBefore);
  expect(await sender.send({ to: "MIG-B", body: "waiting 3", idempotency_key: "key 3" })).toBe(ids[3]!);
  await recipient.start();
  await sender.until("receipts", () => delivered(sender, ids), DELIVERY_MS);
  expect(await inboxBodies(recipient)).toEqual(ids.map((_, index) => `waiting ${index}`).sort());
}, 60_000);

test("the previous release refuses a store of this one that was killed with mail in its log alone, and leaves it as it is", async () => {
  const node = await lab.add({ callsign: "BCK-A", network: "bck" });
  await node.start();
  const bodies = ["one", "two", "three"];
  const ids = [];
  for (const body of bodies) ids.push(await node.send({ to: "BCK-Z", body }));
  await node.kill("SIGKILL");
  await node.reconfigure({ command: [previous], linksWanted: null });
  const child = Bun.spawn([previous, "run", "--config", node.configPath], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = await new Response(child.stderr).text();
  expect(await child.exited).not.toBe(0);
  expect(said).toContain("run the newer version");
  await node.reconfigure({ command: [binaryPath], linksWanted: 0 });
  await node.start();
  const outbox = await node.box<Mail>("outbox");
  expect(outbox.map(({ id }) => id).sort()).toEqual(ids.sort());
  expect((await node.json<{ status: string }>("/health")).status).toBe("ok");
}, 60_000);

test("a ring is updated node by node under load: nothing lost, nothing twice", async () => {
  const nodes: LabNode[] = [];
  for (const name of ["UPD-A", "UPD-B", "UPD-C"])
    nodes.push(await lab.add({ callsign: name, network: "upd", command: [previous], linksWanted: null }));
  const endpoints = nodes.map((node) => node.endpoint);
  for (const node of nodes) {
    await node.configure(endpoints.filter((endpoint) => endpoint !== node.endpoint));
    await node.start();
  }
  const sent = new Map<LabNode, string[]>(nodes.map((node) => [node, []]));
  const expected = new Map<string, string[]>(nodes.map((node) => [node.callsign, []]));
  let round = 0;
  const sendRound = async (except?: LabNode) => {
    round++;
    for (const from of nodes)
      for (const to of nodes) {
        if (from === to || from === except) continue;
        const body = `${from.callsign} to ${to.callsign} ${round}`;
        sent.get(from)!.push(await from.send({ to: to.callsign, body }));
        expected.get(to.callsign)!.push(body);
      }
  };
  await sendRound();
  for (const node of nodes) {
    const stopping = node.kill("SIGTERM");
    await sendRound(node);
    await stopping;
    await node.reconfigure({ command: [binaryPath], linksWanted: 0 });
    await node.start();
    await sendRound();
  }
  for (const node of nodes) {
    await node.until("its receipts", () => delivered(node, sent.get(node)!), DELIVERY_MS);
    expect(await versionOf(node)).not.toBe(previousRelease.version);
  }
  for (const node of nodes) expect(await inboxBodies(node)).toEqual(expected.get(node.callsign)!.sort());
}, 120_000);
