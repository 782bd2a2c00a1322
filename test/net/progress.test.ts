/** A file that takes its time over a real link that is slow: what its sender is shown meanwhile. */
import { afterAll, expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import type { MessageView } from "../../runtime/view/contract/node.ts";
import { closeMeshes, scenario } from "./net-mesh.ts";

afterAll(closeMeshes);

const MIB = 1_048_576;
const KILOBITS_PER_SECOND = 4_000;

scenario(
  "a file that is sent over a slow link shows its bytes, its rate and the time that is left",
  async (mesh) => {
    const [a, b] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
    const link = mesh.net.link(a, b);
    await mesh.start(b, []);
    const node = await mesh.start(a, [link.b.endpoint("v4")]);
    await mesh.untilWhole();
    link.limit(KILOBITS_PER_SECOND);
    const path = join(mesh.dir, "map.png");
    writeFileSync(path, new Uint8Array(4 * MIB));
    const events = Bun.spawn(
      [binaryPath, "events", "--family", "message", "--json", "--socket", node.socketPath],
      { stdout: "pipe", stderr: "ignore" },
    );
    const startedMs = performance.now();
    const sending = Bun.spawn(
      [binaryPath, "send", "LON-B", "--file", path, "--wait", "--socket", node.socketPath],
      { stdout: "pipe", stderr: "pipe" },
    );
    try {
      const seen: MessageView[] = [];
      while (sending.exitCode === null) {
        seen.push(...(await node.box<MessageView>("outbox")));
        await Bun.sleep(100);
      }
      // The command may have ended behind the last look, and what was seen then is not the end.
      seen.push(...(await node.box<MessageView>("outbox")));
      const tookS = (performance.now() - startedMs) / 1_000;
      expect(await sending.stdout.text()).toStartWith("delivered with a receipt signed by LON-B");
      expect(await sending.stderr.text()).toMatch(
        /\nsending \d\.\d of 4\.0 MiB(, [\d.]+ [kM]bit\/s, \d+ s left)?\n/,
      );
      const half = seen.find(({ progress }) => progress !== null && progress.bytes > 2 * MIB)!;
      expect(half.progress).toMatchObject({ next_hop_callsign: "LON-B" });
      const { bits_per_second: rate, bytes, bytes_total: total, seconds_left: leftS } = half.progress!;
      // Some goes for frames, and the link's queue.
      expect(rate! / (KILOBITS_PER_SECOND * 1_000)).toBeGreaterThan(0.7);
      expect(rate! / (KILOBITS_PER_SECOND * 1_000)).toBeLessThan(1.3);
      expect(Math.abs(leftS! - ((total - bytes) * 8) / rate!)).toBeLessThanOrEqual(1);
      const { stdout } = events;
      events.kill();
      const told = (await stdout.text())
        .split("\n")
        .filter((line) => line.includes("message.sending"))
        .map((line) => (JSON.parse(line) as { data: { bytes: number } }).data.bytes);
      expect(told.length).toBeGreaterThanOrEqual(3);
      expect(told.length).toBeLessThanOrEqual(tookS);
      expect(told).toEqual([...told].sort((x, y) => x - y));
      expect(seen.at(-1)).toMatchObject({ progress: null });
    } finally {
      sending.kill();
      events.kill();
      await Promise.all([sending.exited, events.exited]);
    }
  },
);
