/** A flood of requests whose answers nobody reads. */
import { expect, test } from "bun:test";
import { connect } from "node:net";
import { inspect } from "../init/activation.ts";
import { libc, listenTcp } from "../init/testing.ts";
import { useServerRig } from "./testing-servers.ts";

const at = useServerRig();

test("whoever asks on and on and reads no answer is not answered for ever into memory", async () => {
  const { addresses } = await at.start({ passed: [inspect(libc, listenTcp())] });
  const url = new URL(`http://${addresses[0]}`);
  const asked = () =>
    at.rig.metrics
      .render()
      .then((text) => /http_requests_total\{[^}]*unmatched[^}]*\} (\d+)/.exec(text)?.[1] ?? "0")
      .then(Number);
  const socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {});
  socket.pause();
  // Some 500 bytes each, and the kernel holds some megabytes.
  const requests = 60_000;
  socket.write("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(requests));
  let before = -1;
  for (let now = await asked(); now !== before; now = await asked()) {
    before = now;
    for (let turns = 0; turns < 2_000; turns++) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(before).toBeGreaterThan(0);
  expect(before).toBeLessThan(requests / 2);
  socket.destroy();
});
