/** An engine that tells its like of each write, for the kit's own tests: correct as long as no fault is asked for, and wrong in one way when one is. */
import {
  definePlugin,
  type EngineEntry,
  type IncomingMeshStream,
  type MeshStream,
  type Plugin,
} from "../src/index.ts";
import { schemaOf } from "./broken.ts";

export type TellingFault =
  | "ignores-drain"
  | "never-decides"
  | "stuck-by-garbage"
  | "stuck-by-refusal"
  | "throws-at-members"
  | "throws-at-stream"
  | "waits-for-reader";

interface Follower {
  readonly stream: MeshStream;
  readonly missing: Set<string>;
  hasRoom: boolean;
}

export const tellingEngine = (fault?: TellingFault): Plugin =>
  definePlugin({
    id: "telling",
    namespace: "engine",
    sdk: "^0.1.0",
    permissions: ["engine.members", "engine.streams"],
    config: schemaOf([]),
    start(ctx) {
      const entries = new Map<string, EngineEntry>();
      const watchers = new Set<(key: string, entry: EngineEntry | undefined) => void>();
      const followers = new Map<string, Follower>();
      let writes = 0;
      let isStuck = false;
      const tell = (follower: Follower) => {
        for (const key of follower.missing) {
          if (!follower.hasRoom && fault !== "ignores-drain") return;
          follower.missing.delete(key);
          follower.hasRoom = follower.stream.write(entries.get(key)?.value ?? new Uint8Array(1));
        }
      };
      const follow = async (id: string) => {
        const stream = await ctx.streams.openStream(id, "log");
        const follower: Follower = { stream, missing: new Set(entries.keys()), hasRoom: true };
        followers.set(id, follower);
        stream.open({
          data() {},
          end() {},
          drain() {
            follower.hasRoom = true;
            tell(follower);
          },
          closed: () => void followers.delete(id),
        });
        tell(follower);
      };
      const write = async (key: string, entry: EngineEntry | undefined) => {
        if (entry === undefined) entries.delete(key);
        else entries.set(key, entry);
        for (const watcher of watchers) watcher(key, entry);
        for (const follower of followers.values()) {
          follower.missing.add(key);
          tell(follower);
          if (fault === "waits-for-reader" && !follower.hasRoom) await new Promise(() => {});
        }
      };
      ctx.members.onChange((changes) => {
        for (const { id, member } of changes) {
          if (fault === "throws-at-members" && member === undefined) throw new Error(`where is ${id}?`);
          if (member?.state !== "alive" || followers.has(id)) continue;
          follow(id).catch(() => (isStuck ||= fault === "stuck-by-refusal"));
        }
      });
      const take = (stream: IncomingMeshStream) => {
        if (fault === "never-decides") return;
        if (stream.metadata.length > 1) {
          if (fault === "throws-at-stream") throw new Error("who says so?");
          return stream.reset();
        }
        stream.accept();
        stream.open({
          data(bytes) {
            if (bytes[0] !== 0xff) return;
            isStuck ||= fault === "stuck-by-garbage";
            stream.reset();
          },
          end: () => stream.end(),
          drain() {},
          closed() {},
        });
      };
      ctx.streams.onStream("log", take);
      const copyOf = (entry: EngineEntry | undefined) => entry && { ...entry, value: entry.value.slice() };
      ctx.engine.register({
        guarantee: "eventual",
        async get(key, signal) {
          signal.throwIfAborted();
          return copyOf(entries.get(key));
        },
        async put(key, value, signal) {
          signal.throwIfAborted();
          if (isStuck) throw new Error("stuck");
          const entry = { value: value.slice(), revision: String(++writes) };
          await write(key, entry);
          return { ...entry, value: value.slice() };
        },
        async delete(key, signal) {
          signal.throwIfAborted();
          if (entries.has(key)) await write(key, undefined);
        },
        watch(prefix, onChange) {
          const watcher = (key: string, entry: EngineEntry | undefined) => {
            if (key.startsWith(prefix)) onChange(key, copyOf(entry));
          };
          watchers.add(watcher);
          return () => void watchers.delete(watcher);
        },
      });
    },
  });
