/** Entry point of the Worker of one contained plugin. */
import { systemClock } from "../../kernel/clock.ts";
import { compileAfterStart } from "../../kernel/start-code.ts";
import { guestEnd } from "../frames/worker-channel.ts";
import { runGuest } from "./guest.ts";

declare const self: Worker;

compileAfterStart(systemClock);
self.onmessage = ({ data }: MessageEvent<{ port: MessagePort; shared: SharedArrayBuffer }>) => {
  self.onmessage = null;
  runGuest(guestEnd(data.port, data.shared), {
    beforeCode() {},
    exit: () => process.exit(0),
    folder: undefined,
  });
};
