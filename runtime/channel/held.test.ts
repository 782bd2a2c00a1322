import { expect, test } from "bun:test";
import type { Medium, Urgency } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { BUSY_LOOK_MS, HeldMail } from "./held.ts";

interface Channel {
  readonly name: string;
  admits?: Urgency;
}

function bench(...channels: Channel[]) {
  const clock = new ManualClock();
  let woken = 0;
  const held = new HeldMail({ clock, media: () => channels as Medium[], wake: () => void woken++ });
  const note = (channel: Channel, urgency: Urgency) => held.note(channel as Medium, urgency);
  return { clock, held, note, channels, woken: () => woken };
}

test("mail that came while the channel was busy is taken up again, however shortly that was", async () => {
  const radio: Channel = { name: "radio", admits: 4 };
  const { clock, note, woken } = bench(radio);
  await clock.advance(5_000);
  radio.admits = 0;
  await clock.advance(1_000);
  note(radio, 1);
  await clock.advance(6_000);
  radio.admits = 4;
  await clock.advance(BUSY_LOOK_MS);
  expect(woken()).toBe(1);
  // Nothing waits now.
  await clock.advance(10 * BUSY_LOOK_MS);
  expect(woken()).toBe(1);
});

test("it waits for as long as none of it is admitted, and the most urgent is enough", async () => {
  const [radio, other]: Channel[] = [
    { name: "radio", admits: 0 },
    { name: "other", admits: 0 },
  ];
  const { clock, note, woken } = bench(radio!, other!);
  note(radio!, 1);
  note(radio!, 2);
  await clock.advance(40 * BUSY_LOOK_MS);
  other!.admits = 4;
  await clock.advance(BUSY_LOOK_MS);
  expect(woken()).toBe(0);
  radio!.admits = 1;
  await clock.advance(BUSY_LOOK_MS);
  expect(woken()).toBe(1);
});

test("a radio that was away, and comes back as another medium, wakes what it held", async () => {
  const { clock, note, channels, woken } = bench({ name: "radio", admits: 0 });
  note(channels.pop()!, 1);
  await clock.advance(4 * BUSY_LOOK_MS);
  expect(woken()).toBe(0);
  channels.push({ name: "radio" });
  await clock.advance(BUSY_LOOK_MS);
  expect(woken()).toBe(1);
});

test("after its end nobody is woken", async () => {
  const { clock, held, note, channels, woken } = bench({ name: "radio" });
  note(channels[0]!, 1);
  held.stop();
  note(channels[0]!, 1);
  await clock.advance(2 * BUSY_LOOK_MS);
  expect(woken()).toBe(0);
});
