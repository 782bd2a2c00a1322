/** Entry point of the Worker of one contained plugin. */
import { guestEnd } from "../frames/worker-channel.ts";
import { runGuest } from "./guest.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ port: MessagePort; shared: SharedArrayBuffer }>) => {
  self.onmessage = null;
  runGuest(guestEnd(data.port, data.shared), {
    beforeCode() {},
    exit: () => process.exit(0),
    folder: undefined,
  });
};
