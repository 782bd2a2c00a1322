/** Plugins as the API shows and uses them. */
import { godwitError } from "../kernel/errors.ts";
import { reasonOf } from "./health.ts";
import type { EngineEntryView, PluginDesk, PluginRow } from "./contract/plugins.ts";
import type { PluginHost } from "../plugin/host/host.ts";
import type { EngineEntry } from "@godwit/sdk";

export function createPluginDesk(host: PluginHost): PluginDesk {
  const { offers } = host;
  return {
    list: () =>
      host.running.map((running): PluginRow => {
        const { instance, health } = running;
        const { namespace, name, type } = instance;
        const isEngine = namespace === "engine";
        return {
          namespace,
          name,
          type,
          state: health.state,
          reason: reasonOf(running) ?? null,
          guarantee: isEngine ? (offers.engineOf(name)?.guarantee ?? null) : null,
          actions: offers.actions
            .filter((one) => namespace === "heal-action" && one.instance === name)
            .map(({ action }) => ({ name: action.name, summary: action.summary })),
        };
      }),
    async read(engine, key) {
      const entry = await offers.get(engine, key);
      if (entry === undefined) throw godwitError("GODWIT_NOT_FOUND", `"${engine}" has no key of that name`);
      return viewOf(key, entry);
    },
    write: async (engine, key, value, expected) =>
      viewOf(key, await offers.put(engine, key, value, expected)),
    plan: (action) => offers.plan(action),
    heal: (action, steps, withinMs) => offers.heal(action, steps, withinMs),
  };
}

const viewOf = (key: string, { value, revision }: EngineEntry): EngineEntryView => ({
  key,
  value_base64: Buffer.from(value).toString("base64"),
  revision,
});
