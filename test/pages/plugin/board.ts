/** A service of a third party with pages, a hostile one among them, and everything that a bad one may do over HTTP. */
import { definePlugin, type PageHandler, type PageRequest, type PageResponse } from "@godwit/sdk";

/** attack.js, put in when it is bundled. */
declare const ATTACK: string;

const config = {
  "~standard": { version: 1 as const, vendor: "plain", validate: () => ({ value: {} }) },
};

const PIECE_BYTES = 65_536;
const html = (script: string): PageResponse => ({
  headers: { "content-type": "text/html; charset=utf-8" },
  body: `<!doctype html><title>…</title><link rel="stylesheet" href="style.css"><h1>Board</h1><script src="${script}"></script>`,
});
const code = (body: string, type = "text/javascript"): PageResponse => ({
  headers: { "content-type": type },
  body,
});

const APP = `
const token = location.hash.slice(1);
const headers = { authorization: "Bearer " + token };
const read = async () => {
  const data = await (await fetch("data?q=1", { headers })).json();
  const posted = await (await fetch("echo", { method: "POST", headers, body: "é".repeat(100000) })).text();
  const bare = await fetch("data").then((answer) => answer.status, (error) => String(error));
  return { data, posted: posted.length, bare, origin: self.origin, color: getComputedStyle(document.querySelector("h1")).color };
};
read().then((out) => (window.out = out), (error) => (window.out = String(error))).then(() => (document.title = "done"));
`;

export default definePlugin({
  id: "board",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: ["http.pages", "http.pages.public"],
  config,
  start(ctx) {
    const seen: Pick<PageRequest, "method" | "path" | "query" | "headers" | "isAuthorized">[] = [];
    let made = 0;
    let returned = 0;
    let aborted = 0;
    async function* endless() {
      try {
        for (;;) {
          made += PIECE_BYTES;
          yield new Uint8Array(PIECE_BYTES);
        }
      } finally {
        returned++;
      }
    }
    async function* begun(then: () => unknown) {
      yield "begun";
      await then();
      yield "never seen";
    }
    const never = () => new Promise<never>(() => {});
    const shown: Readonly<Record<string, PageHandler>> = {
      "/": () => html("app.js"),
      "/attack": () => html("attack.js"),
      "/app.js": () => code(APP),
      "/attack.js": () => code(ATTACK),
      "/style.css": () => code("h1 { color: rgb(1, 2, 3) }", "text/css"),
      "/data": ({ query }) => code(JSON.stringify({ secret: ctx.instance, query }), "application/json"),
      "/echo": async ({ body }) => {
        const pieces: Uint8Array[] = [];
        for await (const piece of body) pieces.push(piece);
        return { body: Buffer.concat(pieces) };
      },
      "/unread": () => ({ body: "not read" }),
      "/endless": () => ({ body: endless() }),
      "/never": never,
      "/waits": ({ signal }) =>
        new Promise((resolve) =>
          signal.addEventListener("abort", () => {
            aborted++;
            resolve({});
          }),
        ),
      "/silent": () => ({ body: begun(never) }),
      "/breaks": () => ({ body: begun(() => Promise.reject(new Error("swordfish"))) }),
      "/throws": () => {
        throw new Error("swordfish");
      },
      "/dies": () => ({
        body: begun(() => {
          ctx.spawn("end", () => Promise.reject(new Error("over")));
          return never();
        }),
      }),
      "/cookie": () => ({ headers: { "set-cookie": "a=b" }, body: "x" }),
      "/away": () => ({ status: 302, headers: { location: "/messages" } }),
      "/policy": () => ({ headers: { "content-security-policy": "sandbox allow-same-origin" }, body: "x" }),
      "/state": () => code(JSON.stringify({ seen, made, returned, aborted }), "application/json"),
    };
    ctx.http.pages(
      (request) => {
        const { method, path, query, headers, isAuthorized } = request;
        if (path !== "/state") seen.push({ method, path, query, headers, isAuthorized });
        return shown[path]?.(request) ?? { status: 404, body: "nothing is there" };
      },
      { open: ["/", "/attack", "/app.js", "/attack.js", "/style.css"] },
    );
  },
});
