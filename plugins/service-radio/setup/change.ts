/**
 * Changes of a radio that its owner has confirmed: one edit, begun and committed, after which the firmware restarts, and then what it says of itself, which
 * alone shows what was taken. Must never be called with a plan that nobody has seen.
 */
import { isDeepStrictEqual } from "node:util";
import { PORT } from "../limits.ts";
import { encodeSend, type FromRadio } from "../protocol.ts";
import type { OpenWire } from "../wire.ts";
import { ask, askRadio, pause, type RadioAnswer, type RadioDoor, unusable, withLine } from "./ask.ts";
import type { Line } from "./line.ts";
import { encodeAdmin, planRadio, type RadioPlan, type RadioWish } from "./plan.ts";

/** For its word that it took one message. */
const TAKEN_MS = 5_000;
/** From the commit until it restarts: the firmware waits some seconds. */
const RESTART_MS = 15_000;
/** By the network nobody is there while it starts. */
const START_MS = 60_000;
const START_PAUSE_MS = 2_000;

/** Answers what the radio is afterwards. Rejects with GODWIT_RADIO_UNUSABLE when it is another radio, or has not taken all of it. */
export async function changeRadio(
  door: RadioDoor,
  before: RadioAnswer,
  plan: RadioPlan,
  wish: RadioWish,
): Promise<RadioAnswer> {
  const { name } = door;
  let way: OpenWire | undefined;
  for (const each of door.ways) {
    const isDone = await withLine(door, each, async (line, restarts) => {
      const asked = await ask(line, door, restarts);
      if (asked.kind !== "answer") return false;
      if (asked.answer.number !== before.number)
        throw unusable(`another radio answers at ${name} now: nothing was changed`);
      // What somebody changed meanwhile would be undone by what is written whole.
      const now = planRadio(asked.answer, wish);
      if (now.refusal !== undefined || !isDeepStrictEqual(now, plan))
        throw unusable(`${name} is not what was shown any more: nothing was changed; look again`);
      await edit(line, door, before.number, now);
      return true;
    });
    if (!isDone) continue;
    way = each;
    break;
  }
  if (way === undefined) throw unusable(`${name} does not answer any more: nothing was changed`);
  const after = await askAgain(door, way);
  if (after.number !== before.number) throw unusable(`another radio answers at ${name} now: look at both`);
  const left = planRadio(after, wish).fields;
  if (left.length > 0)
    throw unusable(
      `the radio did not take it: ${left.map(({ at, field, from }) => `${field} of ${at} is still ${from}`).join(", ")}; try it in the app of Meshtastic`,
    );
  return after;
}

async function edit(line: Line, door: RadioDoor, number: number, { messages }: RadioPlan): Promise<void> {
  const all = [
    encodeAdmin({ case: "beginEditSettings", value: true }),
    ...messages,
    encodeAdmin({ case: "commitEditSettings", value: true }),
  ];
  for (const payload of all) {
    const id = 1 + door.random.below(0xffff_fffe);
    const packet = { id, to: number, channel: 0, port: PORT.admin, payload, hopLimit: 0, wantAck: false };
    line.say(encodeSend(packet));
    // Older firmware does not say so; what was taken is seen in the end.
    await heardOf(line, door, TAKEN_MS, (it) => it.case === "queueStatus" && it.value.meshPacketId === id);
  }
  await heardOf(line, door, RESTART_MS, (it) => it.case === "rebooted");
}

/** Until such a message, the end of the line, or the end of that time. */
async function heardOf(
  line: Line,
  { clock, signal }: RadioDoor,
  ms: number,
  isIt: (message: FromRadio["payloadVariant"]) => boolean,
): Promise<void> {
  const endMs = clock.monotonicMs() + ms;
  for (;;) {
    const heard = await line.next(endMs - clock.monotonicMs());
    signal.throwIfAborted();
    if (heard.kind !== "message" || isIt(heard.message.payloadVariant)) return;
    if (clock.monotonicMs() >= endMs) return;
  }
}

async function askAgain(door: RadioDoor, way: OpenWire): Promise<RadioAnswer> {
  const { clock, signal } = door;
  const endMs = clock.monotonicMs() + START_MS;
  for (;;) {
    try {
      return await askRadio({ ...door, ways: [way] });
    } catch (error) {
      if (signal.aborted || clock.monotonicMs() >= endMs) throw error;
      await pause(clock, START_PAUSE_MS, signal);
    }
  }
}
