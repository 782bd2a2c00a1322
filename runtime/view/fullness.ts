/**
 * Which stores of mail an operator has to make room in, in words for the node's health. Strangers cannot fill them (kernel/quota.ts), and
 * mail waits for an operator, so one that is full makes the node ill. Whoever asks for health needs no token: must not walk the mail.
 */
import type { Fill } from "../custody/fills.ts";

/** From here on it is told: a message larger than what is left finds it full before it is. */
const NEARLY_FULL = 0.9;
const MIB = 1024 ** 2;

const ADVICE: Readonly<Record<Fill["of"], string>> = {
  inbox: "what does not fit stays with its senders; `godwit inbox rm` makes room, [delivery] sets the bounds",
  outbox:
    "what does not fit is refused; `godwit outbox` says what each message waits for, `godwit outbox rm` withdraws, [delivery] sets the bounds",
};

export function fullnessTroubles(
  fills: readonly Fill[],
): { name: string; reason: string; isNotice: boolean }[] {
  return fills.flatMap(({ of, count, countMax, bytes, bytesMax }) => {
    const share = Math.max(count / countMax, bytes / bytesMax);
    if (share < NEARLY_FULL) return [];
    const words = `${count} of ${countMax} messages, ${(bytes / MIB).toFixed(1)} of ${(bytesMax / MIB).toFixed(1)} MiB`;
    const isFull = share >= 1;
    return [
      {
        name: of,
        reason: `${isFull ? "full" : "nearly full"}: ${words}; ${ADVICE[of]}`,
        isNotice: !isFull,
      },
    ];
  });
}
