/** The attacks of plugins/attacks.ts by name, so that one that is not tried any more is noticed. */

export const ATTACK_NAMES = [
  ...["read_shadow", "read_passwd", "read_node_key", "read_node_store", "read_secret", "read_secret_by_proc"],
  ...[
    "read_folder",
    "read_root",
    "write_outside",
    "make_folder_outside",
    "remove_outside",
    "truncate_outside",
  ],
  ...["empty_by_reading", "chmod_outside", "link_in", "symlink_in", "device_mem", "device_kmsg", "proc_sys"],
  ...["tcp_socket", "tcp6_socket", "udp_socket", "udp6_socket", "raw_socket", "packet_socket"],
  ...[
    "netlink_socket",
    "unix_socket",
    "vsock_socket",
    "mptcp_socket",
    "tcp_connect",
    "tcp_listen",
    "udp_bind",
  ],
  ...["node_api", "broker_connect", "broker_listen", "broker_udp"],
  ...["spawn", "fork", "vfork", "clone_process", "clone3", "execve", "execve_self"],
  ...["ptrace_parent", "read_parent_memory", "parent_mem", "parent_environ", "parent_cmdline", "parent_fds"],
  ...["parent_root", "pidfd", "own_environment"],
  ...["signal_parent", "kill_parent", "kill_all", "kill_group", "tgkill_parent", "tkill_parent"],
  ...["sigqueue_parent", "own_signals", "outlive_parent", "limits_of_parent"],
  ...[
    "mount",
    "unshare",
    "chroot",
    "setuid_root",
    "setns",
    "bpf",
    "perf",
    "keyctl",
    "io_uring",
    "userfaultfd",
  ],
  ...["memfd", "shared_memory", "message_queue", "load_module", "another_filter"],
  ...["shared_anonymous_memory", "descriptors", "large_file"],
] as const;

/** Those that a trusted plugin of root can do on any machine, without harm. */
export const CONTROLLED = [
  ...["read_shadow", "read_passwd", "read_node_key", "read_node_store", "read_secret", "read_secret_by_proc"],
  ...[
    "read_folder",
    "read_root",
    "write_outside",
    "make_folder_outside",
    "remove_outside",
    "truncate_outside",
  ],
  ...["empty_by_reading", "chmod_outside", "symlink_in", "proc_sys"],
  ...["tcp_socket", "udp_socket", "raw_socket", "netlink_socket", "unix_socket"],
  ...["tcp_connect", "tcp_listen", "udp_bind", "node_api", "broker_connect", "broker_listen", "broker_udp"],
  ...["spawn"],
  ...["parent_environ", "parent_cmdline", "parent_fds", "parent_root", "pidfd", "own_environment"],
  ...["signal_parent", "tgkill_parent", "tkill_parent", "limits_of_parent", "outlive_parent"],
  ...["memfd", "shared_memory", "shared_anonymous_memory", "large_file"],
] as const;

/** Those that end the plugin, with what the node says of it. */
export const ENDINGS = [
  { name: "x32", reason: /SIGSYS/ },
  { name: "memory", reason: /[Oo]ut of memory|MiB of memory|process ended/ },
  { name: "native_memory", reason: /no more|MiB of memory|process ended/ },
  { name: "disk", reason: /more than 64 MiB/ },
  { name: "spin", reason: /did not answer for 5 s/ },
  { name: "threads", reason: /thread|did not answer|process ended/ },
  { name: "forge_garbage", reason: /plugin frame/ },
  { name: "forge_answer", reason: /an answer to nothing/ },
  { name: "forge_open", reason: /plugin frame/ },
  { name: "forge_json", reason: /plugin frame: endpoint/ },
  { name: "forge_hello", reason: /a second hello/ },
] as const;
