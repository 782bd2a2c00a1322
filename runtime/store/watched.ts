/** A store that remembers whether its last commit worked, for `/health`. */
import { asGodwitError } from "../kernel/errors.ts";
import type { Store } from "./types.ts";

/** The store with a memory of whether it works, for `/health`. */
export function watchStore(store: Store): Store & { readonly failure: string | undefined } {
  let failure: string | undefined;
  return {
    load: (collection) => store.load(collection),
    body: (collection, key) => store.body(collection, key),
    usage: () => store.usage(),
    close: () => store.close(),
    get failure() {
      return failure;
    },
    async commit(ops) {
      try {
        await store.commit(ops);
        failure = undefined;
      } catch (error) {
        failure = asGodwitError(error).message;
        throw error;
      }
    },
  };
}
