/** What a node can begin with before anything of it is loaded. Small: the first thing that `godwit run` loads. */
import { launchStoreWorker } from "../store/worker.ts";

/** It ends with the process, if the node never comes to open its store. */
export const beginNode = (): void => launchStoreWorker();
