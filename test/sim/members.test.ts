/** Small worlds of membership alone for every test run; `bun run sim:members` measures large ones. */
import { describe, expect, test } from "bun:test";
import { AccusationReason, MemberEntryKind, memberSigningBytes } from "../../runtime/wire/member-messages.ts";
import { MembersWorld, type MemberNode, type MembersWorldOptions } from "./members-world.ts";

const SETTLE_MS = 60_000;
const TIMEOUT_MS = 60_000;

function open(options: Partial<MembersWorldOptions>): MembersWorld {
  const world = new MembersWorld({ seed: 1, nodes: 25, degree: 6, loss: 0, ...options });
  world.start();
  world.run(20_000);
  expect(world.disagreements()).toEqual([]);
  return world;
}

/** When each other node concluded `state` of one, ms after now; runs until all did or the time is over. */
function timesOf(world: MembersWorld, of: MemberNode, state: string, limitMs: number): number[] {
  const times = new Map<MemberNode, number>();
  const startMs = world.time.monotonicMs();
  world.changed = (at, subject, found) => {
    if (subject === of && found === state && !times.has(at))
      times.set(at, world.time.monotonicMs() - startMs);
  };
  world.run(limitMs);
  world.changed = () => {};
  return [...times.values()];
}

test("a killed process is known everywhere within half a second", () => {
  const world = open({});
  world.nodes[3]!.kill();
  const times = timesOf(world, world.nodes[3]!, "failed", 500);
  expect(times.length).toBe(24);
});

test("a frozen one within 3 s in a full mesh of 8, within 10 s on sparse links", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    for (const [nodes, degree, limitMs] of [
      [8, 7, 4_000],
      [25, 3, 10_000],
    ] as const) {
      const world = open({ seed, nodes, degree });
      world.nodes[2]!.freeze();
      expect(timesOf(world, world.nodes[2]!, "failed", limitMs).length).toBe(nodes - 1);
    }
  }
});

test("a farewell is not a death", () => {
  const world = open({});
  const gone = world.nodes[4]!;
  const neighbours = [...gone.connections.keys()];
  const leftWallMs = world.time.wallMs();
  gone.leave();
  expect(timesOf(world, gone, "left", 1_000).length).toBe(24);
  world.run(10_000);
  // Its last words count as heard, and not only the link before them.
  expect(neighbours.length).toBeGreaterThan(0);
  for (const { members } of neighbours)
    expect([...members.rows()].find(({ id }) => id === gone.id)?.heardWallMs).toBeGreaterThan(leftWallMs);
  expect(world.nodes.filter((node) => node.isAlive && node.members.stateOf(gone.id) !== "left")).toEqual([]);
  gone.restart();
  world.run(10_000);
  expect(world.disagreements()).toEqual([]);
});

describe("nobody is wrongly given up", () => {
  for (const loss of [0, 0.1, 0.3])
    test(
      `${loss * 100} % loss, event loops that stand still for up to 400 ms, 10 minutes`,
      () => {
        const world = open({ seed: 7, loss: 0, pauseMs: 400 });
        world.loss = loss;
        const wrong: string[] = [];
        world.changed = (at, of, state) => {
          if (state === "failed") wrong.push(`${at.index} gave up ${of.index}`);
        };
        world.run(600_000);
        expect(wrong).toEqual([]);
      },
      TIMEOUT_MS,
    );
});

