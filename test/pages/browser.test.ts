/**
 * Pages of plugins in real Chromium: they work with their own token, and a page that wants everything gets nothing: not with the tokens
 * that it learned, not of the node, not of its neighbours. That the attempts are real is shown by the same page without its policy.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Chromium } from "./chromium.ts";
import { type Place, places, PagesLab, tokens } from "./lab.ts";

const LONG_MS = 120_000;
let pages: PagesLab;
let browser: Chromium;
let outside: ReturnType<typeof Bun.serve>;
/** What came to a host outside, which a page has no business with. */
const strays: string[] = [];

beforeAll(async () => {
  browser = await Chromium.start();
  pages = await PagesLab.start();
  outside = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      strays.push(new URL(request.url).pathname);
      return new Response("read", { headers: { "access-control-allow-origin": "*" } });
    },
  });
}, LONG_MS);
afterAll(async () => {
  await outside?.stop(true);
  await browser?.close();
  await pages?.lab.close();
});

async function outcome<T>(url: string, fragment: string): Promise<T> {
  const tab = await browser.open(`${url}#${fragment}`);
  return await tab.value<T>(
    `new Promise((resolve) => { const look = () => document.title === "done" ? resolve(window.out) : setTimeout(look, 20); look(); })`,
  );
}

const attackWith = (own: Place, theirs: readonly string[], waitMs: number) =>
  encodeURIComponent(
    JSON.stringify({
      own: tokens[own],
      other: tokens[places.find((place) => place !== own)!],
      admin: tokens.admin,
      theirs: theirs.map((place) => `/x/${place}/`),
      waitMs,
      outside: `http://127.0.0.1:${outside.port}/`,
    }),
  );

describe.each([...places])("%s", (place) => {
  test(
    "its page runs in an origin of its own, and reads and writes with its token",
    async () => {
      const before = (await pages.state(place)).seen.length;
      const out = await outcome(pages.url(place), tokens[place]);
      expect(out).toEqual({
        data: { secret: place, query: "q=1" },
        posted: 100_000,
        // Without a token there is nothing to read, not even the refusal.
        bare: expect.stringContaining("TypeError"),
        origin: "null",
        color: "rgb(1, 2, 3)",
      });
      const seen = (await pages.state(place)).seen.slice(before);
      const asked = seen.filter(({ path }) => path === "/data" || path === "/echo");
      expect(asked.length).toBe(2);
      expect(JSON.stringify(seen)).not.toContain(tokens[place]);
    },
    LONG_MS,
  );

  test(
    "a page that wants everything gets nothing",
    async () => {
      const before = await browser.tabs();
      const others = places.filter((other) => other !== place);
      const seenBefore = await Promise.all(others.map((other) => pages.state(other)));
      strays.length = 0;
      const out = await outcome<Record<string, string>>(
        pages.url(place, "attack"),
        attackWith(place, others, 30_000),
      );
      const got = Object.entries(out).filter(([, result]) => /^READ|^opaque|^nothing came/.test(result));
      expect(got).toEqual([]);
      expect(Object.keys(out).length).toBeGreaterThan(50);
      // Nor did anything get there that it could not read the answer of.
      expect(strays).toEqual([]);
      const seenAfter = await Promise.all(others.map((other) => pages.state(other)));
      expect(seenAfter.map(({ seen }) => seen.length)).toEqual(seenBefore.map(({ seen }) => seen.length));
      expect(await pages.node.box("outbox")).toEqual([]);
      expect((await pages.node.json<{ tokens: unknown[] }>("/tokens")).tokens.length).toBe(4);
      expect(await browser.tabs()).toBe(before + 1);
    },
    LONG_MS,
  );
});

test(
  "without the policy the same page reads it all: the attempts are real",
  async () => {
    const bare = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      async fetch(request) {
        const { pathname, search } = new URL(request.url);
        const answer = await fetch(`${pages.node.apiUrl}${pathname}${search}`, {
          method: request.method,
          headers: Object.fromEntries(
            [...request.headers].filter(([name]) => ["authorization", "accept"].includes(name)),
          ),
        });
        const headers = new Headers(answer.headers);
        for (const name of ["content-security-policy", "x-content-type-options"]) headers.delete(name);
        return new Response(await answer.arrayBuffer(), { status: answer.status, headers });
      },
    });
    try {
      const out = await outcome<Record<string, string>>(
        `http://127.0.0.1:${bare.port}/x/contained/attack`,
        attackWith("contained", ["untrusted", "trusted"], 10_000),
      );
      for (const name of [
        "messages, a token it learned",
        "messages, xhr",
        "their data, a token it learned /x/trusted/",
        "their script /x/untrusted/",
        "their frame /x/untrusted/",
        ...[
          "out of the folder, dots",
          "own frame",
          "frame",
          "eval",
          "window",
          "worker",
          "storage",
          "database",
        ],
        ...["outside", "cookies"],
      ])
        expect([name, out[name]]).toEqual([name, expect.stringContaining("READ")]);
      // What the node itself refuses needs no policy.
      expect(out["messages, own token"]).toContain("403");
      expect(out["their data, everything /x/trusted/"]).toContain("403");
    } finally {
      await bare.stop(true);
    }
  },
  LONG_MS,
);

test(
  "another site reads nothing of it, and frames none of it",
  async () => {
    const evil = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () =>
        new Response(
          `<!doctype html><body><script>
const within = (run) => Promise.race([run(), new Promise((resolve) => setTimeout(() => resolve("nothing came"), 30_000))]).catch((error) => "refused: " + error);
const read = (path, token) => within(async () => "READ " + await (await fetch(${JSON.stringify(pages.node.apiUrl)} + path, token && { headers: { authorization: "Bearer " + token } })).text());
const frame = (path, sandbox) => within(() => new Promise((resolve) => {
  const made = document.createElement("iframe");
  made.onload = () => resolve(made.contentDocument === null ? "refused: closed" : "READ " + made.contentDocument.body.textContent);
  made.src = ${JSON.stringify(pages.node.apiUrl)} + path;
  document.body.append(made);
}));
Promise.all([read("/x/contained/"), read("/x/contained/data"), read("/x/contained/data", ${JSON.stringify(tokens.contained)}), read("/messages", ${JSON.stringify(tokens.admin)}), frame("/x/contained/")])
  .then((out) => { window.out = out; document.title = "done"; });
</script>`,
          { headers: { "content-type": "text/html" } },
        ),
    });
    try {
      const out = await outcome<string[]>(`http://127.0.0.1:${evil.port}/`, "");
      for (const result of out) expect(result).toStartWith("refused");
    } finally {
      await evil.stop(true);
    }
  },
  LONG_MS,
);

test(
  "it works under the name localhost too",
  async () => {
    const url = pages.url("contained").replace("127.0.0.1", "localhost");
    expect(await outcome(url, tokens.contained)).toMatchObject({ origin: "null", posted: 100_000 });
  },
  LONG_MS,
);
