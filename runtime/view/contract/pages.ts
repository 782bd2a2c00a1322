/** What the API knows of pages: which paths are open to whom, and how one request is handed over. `plugin/pages/pages.ts` implements it. */
import type { PageRequest } from "@godwit/sdk";
import type { PageAnswer, PagesReach } from "../../plugin/pages/pages.ts";

export type { PageAnswer, PagesReach };

export interface PagesDesk {
  /** Whom that instance lets in to `path` without a token; undefined: nobody, or there is no such instance. */
  reachOf(instance: string, path: string): PagesReach | undefined;
  /**
   * Hands it to the plugin. Rejects with GODWIT_NOT_FOUND, GODWIT_TOO_MANY_REQUESTS, GODWIT_TIMEOUT, GODWIT_STOPPED,
   * GODWIT_PLUGIN_FAILED, or the reason of the request's signal.
   */
  call(instance: string, request: PageRequest): Promise<PageAnswer>;
}
