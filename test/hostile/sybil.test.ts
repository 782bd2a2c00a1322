/**
 * Attacks on who knows whom, with real nodes: a thousand identities at one node that try to take its places, its memory
 * and its links, and forged and replayed statements of membership. Other attacks of the kind stand in test/membership
 * (accusations), test/trust (revocations, names, clocks) and test/join (tokens used twice).
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { PEERS_KEPT, PEERS_MAX } from "../../runtime/peer/peers.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import {
  decodeMemberFacts,
  decodeMemberSync,
  encodeMemberFacts,
  encodeMemberSync,
  MemberEntryKind,
  memberSigningBytes,
  type MemberEntry,
  type MemberFact,
} from "../../runtime/wire/member-messages.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { membersOf, MemberWatch } from "../membership/mesh.ts";
import { Member } from "./member.ts";
import { metricOf, vitalsOf } from "./watch.ts";

const NETWORK = "lab";
const SYBILS = 1_000;
const AT_ONCE = 25;
/** Resident memory that a thousand neighbours may cost while they are there, and a while after they have gone, MB. */
const GROWTH_MAX_MB = 200;
const WAIT_MS = 30_000;
const TEST_MS = 150_000;

interface PeerRow {
  readonly id: string;
  readonly state: string;
  readonly trust: string;
}

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
});
afterAll(() => lab?.close());

const idOf = async (node: LabNode): Promise<NodeId> =>
  parseNodeId((await node.json<{ node: { id: string } }>("/mesh/status")).node.id);
const peersOf = async (node: LabNode): Promise<PeerRow[]> =>
  (await node.json<{ peers: PeerRow[] }>("/mesh/peers?all=true")).peers;
const linkedTo = async (node: LabNode): Promise<string[]> =>
  (await peersOf(node)).filter(({ state }) => state === "connected").map(({ id }) => id);
const trustedBy = async (node: LabNode): Promise<string[]> =>
  (await peersOf(node)).filter(({ trust }) => trust === "trusted").map(({ id }) => id);

async function deliver(from: LabNode, to: NodeId): Promise<void> {
  const id = await from.send({ to, body: "x" });
  await from.until(
    "the receipt",
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    WAIT_MS,
  );
}

async function openLine(name: string): Promise<[LabNode, LabNode, LabNode]> {
  await lab?.close();
  lab = await Lab.create();
  const add = (letter: string, peers: readonly LabNode[], linksWanted = 0) =>
    lab.add({
      callsign: `${name}-${letter}`,
      peers: peers.map(({ endpoint }) => endpoint),
      linksWanted,
    });
  const b = await add("B", []);
  const a = await add("A", [b]);
  const c = await add("C", [b]);
  await Promise.all(lab.nodes.map((node) => node.start()));
  for (const node of [a, b, c])
    await node.until("three members", async () => (await membersOf(node)).length === 3, WAIT_MS);
  return [a, b, c];
}

/** What any node says of itself. */
function factOf({ identity }: Member, kind: MemberFact["kind"] = MemberEntryKind.alive, incarnation = 1) {
  const unsigned = { kind, node: identity.id, incarnation };
  return { ...unsigned, signature: identity.sign(memberSigningBytes(NETWORK, unsigned)) };
}

