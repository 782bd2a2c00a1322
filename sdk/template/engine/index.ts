/** my-plugin: keys in the memory of this node. Replace the map by a backend; say no more than that can hold. */
import { definePlugin, type Engine, type EngineEntry, GodwitError, z } from "@godwit/sdk";

const config = z.strictObject({ keys_max: z.int().min(1).max(65_536).default(4_096) });

export default definePlugin({
  id: "my-plugin",
  namespace: "engine",
  sdk: "SDK_RANGE",
  permissions: [],
  config,
  start(ctx, { keys_max: keysMax }) {
    const entries = new Map<string, EngineEntry>();
    const watchers = new Set<{
      prefix: string;
      tell: (key: string, entry: EngineEntry | undefined) => void;
    }>();
    let writes = 0;
    const copyOf = ({ value, revision }: EngineEntry): EngineEntry => ({ value: value.slice(), revision });
    const tell = (key: string, entry: EngineEntry | undefined) => {
      for (const watcher of watchers)
        if (key.startsWith(watcher.prefix))
          watcher.tell(key, entry === undefined ? undefined : copyOf(entry));
    };
    const engine: Engine = {
      // No other node has these keys, so nothing decides between two writers: no cas, no lease, no campaign.
      guarantee: "eventual",
      async get(key, signal) {
        signal.throwIfAborted();
        const entry = entries.get(key);
        return entry === undefined ? undefined : copyOf(entry);
      },
      async put(key, value, signal) {
        signal.throwIfAborted();
        if (!entries.has(key) && entries.size >= keysMax)
          throw new GodwitError("GODWIT_QUEUE_FULL", `at most ${keysMax} keys`, { kind: "capacity" });
        const entry = { value: value.slice(), revision: String(++writes) };
        entries.set(key, entry);
        tell(key, entry);
        return copyOf(entry);
      },
      async delete(key, signal) {
        signal.throwIfAborted();
        if (entries.delete(key)) tell(key, undefined);
      },
      watch(prefix, onChange) {
        const watcher = { prefix, tell: onChange };
        watchers.add(watcher);
        return () => void watchers.delete(watcher);
      },
    };
    ctx.engine.register(engine);
  },
});
