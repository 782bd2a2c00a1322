/** A pipe of a plugin as a flow takes it, and what the node is told of it. */
import type { Pipe } from "@godwit/sdk";
import type { FlowSource } from "../flow.ts";
import type { FlowProperties } from "../flow-pipe.ts";

export const pipeProperties = (pipe: Pipe): FlowProperties => ({
  kind: pipe.kind,
  direction: pipe.direction,
  remote: pipe.remote,
  local: pipe.local,
  linkClass: pipe.linkClass,
  isAnonymous: pipe.isAnonymous === true,
  rateBitsPerSecond: pipe.rateBitsPerSecond,
  mtu: pipe.mtu,
  ...patienceOf(pipe),
});

/** Of pipes of an SDK that knows it. */
const patienceOf = (pipe: Pipe & { readonly patienceMs?: number }) =>
  pipe.patienceMs === undefined ? {} : { patienceMs: pipe.patienceMs };

export const pipeSource = (pipe: Pipe): FlowSource => ({
  open: (handlers) => pipe.open(handlers),
  write: (bytes) => pipe.write(bytes),
  pause: (paused) => pipe.pause(paused),
  close: () => pipe.close(),
  proven: () => pipe.proven?.(),
  // A stream is what it is; the far end of datagrams may move, and their path change.
  ...(pipe.kind === "datagram" ? { properties: () => ({ remote: pipe.remote, mtu: pipe.mtu }) } : {}),
});
