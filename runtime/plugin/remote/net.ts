/** `ctx.net` across a channel of frames, the node's side. A datagram carries its far end: | port 2 | bytes of host 1 | host | bytes |. */
import type { NetDatagrams, NetListener, PluginNet } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { decodeDatagram, encodeDatagram } from "../frames/datagram.ts";
import type { FlowHandlers, Flows } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import type { FramePort } from "../frames/port.ts";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import { type Method, withClose } from "./method.ts";

const where = z.object({ host: z.string().min(1).max(255), port: z.number().int().min(0).max(65_535) });

export class RemoteNet {
  readonly #net: PluginNet;
  readonly #port: FramePort;
  readonly #flows: Flows;
  readonly #listeners = new Map<number, NetListener>();
  #nextListener = 1;

  constructor(net: PluginNet, port: FramePort, flows: Flows) {
    this.#net = net;
    this.#port = port;
    this.#flows = flows;
  }

  addTo(methods: Map<string, Method>): void {
    methods.set("net.connect", async (args, _bytes, signal) => {
      const { host, port } = parseJson(where, args);
      const stream = await this.#net.connect(host, port, signal);
      const flow = this.#flows.newId();
      return {
        json: { flow, remote: stream.remote, local: stream.local },
        after: () => openPump(this.#flows, flow, withClose(stream), "stream"),
      };
    });
    methods.set("net.listen", async (args) => {
      const { host, port } = parseJson(where, args);
      const number = this.#nextListener++;
      const listener = await this.#net.listen(host, port, (stream) => {
        if (this.#port.isClosed) return stream.reset();
        try {
          const flow = this.#flows.newId();
          const { remote, local } = stream;
          this.#port.sendParts(PluginFrame.open, flow, {
            what: "connection",
            listener: number,
            remote,
            local,
          });
          openPump(this.#flows, flow, withClose(stream), "stream");
        } catch {
          stream.reset();
        }
      });
      this.#listeners.set(number, listener);
      return { json: { listener: number, port: listener.port } };
    });
    methods.set("net.unlisten", (args) => {
      const { listener } = parseJson(z.object({ listener: z.number().int() }), args);
      this.#listeners.get(listener)?.close();
      this.#listeners.delete(listener);
      return {};
    });
    methods.set("net.datagrams", async (args) => {
      const { host, port } = parseJson(where, args);
      let handlers: FlowHandlers | undefined;
      const socket: NetDatagrams = await this.#net.datagrams(host, port, (bytes, from) =>
        handlers?.data(encodeDatagram(bytes, from)),
      );
      const flow = this.#flows.newId();
      const open = () =>
        openPump(
          this.#flows,
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
}
