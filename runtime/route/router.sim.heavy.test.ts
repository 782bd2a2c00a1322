/** Liars among honest nodes, at every event of a simulation. */
import { describe, expect, test } from "bun:test";
import type { Random } from "../kernel/random.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeUpdateHeader,
  readUpdateEntry,
  UNREACHABLE,
  UpdateKind,
  updateKind,
  type PlaneRoute,
} from "../wire/route-messages.ts";
import { FrameType } from "../wire/constants.ts";
import { runs, seeds, buildMesh, settle, shake } from "./testing-sim.ts";

function twist(route: PlaneRoute, random: Random): PlaneRoute {
  const kind = random.below(5);
  if (kind === 0) return { seqno: route.seqno, metric: 0, mtu: 65_535, bottleneck: 0 };
  if (kind === 1) return { ...route, metric: random.below(50) };
  if (kind === 2) return { ...route, metric: random.below(2 ** 32 - 1) };
  if (kind === 3) return { ...route, seqno: route.seqno + random.below(3) };
  return route;
}

/** An insider that rewrites every metric, some numbers, and now and then sends plain garbage. */
function lie(frame: Uint8Array, random: Random): Uint8Array | undefined {
  if (random.float() < 0.02) return random.bytes(random.below(200));
  if (random.float() < 0.02) {
    const torn = frame.slice(0, 1 + random.below(frame.length));
    torn[random.below(torn.length)] = random.below(256);
    return torn;
  }
  if (frame[0] !== FrameType.routeUpdate || updateKind(frame) !== UpdateKind.table) return frame;
  const { tag, serial, entries } = decodeUpdateHeader(frame);
  const writer = beginUpdate(tag, serial, 2 * frame.length + 200);
  while (entries.remaining > 0) {
    const entry = readUpdateEntry(entries);
    const any = entry.any === UNREACHABLE && random.float() < 0.5 ? UNREACHABLE : twist(entry.any, random);
    if (any.metric >= 2 ** 32 - 1)
      appendUpdateEntry(writer, entry.destination, UNREACHABLE, UNREACHABLE, entry.proof);
    else
      appendUpdateEntry(
        writer,
        entry.destination,
        any,
        any.bottleneck === 2 ? UNREACHABLE : any,
        entry.proof,
      );
  }
  return writer.finish();
}

describe("liars cannot make honest nodes loop", () => {
  test.each(seeds.slice(0, Math.ceil(runs / 3)))(
    "seed %i",
    (seed) => {
      const mesh = buildMesh(seed + 1_000, lie);
      for (let i = 0; i < 1 + mesh.nodes.length / 8; i++)
        mesh.nodes[mesh.random.below(mesh.nodes.length)]!.isLiar = true;
      shake(mesh, 60);
      settle(mesh, 20_000);
      mesh.close();
      expect(mesh.checks).toBeGreaterThan(100);
    },
    60_000,
  );
});
