/** Deliveries in a flood. */
import { expect, test } from "bun:test";
import { EARLIER_RUN } from "../../kernel/room.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS } from "../../kernel/testing.ts";
import { TRANSIENTS_WAITING_MAX } from "./delivery.ts";
import { messageOf, open } from "./testing-delivery.ts";

test(
  "a flood of transient messages does not make a node deliver one of a friend twice that comes on two ways",
  async () => {
    const { clock, inbox, send } = await open(0);
    const settle = async (outcome: Promise<unknown>) => {
      await clock.advance(1);
      return outcome;
    };
    expect(await settle(send(1, 1))).toBe("delivered");
    await settle(inbox.remove(messageOf(1)));
    for (let n = 0; n < DOOR_IDENTITIES; n += TRANSIENTS_WAITING_MAX) {
      const some = Array.from({ length: TRANSIENTS_WAITING_MAX }, (_, i) =>
        send(1_000 + n + i, 0, true, EARLIER_RUN),
      );
      await settle(Promise.all(some));
    }
    expect(await settle(send(1, 1))).toBe("again");
  },
  DOOR_TEST_MS,
);