test(
  "1,000 identities at one node: honest links stay, who is known comes back, a newcomer is not cut off, nobody is trusted",
  async () => {
    const [a, b, c] = await openLine("SYB");
    const [idA, idB, idC] = (await Promise.all([a, b, c].map(idOf))) as [NodeId, NodeId, NodeId];
    await b.json(`/mesh/peers/${idC}/trust`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ level: "trusted", reason: "test" }),
    });
    const before = [a, b, c].map(vitalsOf);
    const watch = await MemberWatch.open(b);
    // Whoever believes their records calls a port that takes connections and says nothing.
    const trap = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const sybils: Member[] = [];
    try {
      const endpoints = [`tcp://127.0.0.1:${trap.port}`];
      const startedMs = performance.now();
      for (let at = 0; at < SYBILS; at += AT_ONCE)
        await Promise.all(
          Array.from({ length: AT_ONCE }, async () => {
            const sybil = new Member({ network: NETWORK, endpoints });
            sybils.push(sybil);
            await sybil.join(b);
            await sybil.meet().catch(() => {});
            if (sybil.isClosed) return;
            sybil.send(encodeMemberFacts({ isRepair: false, entries: [factOf(sybil)] }));
            await sybil.advertiseItself();
          }),
        );
      const inside = sybils.filter(({ isClosed }) => !isClosed).length;
      const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
      // Strangers get no more than their share of the places; the two honest ones took theirs before.
      expect(inside).toBeGreaterThan(900);
      expect((await linkedTo(b)).length).toBeLessThanOrEqual(PEERS_MAX - PEERS_KEPT);
      expect(await metricOf(b, "godwit_peers_refused_total")).toBeGreaterThanOrEqual(
        SYBILS + 2 - (PEERS_MAX - PEERS_KEPT),
      );

      expect(await linkedTo(b)).toEqual(expect.arrayContaining([idA, idC]));
      await deliver(a, idC);
      // Known and gone for a moment: it finds a place, although strangers hold all of theirs.
      await c.kill("SIGKILL");
      await c.start();
      await c.until("its link", async () => (await linkedTo(c)).includes(idB), WAIT_MS);
      await deliver(c, idA);

      // A newcomer in the middle of it all, which seeks links of its own accord.
      const fresh = await lab.add({ callsign: "SYB-F", peers: [a.endpoint], linksWanted: 4 });
      await fresh.start();
      const idF = await idOf(fresh);
      await fresh.until(
        "routes to the honest ones",
        async () => {
          const { routes } = await fresh.json<{ routes: { destination: string }[] }>("/mesh/routes");
          return [idA, idB, idC].every((id) => routes.some(({ destination }) => destination === id));
        },
        WAIT_MS,
      );
      await fresh.until(
        "calls to identities",
        async () => (await metricOf(fresh, "godwit_peer_links_sought")) > 0,
        WAIT_MS,
      );
      await deliver(fresh, idC);
      expect(await metricOf(fresh, "godwit_peer_links_sought")).toBeLessThanOrEqual(8);
      expect(await linkedTo(fresh)).toContain(idA);
      expect(await linkedTo(a)).toContain(idF);

      for (const node of [a, c, fresh]) expect(await trustedBy(node)).toEqual([]);
      expect(await trustedBy(b)).toEqual([idC]);
      const during = [a, b, c].map(vitalsOf);
      const grown = during.map(({ rssMb }, i) => Math.round(rssMb - before[i]!.rssMb));
      console.log(
        `  ${SYBILS} identities in ${seconds} s, ${inside} inside; memory of A, B, C +${grown.join(", +")} MB`,
      );
      for (const mb of grown) expect(mb).toBeLessThan(GROWTH_MAX_MB);
      // Nobody honest was given up but the one that was killed.
      const wrong = watch.events.filter(
        ({ type, id }) => type === "member.failed" && (id === idA || id === idF),
      );
      expect(wrong).toEqual([]);
    } finally {
      watch.close();
      for (const sybil of sybils) sybil.leave();
      trap.stop(true);
    }
    await b.until("the places to be free", async () => (await linkedTo(b)).length <= 3, WAIT_MS);
    await b.until(
      "honest members alive, the others failed",
      async () => {
        const alive = (await membersOf(b)).filter(({ state }) => state === "alive").map(({ id }) => id);
        return alive.length === 4 && [idA, idB, idC].every((id) => alive.includes(id));
      },
      WAIT_MS,
    );
  },
  TEST_MS,
);

test(
  "forged statements of membership, and true ones played again, change nothing",
  async () => {
    const [a, b, c] = await openLine("REP");
    const [idA, idB, idC] = (await Promise.all([a, b, c].map(idOf))) as [NodeId, NodeId, NodeId];
    const heard: MemberEntry[] = [];
    const spy = await new Member({
      network: NETWORK,
      hears: (frame) => {
        if (frame[0] === FrameType.memberFacts) heard.push(...decodeMemberFacts(frame.slice()).entries);
        if (frame[0] === FrameType.memberSync) heard.push(...decodeMemberSync(frame.slice()).entries);
      },
    }).join(b);
    const newest = (kind: number) =>
      heard.findLast((entry) => entry.node === idC && entry.kind === kind) as MemberFact | undefined;
    const untilHeard = (kind: number) =>
      b.until("the spy to hear it", async () => newest(kind) !== undefined, WAIT_MS);
    try {
      spy.send(encodeMemberFacts({ isRepair: false, entries: [factOf(spy)] }));
      // Asks for all that B holds, as a newcomer does.
      spy.send(encodeMemberSync({ depth: 0, prefix: 0, entries: [] }));
      await untilHeard(MemberEntryKind.alive);
      const early = newest(MemberEntryKind.alive)!;
      await c.kill("SIGTERM");
      await untilHeard(MemberEntryKind.left);
      const farewell = newest(MemberEntryKind.left)!;
      await c.start();
      for (const node of [a, b])
        await node.until(
          "it to be alive again",
          async () => (await membersOf(node)).find(({ id }) => id === idC)?.state === "alive",
          WAIT_MS,
        );
      const watches = await Promise.all([a, b].map((node) => MemberWatch.open(node)));
      const bySignature = await metricOf(b, "godwit_member_entries_dropped_total");
      const incarnations = async () =>
        new Map((await membersOf(a)).map(({ id, incarnation }) => [id, incarnation]));
      const known = await incarnations();

      const forged = [idA, idC].flatMap((node) =>
        ([MemberEntryKind.left, MemberEntryKind.alive] as const).map((kind) => {
          const unsigned = { kind, node, incarnation: known.get(node)! + 1_000 };
          return { ...unsigned, signature: spy.identity.sign(memberSigningBytes(NETWORK, unsigned)) };
        }),
      );
      const bent = { ...farewell, incarnation: known.get(idC)! + 1 };
      for (let round = 0; round < 20; round++) {
        spy.send(
          encodeMemberFacts({ isRepair: round % 2 === 0, entries: [...forged, bent, early, farewell] }),
        );
        spy.send(encodeMemberSync({ depth: 0, prefix: 0, entries: [early, farewell] }));
      }
      // Behind them in the same stream: when this is known, they were read.
      spy.send(encodeMemberFacts({ isRepair: false, entries: [factOf(spy, MemberEntryKind.alive, 7)] }));
      await a.until(
        "what the spy says of itself",
        async () => (await membersOf(a)).find(({ id }) => id === spy.identity.id)?.incarnation === 7,
        WAIT_MS,
      );
      expect(spy.isClosed).toBe(false);
      expect((await metricOf(b, "godwit_member_entries_dropped_total")) - bySignature).toBe(
        20 * (forged.length + 1),
      );
      const after = await incarnations();
      for (const id of [idA, idB, idC]) expect([id, after.get(id)]).toEqual([id, known.get(id)]);
      for (const watch of watches) {
        const wrong = watch.events.filter(({ id }) => [idA, idB, idC].includes(id as NodeId));
        expect(wrong).toEqual([]);
        watch.close();
      }
    } finally {
      spy.leave();
    }
  },
  TEST_MS,
);

