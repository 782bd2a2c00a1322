/** `ctx.self` over frames. */
import type { Self } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { PluginFrame } from "../frames/frames.ts";
import type { ContextParts } from "./parts.ts";

export interface GuestSelf {
  readonly self: Self;
  onSelf(): void;
}

export function createSelf({ calls, port, scope }: ContextParts): GuestSelf {
  const changed = new Set<() => void>();
  let known: Pick<Self, "id" | "callsign" | "network"> | undefined;
  const facts = () => (known ??= calls.askNow("self", {}) as Pick<Self, "id" | "callsign" | "network">);
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  return {
    self: {
      get id() {
        return facts().id;
      },
      get callsign() {
        return facts().callsign;
      },
      get network() {
        return facts().network;
      },
      endpoints: () => (check(), calls.askNow("self.endpoints", {}) as string[]),
      onChange(fn) {
        check();
        if (changed.size === 0) calls.askNow("self.onChange", {});
        changed.add(fn);
      },
      sign: (message) => calls.ask("self.sign", {}, (_value, bytes) => bytes.slice(), { bytes: message }),
      verify: (id, message, signature) =>
        calls.ask(
          "self.verify",
          { id, signature: Buffer.from(signature).toString("base64") },
          (value) => value === true,
          { bytes: message },
        ),
    },
    onSelf() {
      for (const fn of [...changed])
        try {
          fn();
        } catch (error) {
          const { message } = asGodwitError(error);
          const fields = { error: message };
          port.sendParts(PluginFrame.log, 0, { level: "error", event: "onChange handler failed", fields });
        }
    },
  };
}