describe("after the faults all live nodes agree", () => {
  for (let seed = 1; seed <= 12; seed++)
    test(
      `seed ${seed}`,
      () => {
        const world = open({ seed, nodes: 8 + (seed % 5) * 6, degree: 2 + (seed % 4), pauseMs: 300 });
        world.loss = seed % 3 === 0 ? 0.2 : 0;
        for (let i = 0; i < 30; i++) {
          const node = world.nodes[world.random.below(world.nodes.length)]!;
          const what = world.random.below(6);
          if (what === 0 && node.isAlive) node.kill();
          else if (what === 1 && !node.isAlive) node.restart();
          else if (what === 2 && node.isAlive) node.freeze();
          else if (what === 3) node.thaw();
          else if (what === 4) {
            const middle = world.random.below(world.nodes.length);
            world.partition(({ index }) => (index < middle ? 0 : 1));
          } else world.side = () => 0;
          world.run(8_000 * world.random.float());
        }
        world.side = () => 0;
        world.loss = 0;
        for (const node of world.nodes) node.thaw();
        world.run(SETTLE_MS);
        expect(world.disagreements()).toEqual([]);
      },
      TIMEOUT_MS,
    );
});

test("a halved world heals, and the repair costs what is different", () => {
  const world = open({ nodes: 60 });
  world.partition(({ index }) => (index < 30 ? 0 : 1));
  world.run(30_000);
  world.repair = { frames: 0, bytes: 0 };
  world.side = () => 0;
  world.run(SETTLE_MS);
  expect(world.disagreements()).toEqual([]);
  // One side's rises are news to the other; nothing like the 60 x 60 rows of the whole.
  expect(world.repair.bytes / world.nodes.length).toBeLessThan(30_000);
});

describe("a liar", () => {
  const accuse = (liar: MemberNode, victim: MemberNode): void => {
    const unsigned = {
      kind: MemberEntryKind.accusation,
      node: victim.id,
      incarnation: victim.members.own.incarnation,
      reason: AccusationReason.silent,
      accuser: liar.id,
    };
    const signature = liar.sign(memberSigningBytes("sim", unsigned));
    liar.members.gossip.spread({ ...unsigned, signature }, undefined, true);
  };

  test("accuses everybody again and again: nobody is given up, and soon nobody listens", () => {
    const world = open({ degree: 4 });
    const liar = world.nodes[5]!;
    const failed: string[] = [];
    world.changed = (at, of, state) => {
      if (at !== liar && state === "failed") failed.push(`${at.index} gave up ${of.index}`);
    };
    const start = world.nodes.map(({ members }) => members.own.incarnation);
    const at = [...start];
    for (let second = 0; second < 120; second++) {
      for (const victim of world.nodes) if (victim !== liar) accuse(liar, victim);
      world.run(1_000);
      for (const node of world.nodes) at[node.index] = node.members.own.incarnation;
    }
    expect(failed).toEqual([]);
    const raises = at.map((incarnation, index) => incarnation - start[index]!);
    world.run(SETTLE_MS);
    expect(world.disagreements()).toEqual([]);
    // It was refuted, but seldom: it lost its credit.
    expect(Math.max(...raises)).toBeGreaterThan(0);
    expect(Math.max(...raises)).toBeLessThan(20);
  });

  test("cannot sign for others: forged farewells and lives change nothing", () => {
    const world = open({});
    const liar = world.nodes[5]!;
    const victim = world.nodes[6]!;
    const believed: string[] = [];
    world.changed = (at, of, state) => believed.push(`${at.index} takes ${of.index} for ${state}`);
    const before = victim.members.own.incarnation;
    for (const kind of [MemberEntryKind.left, MemberEntryKind.alive]) {
      const unsigned = { kind, node: victim.id, incarnation: victim.members.own.incarnation + 9 };
      const signature = liar.sign(memberSigningBytes("sim", unsigned));
      liar.members.gossip.spread({ ...unsigned, signature }, undefined, true);
      world.run(5_000);
    }
    expect(believed).toEqual([]);
    expect([victim.members.own.incarnation, world.disagreements()]).toEqual([before, []]);
  });
});

test("the same seed gives the same run", () => {
  const run = () => {
    const world = open({ seed: 9, loss: 0.1, pauseMs: 200, nodes: 12 });
    world.nodes[2]!.kill();
    world.run(30_000);
    return [world.news, world.repair];
  };
  expect(run()).toEqual(run());
});
