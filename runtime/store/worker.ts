/**
 * The thread of the store before it has a database: its engine starts while the node's own code is loaded, on another core. Owns where its code
 * lies, and the one that was launched ahead; whoever takes it owns it.
 */
import { isCompiled } from "../kernel/compiled.ts";

const url = isCompiled
  ? "file:///$bunfs/root/store/sqlite-worker.js"
  : new URL("./sqlite-worker.ts", import.meta.url).href;

let launched: Worker | undefined;

/** For a process that is about to open one store. */
export function launchStoreWorker(): void {
  launched ??= new Worker(url);
}

export function takeStoreWorker(): Worker {
  const worker = launched ?? new Worker(url);
  launched = undefined;
  return worker;
}
