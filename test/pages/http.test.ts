/**
 * Pages over real sockets, for plugins in the node, in a Worker and locked in: what goes in and comes out, and what floods, slow
 * clients and plugins that never answer, answer what they may not, or die in mid-answer cost everybody else.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { once } from "node:events";
import { type Place, places, PagesLab, tokens } from "./lab.ts";

const LONG_MS = 60_000;
/** What a client that reads nothing may cost: two socket buffers, the window of frames and the room above it. */
const SLOW_BYTES_MAX = 16 * 2 ** 20;
let pages: PagesLab;
beforeAll(async () => {
  pages = await PagesLab.start();
}, LONG_MS);
afterAll(async () => {
  await pages?.lab.close();
});

async function firstLine(socket: Socket): Promise<string> {
  socket.resume();
  const [bytes] = (await once(socket, "data")) as [Uint8Array];
  socket.destroy();
  return Buffer.from(bytes).toString().split("\r\n", 1)[0]!;
}
/** Whether an answer came to its end, as a client sees it that asks no second time. */
async function ending(place: Place, path: string): Promise<string> {
  const socket = await pages.raw(pages.asking(place, path, "connection: close\r\n"));
  let text = "";
  socket.on("data", (bytes) => (text += String(bytes)));
  socket.resume();
  // Not `once`, which rejects where a connection is reset.
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  return text.endsWith("\r\n0\r\n\r\n") || !/^(?:$|HTTP\/1.1 200)/.test(text) ? text : "cut";
}
const until = (what: string, check: () => Promise<boolean>) => pages.node.until(what, check, 20_000);

describe.each([...places])("%s", (place) => {
  test(
    "bodies of both ways are whole up to the bound, and cut above it",
    async () => {
      const body = crypto.getRandomValues(new Uint8Array(65_536));
      const large = Buffer.concat(Array.from({ length: 256 }, () => body));
      const echoed = await pages.get(place, "echo", { method: "POST", body: large });
      expect(Buffer.compare(Buffer.from(await echoed.arrayBuffer()), large)).toBe(0);
      const over = await pages.get(place, "echo", { method: "POST", body: Buffer.concat([large, body]) });
      expect(over.status).toBe(413);
      const unread = await pages.get(place, "unread", { method: "POST", body: large });
      expect(await unread.text()).toBe("not read");
    },
    LONG_MS,
  );

  test(
    "what a page may not answer is the plugin's failure, and nothing of it goes out",
    async () => {
      for (const path of ["cookie", "away", "policy", "throws"]) {
        const response = await pages.get(place, path);
        expect([path, response.status]).toEqual([path, 500]);
        for (const name of ["set-cookie", "location"]) expect(response.headers.has(name)).toBe(false);
        expect(response.headers.get("content-security-policy")).toStartWith(
          "sandbox allow-scripts; default-src 'none'",
        );
        expect(await response.text()).not.toContain("swordfish");
      }
    },
    LONG_MS,
  );

  test(
    "a token goes no further than the door",
    async () => {
      await pages.get(place, "data", {
        headers: { cookie: "a=b", "x-forwarded-for": "1.2.3.4", origin: "null", accept: "text/x-marked" },
      });
      const { seen } = await pages.state(place);
      expect(seen.find(({ headers }) => headers["accept"] === "text/x-marked")).toMatchObject({
        headers: { accept: "text/x-marked" },
        isAuthorized: true,
      });
      expect(JSON.stringify(seen)).not.toContain(tokens[place]);
    },
    LONG_MS,
  );

  test(
    "a client that reads nothing holds its own stream only, and its leaving is told to the plugin",
    async () => {
      const before = await pages.state(place);
      const socket = await pages.raw(pages.asking(place, "endless"));
      let last = -1;
      await until("the stream to stand still", async () => {
        const { made } = await pages.state(place);
        const isStill = made === last && made > before.made;
        last = made;
        if (!isStill) await Bun.sleep(100);
        return isStill;
      });
      expect(last - before.made).toBeLessThan(SLOW_BYTES_MAX);
      expect((await pages.get(place, "data")).status).toBe(200);
      socket.destroy();
      await until("the plugin to hear", async () => (await pages.state(place)).returned > before.returned);
    },
    LONG_MS,
  );

  test(
    "a flood is refused beyond 32 at once, everybody else is answered, and it ends with its clients",
    async () => {
      const before = (await pages.state(place)).aborted;
      const flood = await pages.fill(place, "waits");
      const other = places.find((one) => one !== place)!;
      expect((await pages.get(other, "data")).status).toBe(200);
      expect((await pages.node.api("/messages")).status).toBe(200);
      expect((await fetch(`${pages.node.apiUrl}/health`)).status).toBe(200);
      for (const socket of flood) socket.destroy();
      await until("places to be free again", async () => (await pages.get(place, "data")).status === 200);
      expect((await pages.state(place)).aborted - before).toBe(32);
    },
    LONG_MS,
  );

  test(
    "a stream that breaks is cut so that its client notices",
    async () => {
      expect(await ending(place, "breaks")).toBe("cut");
      await until("the log to say why", async () =>
        pages.node.logLines.some((line) => line.includes(`"service.${place}"`) && line.includes("swordfish")),
      );
    },
    LONG_MS,
  );
});

