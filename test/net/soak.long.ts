/**
 * A day in an hour: eight nodes in namespaces under load, one fault after the other. Nothing is lost or comes twice, memory
 * and descriptors stay where they are, and every error that was logged is one that the faults explain.
 * `SOAK_MINUTES=n` for another length, `SOAK_SEED=n` for the same order of faults.
 */
import { afterAll, expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { NetLink } from "../../scripts/netlab-parts.ts";
import { closeMeshes, report, scenario, type NetMesh } from "./net-mesh.ts";

afterAll(closeMeshes);

const MINUTES = Number(process.env["SOAK_MINUTES"] ?? 60);
const SEED = Number(process.env["SOAK_SEED"] ?? Date.now() % 1_000_000);
const CALLSIGNS = ["DUN-A", "LON-B", "NYC-C", "PAR-D", "OSL-E", "ROM-F", "BER-G", "MAD-H"];
const SEND_EVERY_MS = 100;
const FAULT_MS = 6_000;
const HEALED_MS = 4_000;
const SAMPLE_MS = 15_000;
const SETTLE_MS = 180_000;
/** Of a node that ran through: the second half of its life against the half before. */
const GROWTH_MB_MAX = 25;
const DESCRIPTORS_MORE_MAX = 24;
/** What the faults make nodes complain of, and why that is right. */
const EXPLAINED: readonly (readonly [RegExp, string])[] = [
  [/"event":"plugin failed".*cannot listen/, "a restarted node found its port not yet free"],
];

interface Sample {
  readonly atMs: number;
  readonly rssMb: number;
  readonly descriptors: number;
}

function vitals(pid: number): Omit<Sample, "atMs"> | undefined {
  try {
    const kilobytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return { rssMb: Number(kilobytes) / 1_024, descriptors: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return undefined; // it has just been killed
  }
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

/** A ring with two chords, so that one fault never cuts anybody off for good. */
async function build(mesh: NetMesh): Promise<NetLink[]> {
  const hosts = CALLSIGNS.map((callsign) => mesh.net.host(callsign));
  const pairs = [...CALLSIGNS.map((_, i) => [i, (i + 1) % 8] as const), [0, 4] as const, [2, 6] as const];
  const links = pairs.map(([from, to]) => mesh.net.link(hosts[from]!, hosts[to]!, { units: "packets" }));
  await Promise.all(
    hosts.map((host, i) =>
      mesh.start(
        host,
        links.filter((_, link) => pairs[link]![0] === i).map(({ b }) => b.endpoint()),
        { extra: '[delivery]\ninbox_messages_max = 200000\ninbox_bytes_max = "4GiB"\n' },
      ),
    ),
  );
  await mesh.untilWhole();
  return links;
}

scenario(
  `${MINUTES} minutes of load and rotating faults`,
  async (mesh) => {
    console.log(`  SOAK_SEED=${SEED}`);
    const random = seededRandom(SEED);
    const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
    const links = await build(mesh);
    const lives = new Map<number, { callsign: string; samples: Sample[] }>();
    const restarted = new Set<number>();
    const endMs = performance.now() + MINUTES * 60_000;
    let sent = 0;
    let refused = 0;
    const faultsSeen = new Map<string, number>();
    const over = new AbortController();

    const loading = (async () => {
      while (performance.now() < endMs) {
        const from = pick(CALLSIGNS);
        const to = pick(CALLSIGNS.filter((other) => other !== from));
        const bytes = sent % 50 === 49 ? 256 * 1024 : 100 + random.below(2_000);
        const body = `${sent} `.padEnd(bytes, "x");
        // A node that is off accepts nothing: that is no loss.
        await mesh.send(from, to, body, { priority: random.below(4) }).then(
          () => sent++,
          () => refused++,
        );
        await Bun.sleep(SEND_EVERY_MS);
      }
    })();
    const sampling = (async () => {
      while (!over.signal.aborted) {
        for (const callsign of CALLSIGNS) {
          const { pid } = mesh.node(callsign);
          const now = pid === undefined ? undefined : vitals(pid);
          if (pid === undefined || now === undefined) continue;
          const life = lives.get(pid) ?? { callsign, samples: [] };
          life.samples.push({ atMs: performance.now(), ...now });
          lives.set(pid, life);
        }
        await Bun.sleep(SAMPLE_MS);
      }
    })();

    /** Each makes one fault and answers what takes it back. */
    const faults: Readonly<Record<string, () => Promise<() => Promise<void>>>> = {
      pulled: async () =>
        onLink(
          (link) => link.down(),
          (link) => link.up(),
        ),
      silent: async () =>
        onLink(
          (link) => link.silence(),
          (link) => link.heal(),
        ),
      "one way": async () =>
        onLink(
          (link) => link.silence("a to b"),
          (link) => link.heal(),
        ),
      "30 % lost": async () =>
        onLink(
          (link) => link.lose({ ab: 0.3, ba: 0.3 }),
          (link) => link.heal(),
        ),
      "1 Mbit/s": async () =>
        onLink(
          (link) => link.limit(1_000),
          (link) => link.limit(undefined),
        ),
      "kill -9": async () => onNode(async (callsign) => mesh.node(callsign).kill("SIGKILL")),
      stopped: async () => onNode(async (callsign) => mesh.node(callsign).kill("SIGTERM")),
      frozen: async () => {
        const node = mesh.node(pick(CALLSIGNS));
        node.signal("SIGSTOP");
        return async () => node.signal("SIGCONT");
      },
    };
    const onLink = (break_: (link: NetLink) => void, mend: (link: NetLink) => void) => {
      const link = pick(links);
      break_(link);
      return async () => mend(link);
    };
    /** Only the second half of the nodes ends: the first half lives through it all, and is measured. */
    const onNode = async (end: (callsign: string) => Promise<void>) => {
      const callsign = pick(CALLSIGNS.slice(4));
      const { pid } = mesh.node(callsign);
      if (pid !== undefined) restarted.add(pid);
      await end(callsign);
      return () => mesh.node(callsign).start();
    };
    const names = Object.keys(faults);
    for (let turn = 0; performance.now() < endMs; turn++) {
      const name = names[turn % names.length]!;
      faultsSeen.set(name, (faultsSeen.get(name) ?? 0) + 1);
      const heal = await faults[name]!();
      await Bun.sleep(FAULT_MS);
      await heal();
      await Bun.sleep(HEALED_MS);
    }
    await loading;
    const settleMs = performance.now();
    await mesh.checkOnce(SETTLE_MS);
    over.abort();
    await sampling;

    report("messages accepted", `${sent}, ${refused} not, by nodes that were off`);
    report("faults", [...faultsSeen].map(([name, count]) => `${name} ${count}`).join(", "));
    report("all delivered once, after the last fault", `${Math.round(performance.now() - settleMs)} ms`);
    for (const [pid, { callsign, samples }] of lives) {
      if (restarted.has(pid) || samples.length < 8) continue;
      const half = samples.length >> 1;
      const [early, late] = [samples.slice(half >> 1, half), samples.slice(half + (half >> 1))];
      const [beforeMb, afterMb] = [early, late].map((part) => median(part.map(({ rssMb }) => rssMb))) as [
        number,
        number,
      ];
      const [fewer, more] = [early, late].map((part) =>
        median(part.map(({ descriptors }) => descriptors)),
      ) as [number, number];
      report(
        `${callsign} resident`,
        `${beforeMb.toFixed(1)} to ${afterMb.toFixed(1)} MB, ${fewer} to ${more} descriptors`,
      );
      expect(afterMb - beforeMb).toBeLessThan(GROWTH_MB_MAX);
      expect(more - fewer).toBeLessThanOrEqual(DESCRIPTORS_MORE_MAX);
    }
    const unexplained = CALLSIGNS.flatMap((callsign) =>
      mesh.node(callsign).errorLines.filter((line) => !EXPLAINED.some(([pattern]) => pattern.test(line))),
    );
    expect(unexplained).toEqual([]);
  },
  (MINUTES + 6) * 60_000,
);
