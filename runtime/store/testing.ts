/** A store that keeps nothing, to be taken apart by tests of those that need a row or two. For tests only. */
import { soundState, type Store } from "./types.ts";

export const emptyStore: Store = {
  state: soundState,
  onState() {},
  load: async () => [],
  body: async () => undefined,
  piece: async () => undefined,
  rows: async () => [],
  page: async () => [],
  totals: async () => ({ groups: [], last: 0 }),
  commit: async () => {},
  usage: async () => ({ bytes: 0, freeBytes: undefined }),
  close: async () => {},
};
