/**
 * What real nodes say of each other: killed, frozen, leaving, cut off, coming back, coming new, and lied about. Times
 * are printed; what is asserted has slack for a machine that does other things as well.
 */
import { afterAll, expect, test } from "bun:test";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { Slowness } from "../../scripts/slowness.ts";
import { parseNodeId } from "../../runtime/kernel/ids.ts";
import {
  AccusationReason,
  encodeMemberFacts,
  MemberEntryKind,
  memberSigningBytes,
} from "../../runtime/wire/member-messages.ts";
import { Wire } from "../chaos/wire.ts";
import { Member } from "../hostile/member.ts";
import { idOf, membersOf, MemberWatch, startNodes, stateAt, untilAgreed } from "./mesh.ts";

const NODES = 5;
const KILL_LIMIT_MS = 1_000;
const FREEZE_LIMIT_MS = 10_000;
const TIMEOUT_MS = 90_000;

const labs: Lab[] = [];
afterAll(() => Promise.all(labs.map((lab) => lab.close())));

async function openLab(): Promise<Lab> {
  const lab = await Lab.create();
  labs.push(lab);
  return lab;
}

const report = (what: string, times: readonly number[]): void =>
  console.log(`  ${what}: ${times.map((ms) => `${Math.round(ms)} ms`).join(", ")}`);

const until = (node: LabNode, what: string, check: () => Promise<boolean>, timeoutMs = 15_000) =>
  node.until(what, check, timeoutMs);

test(
  "full mesh: killed, frozen, left, a fourth machine more",
  async () => {
    const lab = await openLab();
    const nodes = await startNodes(lab, NODES, "full");
    await untilAgreed(nodes);
    const [killed, frozen, leaver, ...rest] = nodes as [LabNode, LabNode, LabNode, ...LabNode[]];
    const ids = await Promise.all(nodes.map(idOf));
    const watches = await Promise.all(rest.map((node) => MemberWatch.open(node)));

    using slowness = new Slowness();
    let startMs = performance.now();
    killed.signal("SIGKILL");
    const killTimes = await Promise.all(watches.map((watch) => watch.at("member.failed", ids[0]!, 10_000)));
    report(
      "killed",
      killTimes.map((atMs) => atMs - startMs),
    );
    expect(Math.max(...killTimes) - startMs).toBeLessThan(KILL_LIMIT_MS * slowness.factor);
    await killed.kill("SIGKILL");
    const wentDown = await membersOf(rest[0]!);
    expect(wentDown.find(({ id }) => id === ids[0])).toMatchObject({
      state: "failed",
      reason: "link closed",
    });

    startMs = performance.now();
    frozen.signal("SIGSTOP");
    try {
      const times = await Promise.all(watches.map((watch) => watch.at("member.failed", ids[1]!, 20_000)));
      report(
        "frozen",
        times.map((atMs) => atMs - startMs),
      );
      expect(Math.max(...times) - startMs).toBeLessThan(FREEZE_LIMIT_MS * slowness.factor);
    } finally {
      frozen.signal("SIGCONT");
    }
    await Promise.all(
      rest.map((node) =>
        until(node, "the thawed one to live", async () => (await stateAt(node, ids[1]!)) === "alive"),
      ),
    );

    startMs = performance.now();
    await leaver.kill("SIGTERM");
    const leaveTimes = await Promise.all(watches.map((watch) => watch.at("member.left", ids[2]!, 10_000)));
    report(
      "left",
      leaveTimes.map((atMs) => atMs - startMs),
    );
    await Promise.all([killed.start(), leaver.start()]);
    // Added by starting it: nobody else's file changes.
    const fresh = await lab.add({ callsign: "MEM-9", peers: [rest[0]!.endpoint] });
    startMs = performance.now();
    await fresh.start();
    await untilAgreed([...nodes, fresh]);
    report("everybody back and a new one known", [performance.now() - startMs]);
    const wrong = watches.flatMap((watch) =>
      watch.events.filter(({ type, id }) => type === "member.failed" && id !== ids[0] && id !== ids[1]),
    );
    expect(wrong).toEqual([]);
    for (const watch of watches) watch.close();
  },
  TIMEOUT_MS,
);