test(
  "a flood of hints: dials stay few, the honest link stands, memory is bounded",
  async () => {
    await lab?.close();
    lab = await Lab.create();
    const [files, entries, rounds] = [4, 1_000, 4];
    const hintFiles = Array.from({ length: files }, (_, i) => join(lab.dir, `hints-${i}`));
    const b = await lab.add({ callsign: "HNT-B" });
    const a = await lab.add({
      callsign: "HNT-A",
      peers: [b.endpoint],
      extra: hintFiles
        .map((path, i) => `[discovery.flood_${i}]\ntype = "static"\nfile = "${path}"\n`)
        .join("\n"),
    });
    const stranger = new Member({ network: NETWORK }).identity.id;
    // Some name the honest node's own address with an id that is not its own.
    const flood = () =>
      Promise.all(
        hintFiles.map((path) =>
          writeFile(
            path,
            `${b.endpoint}#${stranger}\n` +
              Array.from(
                { length: entries },
                () =>
                  `tcp://127.${1 + Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}.1:${1 + Math.floor(Math.random() * 1_000)}`,
              ).join("\n"),
          ),
        ),
      );
    await flood();
    await Promise.all([a.start(), b.start()]);
    const [idA, idB] = [await idOf(a), await idOf(b)];
    await a.until("the honest link", async () => (await linkedTo(a)).includes(idB), WAIT_MS);
    const hintsOf = async () => (await a.json<{ hints: { endpoint: string }[] }>("/mesh/discovery")).hints;
    await a.until("the flood", async () => (await hintsOf()).length > (files * entries) / 2, WAIT_MS);
    const [before, dialsBefore, startedMs] = [
      vitalsOf(a),
      await metricOf(a, "godwit_dials_total"),
      performance.now(),
    ];
    for (let round = 0; round < rounds; round++) {
      const first = (await hintsOf()).at(-1)!.endpoint;
      await flood();
      await a.until(
        "other hints",
        async () => !(await hintsOf()).some(({ endpoint }) => endpoint === first && endpoint !== b.endpoint),
        WAIT_MS,
        100,
      );
      await deliver(a, idB);
    }
    const seconds = (performance.now() - startedMs) / 1_000;
    const dials = (await metricOf(a, "godwit_dials_total")) - dialsBefore;
    console.log(
      `  ${rounds} floods of ${files * entries} hints in ${seconds.toFixed(1)} s: ${dials} dials, ${Math.round(vitalsOf(a).rssMb - before.rssMb)} MB more`,
    );
    expect((await hintsOf()).length).toBeLessThanOrEqual(files * (entries + 1) + 10);
    // 256 a second of what an operator's file says, 512 at once.
    expect(dials).toBeLessThan(512 + 256 * (seconds + 1));
    // What answers of a megabyte left behind is collected in a moment.
    await a.until("memory to come back", async () => vitalsOf(a).rssMb - before.rssMb < 60, WAIT_MS, 100);
    expect(await linkedTo(a)).toEqual([idB]);
    expect(await linkedTo(b)).toEqual([idA]);
    expect((await a.json<{ status: string }>("/health")).status).toBe("ok");
  },
  TEST_MS,
);
