import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runForTest } from "../testing.ts";

test("Ctrl-C while the node is asked how the forward is ended it with 1", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-forward-"));
  const stop = new AbortController();
  const asked: string[] = [];
  const row = { id: "f1", listen: "127.0.0.1:9", to: "LON-B", target: "127.0.0.1:80", failures: 0 };
  const server = Bun.serve({
    unix: join(folder, "node.sock"),
    async fetch({ method }) {
      asked.push(method);
      if (method === "POST") return Response.json(row, { status: 201 });
      if (method === "DELETE") return new Response(null, { status: 204 });
      stop.abort();
      return await new Promise<never>(() => {});
    },
  });
  try {
    const { code, err } = await runForTest(
      ["forward", "127.0.0.1:9", "LON-B", "127.0.0.1:80", "--socket", join(folder, "node.sock")],
      { signal: stop.signal },
    );
    expect([code, err]).toEqual([0, ""]);
    // What it opened is closed.
    expect(asked).toEqual(["POST", "GET", "DELETE"]);
  } finally {
    await server.stop(true);
    rmSync(folder, { recursive: true });
  }
});
