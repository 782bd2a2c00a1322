/** Metrics of links: handshakes, sessions, what goes over them. A part of metric-table.ts, which says how they are named and of what form they are. */

export const linkMetrics = {
  godwit_channel_beacons_total: {
    kind: "counter",
    help: "beacons on shared channels: sent; asked and answered for mail; suppressed because others or traffic said it; without airtime; heard, passed over (replayed, own, too many new names), foreign",
    labels: ["outcome"],
  },
  godwit_channel_control_refused_total: {
    kind: "counter",
    help: "control that a shared channel had no airtime for, by transport and what it was for",
    labels: ["medium", "use"],
  },
  godwit_channel_control_seconds_total: {
    kind: "counter",
    help: "airtime that control of this node took of a shared channel, by transport and what it was for",
    labels: ["medium", "use"],
  },
  godwit_channel_nodes_heard: {
    kind: "gauge",
    help: "other nodes of the mesh that share a channel, by transport",
    labels: ["medium"],
  },
  godwit_channel_utilisation_ratio: {
    kind: "gauge",
    help: "share of the last minutes in which a shared channel was busy, by transport",
    labels: ["medium"],
  },
  godwit_link_buffered_bytes: {
    kind: "gauge",
    help: "bytes that links took and that the operating system has not, by transport",
    labels: ["transport"],
  },
  godwit_link_half_open: { kind: "gauge", help: "handshakes under way", labels: [] },
  godwit_link_half_open_evicted_total: {
    kind: "counter",
    help: "unfinished handshakes ended to make room for others",
    labels: [],
  },
  godwit_link_handshake_datagrams_dropped_total: {
    kind: "counter",
    help: "datagrams dropped while a handshake was under way",
    labels: [],
  },
  godwit_link_handshakes_aborted_total: {
    kind: "counter",
    help: "handshakes given up by this node, such as at its stop",
    labels: [],
  },
  godwit_link_handshakes_completed_total: {
    kind: "counter",
    help: "handshakes that made a session",
    labels: [],
  },
  godwit_link_handshakes_failed_total: {
    kind: "counter",
    help: "handshakes refused or broken by either end",
    labels: [],
  },
  godwit_link_handshakes_timed_out_total: {
    kind: "counter",
    help: "handshakes that took too long",
    labels: [],
  },
  godwit_link_probes_answered_total: {
    kind: "counter",
    help: "probes of links that were answered, late ones included; those that were not are the loss",
    labels: ["transport"],
  },
  godwit_link_probes_sent_total: {
    kind: "counter",
    help: "probes of links: is the far end there, and how far",
    labels: ["transport"],
  },
  godwit_link_protocol_errors_total: {
    kind: "counter",
    help: "links closed because of bad frames",
    labels: [],
  },
  godwit_link_rate_bytes_per_second: {
    kind: "gauge",
    help: "rate of open links as far as it was seen: of the slowest, of the one in the middle, of the fastest",
    labels: ["transport", "of"],
  },
  godwit_link_received_bytes_total: {
    kind: "counter",
    help: "bytes that links received on their medium, overhead included",
    labels: ["transport"],
  },
  godwit_link_records_corrupt_total: {
    kind: "counter",
    help: "sealed records that were damaged",
    labels: [],
  },
  godwit_link_records_forged_total: {
    kind: "counter",
    help: "sealed records that did not authenticate",
    labels: [],
  },
  godwit_link_records_replayed_total: {
    kind: "counter",
    help: "sealed records that had come before",
    labels: [],
  },
  godwit_link_fragments_collected_total: {
    kind: "counter",
    help: "pieces of records that were kept until the others come",
    labels: [],
  },
  godwit_link_records_unfinished_total: {
    kind: "counter",
    help: "records of which some pieces never came",
    labels: [],
  },
  godwit_link_records_unread_total: {
    kind: "counter",
    help: "records dropped because too many came before anybody read",
    labels: [],
  },
  godwit_link_refusals_sent_total: {
    kind: "counter",
    help: "refusals answered to who was outside the mesh or not wanted",
    labels: [],
  },
  godwit_link_rekeys_total: { kind: "counter", help: "changes of a sending key", labels: [] },
  godwit_link_retries_sent_total: { kind: "counter", help: "cookies asked for under load", labels: [] },
  godwit_link_round_trip_seconds: {
    kind: "gauge",
    help: "smoothed round trip of open links: the shortest, the one in the middle, the longest",
    labels: ["transport", "of"],
  },
  godwit_link_sent_bytes_total: {
    kind: "counter",
    help: "bytes that links sent on their medium, overhead included",
    labels: ["transport"],
  },
  godwit_link_sessions_expired_total: {
    kind: "counter",
    help: "sessions that reached a bound of their keys or of time",
    labels: [],
  },
  godwit_link_sessions_truncated_total: {
    kind: "counter",
    help: "streams that ended without an authenticated close",
    labels: [],
  },
  godwit_link_sessions_unconfirmed_total: {
    kind: "counter",
    help: "datagram sessions whose far end never answered the confirm of an epoch",
    labels: [],
  },
  godwit_link_tag_mismatches_total: {
    kind: "counter",
    help: "first messages for another network, another secret or another node",
    labels: [],
  },
  godwit_links: { kind: "gauge", help: "open links to neighbours", labels: ["transport"] },
  godwit_links_ended_total: {
    kind: "counter",
    help: "links that ended: closed by an end, superseded by another over the same path, broken, or silent",
    labels: ["transport", "reason"],
  },
  godwit_links_old_secret: { kind: "gauge", help: "links under a secret that was replaced", labels: [] },
  godwit_links_opened_total: { kind: "counter", help: "links that came up", labels: ["transport"] },
} as const;
