/** Metrics of what the process is and takes of its machine. A part of metric-table.ts, which says how they are named and of what form they are. */

export const machineMetrics = {
  godwit_build_info: { kind: "gauge", help: "what runs, always 1", labels: ["version", "bun", "platform"] },
  godwit_descriptors: { kind: "gauge", help: "open descriptors of the node's process, at least", labels: [] },
  godwit_descriptors_limit: { kind: "gauge", help: "descriptors that the process may have", labels: [] },
  godwit_disk_free_bytes: { kind: "gauge", help: "room on the disk of state_dir for this node", labels: [] },
  godwit_disk_size_bytes: { kind: "gauge", help: "size of the disk of state_dir", labels: [] },
  godwit_disk_written_bytes_total: {
    kind: "counter",
    help: "bytes that the process caused to be written to disks, where the system tells",
    labels: [],
  },
  godwit_event_loop_lag_seconds: {
    kind: "histogram",
    help: "how late a timer of the main thread came, once a second",
    labels: [],
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  },
  godwit_heap_size_bytes: {
    kind: "gauge",
    help: "blocks of the JavaScript heap of the main thread, without buffers",
    labels: [],
  },
  godwit_heap_used_bytes: {
    kind: "gauge",
    help: "what the main thread's JavaScript holds, with its buffers and what is garbage by now",
    labels: [],
  },
  godwit_memory_peak_bytes: {
    kind: "gauge",
    help: "most resident memory that the process ever had",
    labels: [],
  },
  godwit_memory_proportional_bytes: {
    kind: "gauge",
    help: "resident memory, of what is shared with other processes its share; looked at once a minute at most",
    labels: [],
  },
  godwit_thread_cpu_seconds_total: {
    kind: "counter",
    help: "processor time of the main thread and of all others: the store, plugins, the compiler",
    labels: ["thread"],
  },
  process_cpu_seconds_total: { kind: "counter", help: "processor time of all threads", labels: [] },
  process_max_fds: { kind: "gauge", help: "descriptors that the process may have", labels: [] },
  process_open_fds: { kind: "gauge", help: "open descriptors of the process", labels: [] },
  process_resident_memory_bytes: { kind: "gauge", help: "resident memory", labels: [] },
  process_start_time_seconds: {
    kind: "gauge",
    help: "start of the process, in seconds since 1970 by the clock of the machine",
    labels: [],
  },
} as const;
