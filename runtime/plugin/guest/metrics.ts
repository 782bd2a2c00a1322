/** Metrics of a plugin over frames: counted here, told a few times a second, because a counter may go up with every packet. */
import type { Clock, MetricCounter, MetricGauge, Timer } from "@godwit/sdk";
import type { FramePort } from "../frames/port.ts";
import { PluginFrame } from "../frames/frames.ts";

const TELL_MS = 250;

export interface GuestMetrics {
  counter(name: string, help: string, labels: readonly string[]): MetricCounter;
  gauge(name: string, help: string, labels: readonly string[]): MetricGauge;
  flush(): void;
  stop(): void;
}

export function createMetrics(port: FramePort, clock: Clock): GuestMetrics {
  const changed = new Map<string, { readonly frame: object; value: number }>();
  let timer: Timer | undefined;
  const flush = () => {
    timer?.cancel();
    timer = undefined;
    for (const { frame, value } of changed.values())
      port.sendParts(PluginFrame.metric, 0, { ...frame, value });
    changed.clear();
  };
  const metric = (kind: "counter" | "gauge", name: string, help: string, labels: readonly string[]) => {
    const declared = { kind, name, help: help.slice(0, 200), labels };
    port.sendParts(PluginFrame.metric, 0, declared);
    return (value: number, at: Readonly<Record<string, string>> = {}) => {
      const key = `${name} ${JSON.stringify(at)}`;
      const before = changed.get(key);
      if (before === undefined) changed.set(key, { frame: { ...declared, at }, value });
      else before.value = kind === "counter" ? before.value + value : value;
      timer ??= clock.after(TELL_MS, flush);
    };
  };
  return {
    counter(name, help, labels) {
      const tell = metric("counter", name, help, labels);
      return { add: (value = 1, at) => tell(value, at) };
    },
    gauge(name, help, labels) {
      const tell = metric("gauge", name, help, labels);
      return { set: (value, at) => tell(value, at) };
    },
    flush,
    stop() {
      flush();
    },
  };
}
