/** `ctx.net` across a channel of frames, the node's side. A datagram carries its far end: | port 2 | bytes of host 1 | host | bytes |. */
import type { NetDatagrams, NetListener } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { decodeDatagram, encodeDatagram } from "../frames/datagram.ts";
import type { FlowHandlers } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";
import { withClose } from "./streams.ts";

const where = z.object({ host: z.string().min(1).max(255), port: z.number().int().min(0).max(65_535) });

const addressSchema = z.object({ address: z.string().max(255) });

export function addNetCalls({ calls, ctx, port: frames, flows }: RemoteParts): void {
  const { net } = ctx;
  const listeners = new Map<number, NetListener>();
  let nextListener = 1;
  calls.add("network.refusal", (args) => ({
    json: ctx.network.refusal(parseJson(addressSchema, args).address) ?? null,
  }));
  calls.add("net.connect", async (args, _bytes, signal) => {
    const { host, port } = parseJson(where, args);
    const stream = await net.connect(host, port, signal);
    const flow = flows.newId();
    return {
      json: { flow, remote: stream.remote, local: stream.local },
      after: () => openPump(flows, flow, withClose(stream), "stream"),
    };
  });
  calls.add("net.listen", async (args) => {
    const { host, port } = parseJson(where, args);
    const number = nextListener++;
    const listener = await net.listen(host, port, (stream) => {
      if (frames.isClosed) return stream.reset();
      try {
        const flow = flows.newId();
        const { remote, local } = stream;
        frames.sendParts(PluginFrame.open, flow, {
          what: "connection",
          listener: number,
          remote,
          local,
        });
        openPump(flows, flow, withClose(stream), "stream");
      } catch {
        stream.reset();
      }
    });
    listeners.set(number, listener);
    return { json: { listener: number, port: listener.port } };
  });
  calls.add("net.unlisten", (args) => {
    const { listener } = parseJson(z.object({ listener: z.number().int() }), args);
    listeners.get(listener)?.close();
    listeners.delete(listener);
    return {};
  });
  calls.add("net.datagrams", async (args) => {
    const { host, port } = parseJson(where, args);
    let handlers: FlowHandlers | undefined;
    const socket: NetDatagrams = await net.datagrams(host, port, (bytes, from) =>
      handlers?.data(encodeDatagram(bytes, from)),
    );
    const flow = flows.newId();
    const open = () =>
      openPump(
        flows,
        flow,
        {
          open: (given) => {
            handlers = given;
          },
          write: (bytes) => {
            const datagram = decodeDatagram(bytes);
            if (datagram === undefined)
              throw godwitError("GODWIT_DECODE", "plugin frame: a datagram to nowhere");
            socket.send(datagram.bytes, datagram.at);
            return true;
          },
          pause() {},
          close: () => {
            socket.close();
            handlers?.closed();
          },
        },
        "datagram",
      );
    return { json: { flow, port: socket.port }, after: open };
  });
}
