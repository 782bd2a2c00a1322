import { afterAll, beforeAll, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, nodeB, nodeC } from "../../api/testing.ts";
import { systemClock } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { Scope } from "../../kernel/scope.ts";
import { type CliSetup, runForTest, serveAt } from "../testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-ping-"));
const socketPath = join(folder, "node.sock");
const scope = new Scope("api");
const rig = createRig({ clock: systemClock });

beforeAll(async () => {
  await serveAt(socketPath, rig, scope);
});
afterAll(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const ping = (words: string, setup: CliSetup = {}) =>
  runForTest(["ping", ...words.split(" "), "--socket", socketPath], setup);

const hop = (node: NodeId, callsign: string | null, rtt_ms: number, stage = "hop") => ({
  node,
  callsign,
  rtt_ms,
  stage,
});
const over = (rtt_ms: number) => ({
  destination: nodeC,
  reached: true,
  rtt_ms,
  hops: [hop(nodeB, "LON-B", 1), hop(nodeC, "NYC-C", rtt_ms, "reached")],
});
const direct = (rtt_ms: number) => ({
  destination: nodeC,
  reached: true,
  rtt_ms,
  hops: [hop(nodeC, null, rtt_ms, "reached")],
});
const lost = { destination: nodeC, reached: false, rtt_ms: null, hops: [hop(nodeB, "LON-B", 1)] };

test("each answer is a line with its way; the summary counts those that did not come", async () => {
  const trace = spyOn(rig.node, "trace")
    .mockResolvedValueOnce(over(9))
    .mockResolvedValueOnce(lost)
    .mockResolvedValueOnce(direct(2))
    .mockResolvedValueOnce(over(4));
  try {
    const { code, out, err } = await ping("NYC-C --count 4 --interval 100ms");
    expect([code, err]).toEqual([0, ""]);
    expect(out).toBe(
      "1  NYC-C (ambqgaydam)  9.00 ms  by LON-B\n" +
        "2  no answer, LON-B (aibaeaqcai) is as far as it came\n" +
        "3  ambqgaydam  2.00 ms  direct\n" +
        "4  NYC-C (ambqgaydam)  4.00 ms  by LON-B\n" +
        "4 sent, 3 answered; min / median / max 2.00 ms / 4.00 ms / 9.00 ms\n",
    );
    expect(trace).toHaveBeenCalledTimes(4);
  } finally {
    trace.mockRestore();
  }
});

test("Ctrl-C between two, and while one is on its way, ends with the summary", async () => {
  for (const isOnItsWay of [false, true]) {
    const stop = new AbortController();
    const trace = spyOn(rig.node, "trace").mockResolvedValueOnce(over(9));
    if (isOnItsWay)
      trace.mockImplementationOnce(async () => {
        stop.abort();
        return await new Promise<never>(() => {});
      });
    const onOut = (text: string) => void (isOnItsWay || !text.startsWith("1 ") || stop.abort());
    const { code, out } = await ping("NYC-C --interval 100ms", { signal: stop.signal, onOut });
    trace.mockRestore();
    expect(code).toBe(0);
    expect(out.trimEnd().split("\n").at(-1)).toBe(
      "1 sent, 1 answered; min / median / max 9.00 ms / 9.00 ms / 9.00 ms",
    );
  }
});

test("nobody answered: exit 1; with --json a document a line, the last is the summary", async () => {
  const trace = spyOn(rig.node, "trace").mockResolvedValue(lost);
  try {
    expect(await ping("NYC-C --count 1")).toMatchObject({
      code: 1,
      out: expect.stringContaining("1 sent, 0 answered\n"),
    });
    trace.mockResolvedValueOnce(over(9)).mockResolvedValueOnce(over(5));
    const { out } = await ping("NYC-C --count 2 --interval 100ms --json");
    const lines = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { sequence: 1, ...over(9) },
      { sequence: 2, ...over(5) },
      { sent: 2, answered: 2, min_ms: 5, median_ms: 7, max_ms: 9 },
    ]);
  } finally {
    trace.mockRestore();
  }
});

test("what a node on the way is called drives no terminal", async () => {
  const trace = spyOn(rig.node, "trace").mockResolvedValue({
    ...lost,
    hops: [hop(nodeB, "LON\u001b[2J\nforged", 1)],
  });
  const { out } = await ping("NYC-C --count 1");
  trace.mockRestore();
  expect(out).toStartWith("1  no answer, LON\ufffd[2J forged (aibaeaqcai) is as far as it came\n1 sent");
});

test("an unknown node, a count and an interval that are none are refused", async () => {
  expect(await ping("NOBODY")).toMatchObject({ code: 1, out: "" });
  expect((await ping("NYC-C --count none")).err).toContain("--count is a whole number");
  expect((await ping("NYC-C --interval 1ms")).err).toContain("--interval is at least 100ms");
  expect((await ping("NYC-C --interval 1")).err).toContain("did you mean 1s");
});
