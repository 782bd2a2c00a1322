/** Names and records asked for over a channel, by nodes that nobody introduced: real sessions, real seals. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { edge, line } from "./scenarios.ts";
import { RadioWorld } from "./world.ts";

setDefaultTimeout(60_000);

test.each([1, 2, 3])(
  "whoever has the radio alone writes to whom it never met, and is answered (seed %d)",
  (seed) => {
    // Air enough: what is measured is who knows whom.
    const air = { mtu: 1_000, ownShare: 1, burstMs: 3_600_000, dutyCycle: 1, mailPerHour: 12 };
    let widest = 0;
    const world = new RadioWorld({
      ...edge(seed),
      ...air,
      minutes: 60,
      introduced: false,
      mutate(mesh) {
        const tell = mesh.peers.tell.bind(mesh.peers);
        mesh.peers.tell = (to, lane, frame, part) => {
          if (part === "lookups") widest = Math.max(widest, frame.length);
          return tell(to, lane, frame, part);
        };
      },
    });
    const { faults, sent, delivered } = world.run();
    expect(faults).toEqual([]);
    expect(sent).toBeGreaterThan(5);
    expect(delivered).toBe(1);
    expect(widest).toBeGreaterThan(100);
    // With what the link adds, within one packet.
    expect(widest + 11).toBeLessThanOrEqual(200);
  },
);

test.each([
  [3, 1],
  [3, 2],
  [5, 1],
  [5, 2],
])(
  "of %d in a line, with nothing but radios, each writes to callsigns that it never met, and is answered (seed %d)",
  (nodes, seed) => {
    const world = new RadioWorld({ ...line(seed, nodes), introduced: false, addresses: "callsigns" });
    let ends = 0;
    // Before mail is offered each knows those it hears, and nobody else.
    world.time.after(110 * 60_000, () => (ends = [...world.nodes[0]!.mesh!.records.all].length));
    const { faults, sent, outcomes, control, talkControl } = world.run();
    expect(faults).toEqual([]);
    expect(ends).toBeLessThanOrEqual(2);
    expect(sent).toBeGreaterThan(9);
    expect(outcomes).toEqual({ delivered: sent });
    expect(Math.max(control, talkControl)).toBeLessThanOrEqual(0.02);
  },
);