test(
  "no path leads out of a folder, however it is written",
  async () => {
    const seen = async () => (await pages.state("contained")).seen.length;
    const before = await seen();
    const outcomes = new Set<string>();
    for (const path of [
      ...[
        "../../messages",
        "%2e%2e/%2e%2e/messages",
        "..%2f..%2fmessages",
        "..%5c..%5cmessages",
        "a/../../../messages",
      ],
      ...["./../../tokens", "..;/..;/messages%00", "//messages", "%2f%2e%2e%2fmessages", "../trusted/data"],
    ])
      outcomes.add(
        `${path}: ${await firstLine(await pages.raw(pages.asking("contained", path, "connection: close\r\n")))}`,
      );
    for (const outcome of outcomes) expect(outcome).toMatch(/HTTP\/1\.1 4\d\d/);
    expect(await seen()).toBe(before);
  },
  LONG_MS,
);

test(
  "without the grant there are no pages, and the plugin is told why",
  async () => {
    expect((await pages.node.api("/x/ungranted/")).status).toBe(404);
    const why = pages.node.logLines.filter((line) => line.includes('"ungranted"'));
    expect(why.join("\n")).toContain("was not granted http.pages");
  },
  LONG_MS,
);

test(
  "a token for the node opens no pages, and one for pages not the node",
  async () => {
    const admin = { headers: { authorization: `Bearer ${tokens.admin}` } };
    expect((await fetch(pages.url("trusted", "data"), admin)).status).toBe(403);
    expect((await fetch(pages.url("trusted", "data"))).status).toBe(401);
    const own = { headers: { authorization: `Bearer ${tokens.trusted}` } };
    for (const path of ["/messages", "/tokens", "/mesh/status", "/events", "/x/contained/data"])
      expect([path, (await fetch(`${pages.node.apiUrl}${path}`, own)).status]).toEqual([path, 403]);
  },
  LONG_MS,
);

describe.each([...places])("%s that dies", (place) => {
  test(
    "takes its answers along, nothing else, and comes back",
    async () => {
      expect(await ending(place, "dies")).toBe("cut");
      for (const other of places)
        if (other !== place) expect((await pages.get(other, "data")).status).toBe(200);
      await until("it to be back", async () => (await pages.get(place, "data")).status === 200);
    },
    LONG_MS,
  );
});

test("the node's log holds its own lines and nothing that a plugin made it write", () => {
  expect(pages.node.logLines.filter((line) => !line.startsWith("{"))).toEqual([]);
});
