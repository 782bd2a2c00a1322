/** Plugins that never answer, on a node of their own: what they hold they hold until they end. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { places, PagesLab } from "./lab.ts";

const LONG_MS = 60_000;
let pages: PagesLab;
beforeAll(async () => {
  pages = await PagesLab.start();
}, LONG_MS);
afterAll(async () => {
  await pages?.lab.close();
});

test(
  "plugins that never answer fill their own places, and the node answers beside them",
  async () => {
    const left = [...places];
    for (const place of places) {
      for (const other of left) expect((await pages.get(other, "data")).status).toBe(200);
      left.shift();
      const sockets = await pages.fill(place, "never");
      for (const socket of sockets) socket.destroy();
      // It is not done with them, whoever waits.
      expect((await pages.get(place, "data")).status).toBe(429);
    }
    expect((await pages.node.api("/messages")).status).toBe(200);
    expect((await fetch(`${pages.node.apiUrl}/health`)).status).toBe(200);
  },
  LONG_MS,
);
