/** A service with pages for the kit's own tests: correct as long as no fault is asked for, and wrong in one way when one is. */
import { definePlugin, type PageHandler, type PageResponse, type Plugin } from "../src/index.ts";
import { schemaOf } from "./broken.ts";

export type PagesFault =
  | "breaks-off"
  | "cookie"
  | "fails-at-odd"
  | "forgets-client"
  | "forgets-stop"
  | "hangs-at-broken-body"
  | "missing-open"
  | "no-pages"
  | "one-at-a-time"
  | "redirects"
  | "same-origin"
  | "throws-at-methods";

export const boardPlugin = (fault?: PagesFault): Plugin =>
  definePlugin({
    id: "board",
    namespace: "service",
    sdk: "^0.1.0",
    permissions: ["http.pages"],
    config: schemaOf([]),
    start(ctx) {
      let isBusy = false;
      const never = () => new Promise<never>(() => {});
      const untilAborted = (signal: AbortSignal) =>
        new Promise<void>((resolve) => {
          if (signal.aborted) return resolve();
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      async function* news(signal: AbortSignal): AsyncGenerator<string> {
        if (fault === "breaks-off") throw new Error("lost it");
        yield "begun\n";
        await (fault === "forgets-client" || (fault === "forgets-stop" && !ctx.signal.aborted)
          ? never()
          : untilAborted(signal));
      }
      const echo: PageHandler = async ({ body }) => {
        const pieces: Uint8Array[] = [];
        try {
          for await (const piece of body) pieces.push(piece);
        } catch (error) {
          if (fault === "hangs-at-broken-body") await never();
          throw error;
        }
        return { body: Buffer.concat(pieces) };
      };
      const page: PageResponse = { headers: { "content-type": "text/html" }, body: "<h1>Board</h1>" };
      const answer: PageHandler = (request) => {
        const { path, method, signal } = request;
        if (path === "/app.js" && fault === "missing-open") return { status: 404 };
        if (path === "/app.js") return { headers: { "content-type": "text/javascript" }, body: "1" };
        if (path === "/news") return { body: news(signal) };
        if (path === "/echo" && method === "POST") return echo(request);
        if (path !== "/") {
          if (fault === "fails-at-odd") decodeURIComponent(path);
          return { status: fault === "fails-at-odd" ? 500 : 404, body: "nothing is there" };
        }
        if (fault === "throws-at-methods" && method === "DELETE") throw new Error("who deletes a board?");
        if (fault === "cookie") return { ...page, headers: { "set-cookie": "a=b" } };
        if (fault === "redirects") return { status: 302, headers: { location: "/" } };
        if (fault === "same-origin") return { ...page, headers: { "access-control-allow-origin": "*" } };
        return page;
      };
      if (fault === "no-pages") return;
      ctx.http.pages(
        async (request) => {
          if (fault === "one-at-a-time" && isBusy) throw new Error("busy");
          isBusy = true;
          await Promise.resolve();
          isBusy = false;
          return await answer(request);
        },
        { open: ["/", "/app.js"] },
      );
    },
  });
