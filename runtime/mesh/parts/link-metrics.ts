/**
 * What the links of this node do, for its metrics: by transport, never by neighbour. Adds up at a scrape what each open link counts for
 * itself, and keeps the sums of those that ended. Nothing here is touched by a frame.
 */
import type { Observed } from "../../kernel/metrics.ts";
import type { Link } from "../../peer/link.ts";
import { CLOSED } from "../../peer/peers.ts";
import type { PartContext, PartOf } from "../part.ts";

/** Transports that are told apart, those of plugins among them; what is beyond is `other`. */
const TRANSPORTS_MAX = 32;
const TRANSPORT_CHARS_MAX = 32;
const BITS = 8;

/** What only grows. */
interface Totals {
  opened: number;
  sent: number;
  received: number;
  probes: number;
  answers: number;
}

/** Of one transport. */
interface Sums extends Totals {
  /** Those that are open. */
  readonly links: Set<Link>;
}

export function linkMetricsPart({ deps: { metrics } }: PartContext): PartOf<undefined> {
  const transports = new Map<string, Sums>();
  const ended = metrics.counter("godwit_links_ended_total");

  function nameOf({ session }: Link): string {
    const scheme = session.remoteEndpoint.split(":", 1)[0]!.slice(0, TRANSPORT_CHARS_MAX);
    return transports.has(scheme) || transports.size < TRANSPORTS_MAX ? scheme : "other";
  }

  /** One value of each transport. */
  const each = (valueOf: (sums: Sums) => number): Observed<"transport">[] =>
    [...transports].map(([transport, sums]) => [valueOf(sums), { transport }]);

  /** Of each transport those of its open links. */
  const spread = (valueOf: (link: Link) => number | undefined): Observed<"transport" | "of">[] =>
    [...transports].flatMap(([transport, { links }]): Observed<"transport" | "of">[] => {
      const values = [...links].map(valueOf).filter((value) => value !== undefined);
      values.sort((a, b) => a - b);
      return [
        [values[0], { transport, of: "least" }],
        [values[values.length >> 1], { transport, of: "median" }],
        [values.at(-1), { transport, of: "most" }],
      ];
    });

  metrics.observedSets("godwit_links", () => each(({ links }) => links.size));
  metrics.observedSets("godwit_links_opened_total", () => each(({ opened }) => opened));
  metrics.observedSets("godwit_link_sent_bytes_total", () => each((sums) => totals(sums).sent));
  metrics.observedSets("godwit_link_received_bytes_total", () => each((sums) => totals(sums).received));
  metrics.observedSets("godwit_link_probes_sent_total", () => each((sums) => totals(sums).probes));
  metrics.observedSets("godwit_link_probes_answered_total", () => each((sums) => totals(sums).answers));
  metrics.observedSets("godwit_link_buffered_bytes", () =>
    each(({ links }) => [...links].reduce((sum, { session }) => sum + session.bufferedBytes, 0)),
  );
  metrics.observedSets("godwit_link_round_trip_seconds", () =>
    spread(({ rttMs }) => (rttMs === undefined ? undefined : rttMs / 1_000)),
  );
  metrics.observedSets("godwit_link_rate_bytes_per_second", () =>
    spread(({ rateBitsPerSecond }) => rateBitsPerSecond / BITS),
  );

  return {
    engine: undefined,
    linkUp(_, link) {
      const name = nameOf(link);
      let sums = transports.get(name);
      if (sums === undefined)
        transports.set(
          name,
          (sums = { opened: 0, sent: 0, received: 0, probes: 0, answers: 0, links: new Set() }),
        );
      sums.opened++;
      sums.links.add(link);
    },
    linkDown(_, link, reason) {
      const transport = nameOf(link);
      const sums = transports.get(transport);
      if (sums?.links.delete(link) !== true) return;
      add(sums, link);
      ended.add(1, { transport, reason: wordFor(link, reason) });
    },
  };
}

function add(to: Totals, { session, probeCounts }: Link): void {
  to.sent += session.bytesSent;
  to.received += session.bytesReceived;
  to.probes += probeCounts.sent;
  to.answers += probeCounts.answered;
}

/** Of the links that ended and of those that are open. */
function totals({ links, ...ended }: Sums): Totals {
  for (const link of links) add(ended, link);
  return ended;
}

function wordFor(link: Link, reason: string): string {
  if (link.isSilent) return "silent";
  if (link.isRetiring) return "superseded";
  return reason === CLOSED ? "closed" : "broken";
}
