/** `ctx.serial` over frames: ports that the node holds. */
import type { PluginSerial } from "@godwit/sdk";
import type { SerialPortInfo } from "@godwit/sdk/serial";
import type { Scope } from "../../kernel/scope.ts";
import type { Calls } from "../frames/calls.ts";
import type { Flows } from "../frames/flow.ts";
import { FlowPipe } from "../frames/flow-pipe.ts";
import { flowFacts } from "./net.ts";

export const createSerial = (calls: Calls, flows: Flows, scope: Scope): PluginSerial => ({
  open: (options, signal) =>
    calls.ask(
      "serial.open",
      options,
      (value) => {
        const { flow: id } = value as { flow: number };
        const flow = new FlowPipe(flows, id, flowFacts("stream", "outbound"));
        return {
          open: (handlers) => flow.open(handlers),
          write: (bytes) => flow.write(bytes),
          pause: (paused) => flow.pause(paused),
          set: ({ dtr, rts }) => calls.ask("serial.set", { flow: id, dtr, rts }, () => {}),
          close: () => flow.reset(),
        };
      },
      { signal: signal === undefined ? scope.signal : AbortSignal.any([signal, scope.signal]) },
    ),
  list: () => calls.ask("serial.list", {}, (value) => value as SerialPortInfo[]),
});
