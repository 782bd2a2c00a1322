/** Large mail through a relay whose ways on fill at each stage. */
import { expect, test } from "bun:test";
import { FrameType } from "../../wire/constants.ts";
import { pattern } from "../testing.ts";
import { MEGABYTE, chunkBytes, refusals, received, line } from "./testing-cut-through.ts";

test("a block that waits for room to the next hop is sent as it came, however much comes behind it meanwhile", async () => {
  const body = pattern(9 * MEGABYTE);
  for (const chunksSent of [1, 3, 30, 53, 62]) {
    const { mesh, a, b, c } = await line();
    // Of the way to the relay only two chunks a millisecond are free, so that it goes on while it arrives.
    let [room, toRelay, onward] = [0, 0, 0];
    mesh.hasRoom = ({ type, from, bytes }) => {
      if (type !== FrameType.chunk) return true;
      if (from === "a") {
        if (room-- <= 0) return false;
        toRelay += bytes.length;
        return true;
      }
      if (onward >= chunksSent && toRelay < 8 * MEGABYTE) return false;
      onward++;
      return true;
    };
    await a.send(c.id, body);
    for (let ms = 0; c.delivered.length === 0 && ms < 5_000; ms++) {
      room = 2;
      a.custody!.onWritable(b.id);
      b.custody!.onWritable(c.id);
      await mesh.clock.advance(1);
    }
    expect(await received(c)).toEqual(body);
    // No block was asked for twice.
    expect([refusals(mesh, "c>b"), chunkBytes(mesh, "b>c") < 9.1 * MEGABYTE]).toEqual([[], true]);
    expect(b.custody!.forwarder.count).toBe(0);
  }
});
