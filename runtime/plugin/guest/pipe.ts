/** A pipe of a plugin as a flow takes it, and what the node is told of it. */
import type { Medium, Pipe } from "@godwit/sdk";
import type { FlowSource } from "../frames/flow.ts";
import type { FlowProperties } from "../frames/flow-pipe.ts";

/** Of datagrams that wait before they leave. */
const answering = ({ kind, answerMs }: Pipe) =>
  kind === "datagram" && answerMs !== undefined ? { answerMs } : {};

export interface PipeOnWire extends Omit<FlowProperties, "medium"> {
  readonly isOnMedium?: boolean;
}

/** `medium`: the channel that the plugin registered. */
export const pipeProperties = (pipe: Pipe, medium: Medium | undefined): PipeOnWire => ({
  kind: pipe.kind,
  direction: pipe.direction,
  remote: pipe.remote,
  local: pipe.local,
  linkClass: pipe.linkClass,
  isAnonymous: pipe.isAnonymous === true,
  patienceMs: pipe.patienceMs ?? 0,
  ...answering(pipe),
  rateBitsPerSecond: pipe.rateBitsPerSecond,
  mtu: pipe.mtu,
  ...(medium !== undefined && pipe.medium === medium ? { isOnMedium: true } : {}),
});

export const pipeSource = (pipe: Pipe): FlowSource => ({
  open: (handlers) => pipe.open(handlers),
  write: (bytes) => pipe.write(bytes),
  pause: (paused) => pipe.pause(paused),
  close: () => pipe.close(),
  proven: () => pipe.proven?.(),
  // A stream is what it is; the far end of datagrams may move, and their path change.
  ...(pipe.kind === "datagram"
    ? { properties: () => ({ remote: pipe.remote, mtu: pipe.mtu, ...answering(pipe) }) }
    : {}),
});
