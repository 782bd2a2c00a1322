/**
 * Every metric of the node itself: name, kind, what it says, labels. Declared here and in the two tables that this one takes in, nowhere else; docs/metrics.md is
 * written from it. Prefix `godwit_`, or `process_` for what every client of Prometheus calls so; base units,
 * counters end in `_total`, label values come from small closed sets and are never a node's id. A metric never changes its meaning and never goes away without a word in the changelog.
 */

import { linkMetrics } from "./metrics-of-links.ts";
import { machineMetrics } from "./metrics-of-machine.ts";

export interface MetricRow {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly labels: readonly string[];
  /** Of a histogram: upper bounds, ascending. */
  readonly buckets?: readonly number[];
}

export const metricTable = {
  ...linkMetrics,
  ...machineMetrics,
  godwit_bundles_cut_off_total: {
    kind: "counter",
    help: "bundles from or for nodes that are blocked or revoked",
    labels: [],
  },
  godwit_bundles_unreadable_total: {
    kind: "counter",
    help: "bundles for this node that made no sense",
    labels: [],
  },
  godwit_custody_offers_total: {
    kind: "counter",
    help: "bundles handed to a neighbour, repeats included",
    labels: [],
  },
  godwit_custody_refused_total: {
    kind: "counter",
    help: "bundles not taken from a neighbour",
    labels: ["reason"],
  },
  godwit_custody_bad_blocks_total: {
    kind: "counter",
    help: "blocks of large bundles that were not what their offer said",
    labels: [],
  },
  godwit_custody_cut_through_total: {
    kind: "counter",
    help: "large bundles of others that went on while they still arrived",
    labels: [],
  },
  godwit_custody_returned_total: {
    kind: "counter",
    help: "bundles taken back for another try",
    labels: ["reason"],
  },
  godwit_dials_total: { kind: "counter", help: "dial attempts by outcome", labels: ["outcome"] },
  godwit_endpoints_skipped_total: {
    kind: "counter",
    help: "addresses and paths that another named and that were not connected to, by what they are",
    labels: ["reason"],
  },
  godwit_compact_answers_ignored_total: {
    kind: "counter",
    help: "answers over slow links to bundles that were never sent, are no longer known, or are others than it means",
    labels: ["reason"],
  },
  godwit_compact_repairs_total: {
    kind: "counter",
    help: "bundles over slow links whose references the receiver did not know, by the end that counts",
    labels: ["end"],
  },
  godwit_enrolments_total: { kind: "counter", help: "newcomers by outcome", labels: ["outcome"] },
  godwit_frames_unknown_total: {
    kind: "counter",
    help: "frames of neighbours of a type that no part of this node takes",
    labels: [],
  },
  godwit_gave_way_total: {
    kind: "counter",
    help: "entries of full tables that gave their places to others, by table",
    labels: ["table"],
  },
  godwit_hints_dropped_total: {
    kind: "counter",
    help: "hints of discovery not taken: the source holds its bound, or the endpoint is too long",
    labels: [],
  },
  godwit_http_connections: { kind: "gauge", help: "connections to the API, idle ones included", labels: [] },
  godwit_http_connections_refused_total: {
    kind: "counter",
    help: "connections to the API that were refused, or gave way to others",
    labels: [],
  },
  godwit_http_refused_total: {
    kind: "counter",
    help: "API requests turned away at the door",
    labels: ["reason"],
  },
  godwit_http_request_duration_seconds: {
    kind: "histogram",
    help: "time until the answer began",
    labels: ["method", "route"],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 30],
  },
  godwit_http_requests_total: {
    kind: "counter",
    help: "API requests answered",
    labels: ["method", "route", "status"],
  },
  godwit_inbox_messages: { kind: "gauge", help: "messages in the inbox", labels: [] },
  godwit_lookups_answered_total: {
    kind: "counter",
    help: "questions for names and records of neighbours over slow links that were answered, or asked on, by whether anything was known",
    labels: ["found"],
  },
  godwit_lookups_asked_total: {
    kind: "counter",
    help: "questions for names and records that this node asked over slow links",
    labels: [],
  },
  godwit_lookups_refused_total: {
    kind: "counter",
    help: "questions for names and records that were not looked at, and answers that were not taken",
    labels: ["reason"],
  },
  godwit_mail_named_twice_total: {
    kind: "counter",
    help: "messages of this node whose name another life of it had used, each sent again under a new one",
    labels: [],
  },
  godwit_member_accusations_total: { kind: "counter", help: "accusations by this node", labels: [] },
  godwit_member_entries_dropped_total: {
    kind: "counter",
    help: "entries dropped; of repairs and pongs the frames that were not answered",
    labels: ["reason"],
  },
  godwit_member_refutations_total: {
    kind: "counter",
    help: "accusations of this node it refuted",
    labels: [],
  },
  godwit_member_sent_bytes_total: { kind: "counter", help: "frames of membership to neighbours", labels: [] },
  godwit_members_alive: { kind: "gauge", help: "nodes seen as alive", labels: [] },
  godwit_members_failed: { kind: "gauge", help: "nodes seen as failed", labels: [] },
  godwit_members_left: { kind: "gauge", help: "nodes seen as left", labels: [] },
  godwit_members_suspect: { kind: "gauge", help: "nodes seen as suspect", labels: [] },
  godwit_mesh_part_failures_total: {
    kind: "counter",
    help: "hooks of parts of the mesh that threw, each a bug",
    labels: ["part"],
  },
  godwit_messages_delivered_total: { kind: "counter", help: "messages put into the inbox", labels: [] },
  godwit_packets_dropped_total: { kind: "counter", help: "packets dropped here", labels: ["reason"] },
  godwit_packets_forwarded_total: {
    kind: "counter",
    help: "packets handed to a neighbour for others",
    labels: [],
  },
  godwit_pages_cut_total: {
    kind: "counter",
    help: "requests for pages that were refused for their form, and bodies that were cut short",
    labels: ["reason"],
  },
  godwit_pages_failed_total: {
    kind: "counter",
    help: "requests for pages of plugins that got no answer, or a part of one",
    labels: ["reason"],
  },
  godwit_peer_frames_lost_total: {
    kind: "counter",
    help: "frames that waited for a neighbour when its last link went",
    labels: [],
  },
  godwit_peer_frames_before_hello_total: {
    kind: "counter",
    help: "frames over datagrams that came before the hello and were dropped",
    labels: [],
  },
  godwit_peer_frames_refused_total: {
    kind: "counter",
    help: "frames to neighbours that were dropped, by who sent them and why: no link, too wide for it, no airtime, a digest where its channel is busy, or its lane is full",
    labels: ["part", "reason"],
  },
  godwit_peer_frames_superseded_total: {
    kind: "counter",
    help: "control frames that waited for a slow link when a newer one said all that they say",
    labels: [],
  },
  godwit_peer_frames_too_wide_total: {
    kind: "counter",
    help: "frames that waited for a neighbour whose remaining links are too narrow for them",
    labels: [],
  },
  godwit_peer_links_sought: {
    kind: "gauge",
    help: "members that the node calls of its own accord",
    labels: [],
  },
  godwit_peer_trust_changes_total: {
    kind: "counter",
    help: "trust that the peer manager gave or took",
    labels: ["to"],
  },
  godwit_peers_connected: { kind: "gauge", help: "neighbours with a live link", labels: [] },
  godwit_peers_lost_total: {
    kind: "counter",
    help: "neighbours whose last link ended, by whether it fell silent or was closed",
    labels: ["why"],
  },
  godwit_peers_quarantined: {
    kind: "gauge",
    help: "neighbours whose routes are the last resort",
    labels: [],
  },
  godwit_peers_refused_total: { kind: "counter", help: "nodes there was no place for", labels: [] },
  godwit_plugin_failures_total: { kind: "counter", help: "plugins that failed, by type", labels: ["type"] },
  godwit_plugin_messages_total: {
    kind: "counter",
    help: "messages of neighbours' plugins by outcome",
    labels: ["outcome"],
  },
  godwit_plugin_metrics_refused_total: {
    kind: "counter",
    help: "metrics that plugins declared beyond their 64",
    labels: [],
  },
  godwit_plugin_service_channels: {
    kind: "gauge",
    help: "channels between plugins that are open",
    labels: [],
  },
  godwit_plugin_service_messages_total: {
    kind: "counter",
    help: "messages on channels between plugins: taken, or refused because the reader's window was full",
    labels: ["outcome"],
  },
  godwit_plugin_service_requests_total: {
    kind: "counter",
    help: "requests and openings of channels between plugins, by how they ended",
    labels: ["outcome"],
  },
  godwit_punches_total: {
    kind: "counter",
    help: "attempts at a direct link through NATs, by what became of them here",
    labels: ["outcome"],
  },
  godwit_queue_bytes: {
    kind: "gauge",
    help: "size of own messages without a receipt and of bundles of others in custody, together",
    labels: [],
  },
  godwit_queue_messages: {
    kind: "gauge",
    help: "own messages without a receipt and bundles of others in custody, together",
    labels: [],
  },
  godwit_queue_oldest_seconds: {
    kind: "gauge",
    help: "how long the oldest open message is here, by what it waits for: somebody known under its address, a way there, its turn, its receipt; 0: none does",
    labels: ["box", "reason"],
  },
  godwit_redemptions: { kind: "gauge", help: "used invitations remembered", labels: [] },
  godwit_redemptions_dropped_total: {
    kind: "counter",
    help: "redemptions of invitations not taken from a neighbour, by reason",
    labels: ["reason"],
  },
  godwit_revocations: { kind: "gauge", help: "nodes revoked for good", labels: [] },
  godwit_revocations_refused_total: {
    kind: "counter",
    help: "revocations of neighbours that were not taken",
    labels: ["reason"],
  },
  godwit_rotations_refused_total: {
    kind: "counter",
    help: "orders to replace the network secret that were not obeyed",
    labels: [],
  },
  godwit_route_candidates: {
    kind: "gauge",
    help: "neighbours that offer or have retracted a destination, summed over all destinations",
    labels: [],
  },
  godwit_route_destinations: { kind: "gauge", help: "destinations in the table", labels: [] },
  godwit_route_dropped_total: {
    kind: "counter",
    help: "routing frames and entries not used, by reason",
    labels: ["reason"],
  },
  godwit_secret_epochs: { kind: "gauge", help: "network secrets that open links", labels: [] },
  godwit_store_batches_total: {
    kind: "counter",
    help: "batches of commits that shared one fsync",
    labels: [],
  },
  godwit_store_commit_seconds: {
    kind: "histogram",
    help: "from the call of a commit until it is durable or refused",
    labels: [],
    buckets: [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  },
  godwit_store_commits_total: { kind: "counter", help: "commits by result", labels: ["result"] },
  godwit_store_conversion_rows_total: {
    kind: "counter",
    help: "stored rows that were looked at to bring those of an earlier release to the form of today",
    labels: [],
  },
  godwit_store_conversions: {
    kind: "gauge",
    help: "conversions of stored rows that are not through yet",
    labels: [],
  },
  godwit_store_damaged_rows_total: {
    kind: "counter",
    help: "stored rows that were found damaged and set aside, or lost with their page",
    labels: ["collection"],
  },
  godwit_store_file_bytes: { kind: "gauge", help: "size of the files of the store", labels: ["file"] },
  godwit_store_log_bytes: {
    kind: "gauge",
    help: "bytes of commits that stand in the log and not yet in the database",
    labels: [],
  },
  godwit_store_missing_bytes: {
    kind: "gauge",
    help: "bytes that have to become free before this node takes mail again; 0 while there is room",
    labels: [],
  },
  godwit_store_write_seconds: {
    kind: "histogram",
    help: "one write to the log of commits, until it is on the disk: what a commit takes there, alone or with others",
    labels: [],
    buckets: [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  },
  godwit_stream_dropped_total: {
    kind: "counter",
    help: "stream packets dropped at their end",
    labels: ["reason"],
  },
  godwit_stream_held_bytes: { kind: "gauge", help: "bytes held in streams", labels: [] },
  godwit_stream_received_bytes_total: {
    kind: "counter",
    help: "bytes of streams taken from sealed records",
    labels: [],
  },
  godwit_stream_records_received_total: { kind: "counter", help: "true sealed records received", labels: [] },
  godwit_stream_records_sent_total: { kind: "counter", help: "sealed records sent", labels: [] },
  godwit_stream_rekeys_total: { kind: "counter", help: "changes of a sending key", labels: [] },
  godwit_stream_retransmitted_bytes_total: {
    kind: "counter",
    help: "bytes of streams sent again",
    labels: [],
  },
  godwit_stream_sent_bytes_total: {
    kind: "counter",
    help: "bytes of streams put into sealed records",
    labels: [],
  },
  godwit_stream_sessions: { kind: "gauge", help: "end-to-end sessions", labels: [] },
  godwit_stream_timeouts_total: { kind: "counter", help: "times that nothing came back in time", labels: [] },
  godwit_streams_open: { kind: "gauge", help: "streams that are open", labels: [] },
  godwit_tables_refused_total: {
    kind: "counter",
    help: "entries that a full table which must not forget had no place for, by table",
    labels: ["table"],
  },
  godwit_transients_dropped_total: {
    kind: "counter",
    help: "transient messages for this node that came faster than its disk takes them",
    labels: [],
  },
  godwit_trials_total: { kind: "counter", help: "neighbours tried for lost mail", labels: ["verdict"] },
} as const satisfies Readonly<Record<string, MetricRow>>;

export type MetricTable = typeof metricTable;

/** Names of one kind. */
export type MetricName<Kind extends MetricRow["kind"]> = {
  [Name in keyof MetricTable]: MetricTable[Name]["kind"] extends Kind ? Name : never;
}[keyof MetricTable];

/** Labels of one metric. */
export type MetricLabel<Name extends keyof MetricTable> = MetricTable[Name]["labels"][number];
