import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { formatNodeId } from "../../kernel/ids.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { Link } from "../../peer/link.ts";
import type { Peer } from "../../peer/peer.ts";
import { CLOSED } from "../../peer/peers.ts";
import { type FakeSession, sessionPair } from "../../peer/testing.ts";
import { decodeProbe, decodeProbeReply, encodeProbeReply, type Hello } from "../../wire/peer-messages.ts";
import { FrameType } from "../../wire/constants.ts";
import type { PartContext } from "../part.ts";
import { linkMetricsPart } from "./link-metrics.ts";

const [self, far] = [1, 2].map((fill) => formatNodeId(new Uint8Array(32).fill(fill)));
const peer = {} as Peer;

function rig() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const part = linkMetricsPart({ deps: { metrics } } as unknown as PartContext);
  let count = 0;
  const open = (
    transport: string,
    { answers = true, delayMs = 1 } = {},
  ): { link: Link; near: FakeSession } => {
    const [near, there] = sessionPair(clock, self!, far!, { to: `${transport}://host` });
    near.delayMs = there.delayMs = delayMs;
    const link: Link = new Link(near, {} as Hello, {
      clock,
      random: seededRandom(++count),
      events: {
        dead: () => down(link, "no answer to probes"),
        measured() {},
      },
    });
    near.open({
      frame(bytes) {
        link.noteHeard();
        if (bytes[0] === FrameType.probeReply) link.noteProbeReply(decodeProbeReply(bytes));
      },
      drain() {},
      closed() {},
    });
    there.open({
      frame(bytes) {
        if (answers && bytes[0] === FrameType.probe) there.send(encodeProbeReply(decodeProbe(bytes)));
      },
      drain() {},
      closed() {},
    });
    part.linkUp!(peer, link);
    return { link, near };
  };
  const down = (link: Link, reason: string) => {
    link.stop();
    part.linkDown!(peer, link, reason);
  };
  const shown = async (): Promise<Record<string, number>> => {
    const lines = (await metrics.render()).split("\n").filter((line) => line.startsWith("godwit_link"));
    return Object.fromEntries(
      lines.map((line) => [line.slice(7, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]),
    );
  };
  return { clock, open, down, shown };
}

test("links are told by transport, and what ended ones did stays in the sums", async () => {
  const { clock, open, down, shown } = rig();
  const first = open("tcp");
  open("tcp", { delayMs: 20 });
  open("udp");
  await clock.advance(60_000);
  const before = await shown();
  expect(before['links{transport="tcp"}']).toBe(2);
  expect(before['links{transport="udp"}']).toBe(1);
  expect(before['link_probes_sent_total{transport="udp"}']).toBeGreaterThan(5);
  expect(before['link_probes_answered_total{transport="udp"}']).toBe(
    before['link_probes_sent_total{transport="udp"}'],
  );
  expect(before['link_sent_bytes_total{transport="tcp"}']).toBeGreaterThan(
    before['link_sent_bytes_total{transport="udp"}']!,
  );
  expect(before['link_round_trip_seconds{transport="tcp",of="least"}']).toBeCloseTo(0.002, 3);
  expect(before['link_round_trip_seconds{transport="tcp",of="most"}']).toBeCloseTo(0.04, 3);
  expect(before['link_rate_bytes_per_second{transport="udp",of="median"}']).toBe(125e6);
  down(first.link, CLOSED);
  const after = await shown();
  expect(after['links{transport="tcp"}']).toBe(1);
  expect(after['links_ended_total{transport="tcp",reason="closed"}']).toBe(1);
  for (const sum of [
    "links_opened_total",
    "link_sent_bytes_total",
    "link_received_bytes_total",
    "link_probes_sent_total",
  ])
    expect([sum, after[`${sum}{transport="tcp"}`]]).toEqual([sum, before[`${sum}{transport="tcp"}`]!]);
  // Told twice, counted once.
  down(first.link, CLOSED);
  expect(await shown()).toEqual(after);
});

test("why links ended is told apart: silent, superseded, closed, broken", async () => {
  const { clock, open, down, shown } = rig();
  open("tcp", { answers: false });
  await clock.advance(30_000);
  const old = open("tcp");
  old.link.isRetiring = true;
  down(old.link, CLOSED);
  down(open("tcp").link, CLOSED);
  down(open("tcp").link, "read ECONNRESET");
  const found = await shown();
  for (const reason of ["silent", "superseded", "closed", "broken"])
    expect([reason, found[`links_ended_total{transport="tcp",reason="${reason}"}`]]).toEqual([reason, 1]);
  expect(found['link_probes_answered_total{transport="tcp"}']).toBeLessThan(
    found['link_probes_sent_total{transport="tcp"}']!,
  );
  expect(found['links{transport="tcp"}']).toBe(0);
});

test("names of transports are bounded, whatever plugins call theirs", async () => {
  const { open, down, shown } = rig();
  const links = Array.from({ length: 100 }, (_, i) => open(`made-up-${i}-${"y".repeat(100)}`).link);
  const found = Object.keys(await shown()).filter((line) => line.startsWith("links{"));
  expect(found).toHaveLength(33);
  expect(Math.max(...found.map((line) => line.length))).toBeLessThan(80);
  expect((await shown())['links{transport="other"}']).toBe(68);
  for (const link of links) down(link, CLOSED);
  expect((await shown())['links{transport="other"}']).toBe(0);
});
