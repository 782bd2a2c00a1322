/** `ctx.net` over frames: sockets that the node holds. */
import type { HostPort, NetStream, PluginNet } from "@godwit/sdk";
import type { Scope } from "../../kernel/scope.ts";
import { decodeDatagram, encodeDatagram } from "../frames/datagram.ts";
import type { Calls } from "../frames/calls.ts";
import type { Flows } from "../frames/flow.ts";
import { FlowPipe, type FlowProperties } from "../frames/flow-pipe.ts";

export interface GuestNet extends PluginNet {
  onOpen(id: number, opened: object): void;
}

/** A flow that is no pipe has nothing to say of links. */
export const flowFacts = (
  kind: "stream" | "datagram",
  direction: "inbound" | "outbound",
): FlowProperties => ({
  kind,
  direction,
  remote: "",
  local: "",
  linkClass: "fast",
  isAnonymous: false,
  patienceMs: 0,
  rateBitsPerSecond: 0,
  mtu: 0,
});

export function createNet(calls: Calls, flows: Flows, scope: Scope): GuestNet {
  const listeners = new Map<number, (stream: NetStream) => void>();
  const streamOf = (
    id: number,
    at: { remote: HostPort; local: HostPort },
    direction: "inbound" | "outbound",
  ): NetStream => {
    const flow = new FlowPipe(flows, id, flowFacts("stream", direction));
    return {
      remote: at.remote,
      local: at.local,
      open: (handlers) => flow.open(handlers),
      write: (bytes) => flow.write(bytes),
      pause: (paused) => flow.pause(paused),
      end: () => flow.end(),
      reset: () => flow.reset(),
    };
  };
  return {
    connect: (host, port, signal) =>
      calls.ask(
        "net.connect",
        { host, port },
        (value) => {
          const answer = value as { flow: number; remote: HostPort; local: HostPort };
          return streamOf(answer.flow, answer, "outbound");
        },
        { signal: signal === undefined ? scope.signal : AbortSignal.any([signal, scope.signal]) },
      ),
    listen: (host, port, onStream) =>
      calls.ask("net.listen", { host, port }, (value) => {
        const { listener, port: bound } = value as { listener: number; port: number };
        listeners.set(listener, onStream);
        return {
          port: bound,
          close() {
            if (!listeners.delete(listener)) return;
            calls.ask("net.unlisten", { listener }, () => {}).catch(() => {});
          },
        };
      }),
    datagrams: (host, port, onDatagram) =>
      calls.ask("net.datagrams", { host, port }, (value) => {
        const { flow: id, port: bound } = value as { flow: number; port: number };
        const flow = new FlowPipe(flows, id, flowFacts("datagram", "outbound"));
        flow.open({
          data(body) {
            const datagram = decodeDatagram(body);
            if (datagram !== undefined) onDatagram(datagram.bytes, datagram.at);
          },
          drain() {},
          closed() {},
        });
        return {
          port: bound,
          send: (bytes, to) => void flow.write(encodeDatagram(bytes, to)),
          close: () => flow.close(),
        };
      }),
    onOpen(id, opened) {
      const { listener, ...at } = opened as { listener: number; remote: HostPort; local: HostPort };
      const stream = streamOf(id, at, "inbound");
      const onStream = listeners.get(listener);
      if (onStream === undefined) stream.reset();
      else onStream(stream);
    },
  };
}