test(
  "hub restarted, a neighbour gone from the peers and back, a line cut and healed",
  async () => {
    const lab = await openLab();
    const a = await lab.add({ callsign: "DUN-A", advertise: [] });
    const hub = await lab.add({ callsign: "LON-B", advertise: [] });
    const c = await lab.add({ callsign: "NYC-C", advertise: [] });
    const wire = await Wire.open(() => hub.linkPort);
    try {
      await a.configure([wire.endpoint]);
      await c.configure([hub.endpoint]);
      const nodes = [a, hub, c];
      await Promise.all(nodes.map((node) => node.start()));
      await untilAgreed(nodes);
      const [idA, idHub, idC] = (await Promise.all(nodes.map(idOf))) as [string, string, string];
      const isPeer = async (node: LabNode, id: string) =>
        (await node.json<{ peers: { id: string; state: string }[] }>("/mesh/peers")).peers.some(
          (peer) => peer.id === id && peer.state === "connected",
        );

      let startMs = performance.now();
      await hub.kill("SIGKILL");
      await until(a, "the hub to be gone", async () => !(await isPeer(a, idHub)), 5_000);
      await until(a, "the far end to be failed", async () => (await stateAt(a, idC)) === "failed");
      expect(await stateAt(a, idHub)).toBe("failed");
      const goneMs = performance.now() - startMs;
      startMs = performance.now();
      await hub.start();
      await until(a, "the hub to be back", () => isPeer(a, idHub), 10_000);
      await untilAgreed(nodes);
      report("hub gone, back", [goneMs, performance.now() - startMs]);

      // Stopped politely, and cut off without a word: gone within 5 s for whoever asks, back within 10 s.
      startMs = performance.now();
      await c.kill("SIGTERM");
      await until(hub, "the stopped one to be gone", async () => !(await isPeer(hub, idC)), 5_000);
      const stoppedMs = performance.now() - startMs;
      startMs = performance.now();
      await c.start();
      await until(hub, "the stopped one to be back", () => isPeer(hub, idC), 10_000);
      report("stopped and gone, back", [stoppedMs, performance.now() - startMs]);
      await untilAgreed(nodes);
      startMs = performance.now();
      wire.silence("both");
      await until(a, "the silent one to be gone", async () => !(await isPeer(a, idHub)), 5_000);
      const silentMs = performance.now() - startMs;
      startMs = performance.now();
      wire.heal();
      await until(a, "the silent one to be back", () => isPeer(a, idHub), 10_000);
      report("silent and gone, back", [silentMs, performance.now() - startMs]);
      await untilAgreed(nodes);

      wire.cut();
      await until(c, "the cut one to be failed", async () => (await stateAt(c, idA)) === "failed");
      await until(a, "the others to be failed", async () => (await stateAt(a, idC)) === "failed");
      startMs = performance.now();
      wire.heal();
      await untilAgreed(nodes);
      report("agreed after the cut", [performance.now() - startMs]);
    } finally {
      await wire.close();
    }
  },
  TIMEOUT_MS,
);

test(
  "a member that accuses everybody changes nothing",
  async () => {
    const lab = await openLab();
    const nodes = await startNodes(lab, 3, "line");
    await untilAgreed(nodes);
    const watches = await Promise.all(nodes.map((node) => MemberWatch.open(node)));
    const liar = await new Member({ network: "lab" }).join(nodes[1]!);
    for (let round = 0; round < 20; round++) {
      const members = await membersOf(nodes[0]!);
      const entries = members.map(({ id, incarnation }) => {
        const unsigned = {
          kind: MemberEntryKind.accusation,
          node: parseNodeId(id),
          incarnation,
          reason: AccusationReason.silent,
          accuser: liar.identity.id,
        };
        return { ...unsigned, signature: liar.identity.sign(memberSigningBytes("lab", unsigned)) };
      });
      liar.send(encodeMemberFacts({ isRepair: false, entries }));
      await Bun.sleep(50);
    }
    expect(liar.isClosed).toBe(false);
    const ids = await Promise.all(nodes.map(idOf));
    const incarnations = (await membersOf(nodes[0]!)).map(({ incarnation }) => incarnation % 2 ** 24);
    // It was heard, and refuted; then it was not heard any more.
    expect(Math.max(...incarnations)).toBeGreaterThan(0);
    expect(Math.max(...incarnations)).toBeLessThan(12);
    await untilAgreed(nodes);
    for (const watch of watches) {
      expect(watch.events.filter(({ type, id }) => type === "member.failed" && ids.includes(id))).toEqual([]);
      watch.close();
    }
    liar.leave();
  },
  TIMEOUT_MS,
);
