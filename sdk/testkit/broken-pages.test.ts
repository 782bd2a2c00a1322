/** Every check of pages is shown a service that breaks it, and none objects to one that is as it should be. */
import { describe, expect, test } from "bun:test";
import { boardPlugin, type PagesFault } from "./broken-pages.ts";
import { pagesChecks, type PagesSetup } from "./index.ts";
import { verdict } from "./broken-verdict.ts";

const of = (fault?: PagesFault) => ({
  name: "x",
  setup: (): PagesSetup => ({
    plugin: boardPlugin(fault),
    config: {},
    pages: [
      { path: "/" },
      { path: "/news", isEndless: true },
      { path: "/echo", method: "POST", body: "hello" },
    ],
  }),
});

test.each(pagesChecks.map(({ name }) => name))("nothing is wrong with the correct one: %s", async (name) => {
  expect(await verdict(pagesChecks, name, of())).toBe("passes");
});

const faults: readonly (readonly [PagesFault, name: string, says: string])[] = [
  ["no-pages", "its pages", "it never called ctx.http.pages"],
  ["cookie", "its pages", 'the header "set-cookie" is none that a page may set'],
  ["redirects", "its pages", "the status 302 is none that a page may have"],
  ["same-origin", "its pages", 'the header "access-control-allow-origin" is none'],
  ["breaks-off", "its pages", "the body of GET /news breaks off: Error: lost it"],
  ["missing-open", "its open paths", "the open path /app.js is answered with 404"],
  ["fails-at-odd", "paths, queries", "is answered with 500"],
  ["throws-at-methods", "paths, queries", "DELETE / fails: Error: who deletes a board?"],
  ["one-at-a-time", "32 requests", "fails: Error: busy"],
  ["forgets-client", "a client that leaves", "left its body"],
  ["hangs-at-broken-body", "a request whose body", "whose body breaks off"],
  ["forgets-stop", "stop in the midst", "a request ends with the plugin"],
];
describe("every fault is found", () => {
  test.each(faults)("%s", async (fault, name, says) => {
    expect(await verdict(pagesChecks, name, of(fault))).toContain(says);
  });
});
