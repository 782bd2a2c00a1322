/** `ctx.self` over frames. */
import type { Self } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { PluginFrame } from "../frames/frames.ts";
import type { ContextParts } from "./parts.ts";

/** Of one of `Self.meshSeeds`. */
const SEED_BYTES = 32;

export interface GuestSelf {
  readonly self: Self;
  onSelf(): void;
}

type SelfFacts = Pick<Self, "id" | "callsign" | "network" | "tags" | "protocols">;

export function createSelf({ calls, port, scope }: ContextParts): GuestSelf {
  const changed = new Set<() => void>();
  let known: SelfFacts | undefined;
  const facts = () => (known ??= calls.askNow("self", {}) as SelfFacts);
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
      get tags() {
        return facts().tags;
      },
      get protocols() {
        return facts().protocols;
      },
      listening: () => (check(), calls.askNow("self.listening", {}) as string[]),
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
      signItem: ({ label, seq, value }) =>
        calls.ask(
          "self.signItem",
          { label: Buffer.from(label).toString("base64"), seq },
          (_value, bytes) => bytes.slice(),
          { bytes: value },
        ),
      meshSeeds: (purpose) =>
        calls.ask("self.meshSeeds", { purpose }, (_value, bytes) =>
          Array.from({ length: bytes.length / SEED_BYTES }, (_, n) =>
            bytes.slice(n * SEED_BYTES, (n + 1) * SEED_BYTES),
          ),
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
