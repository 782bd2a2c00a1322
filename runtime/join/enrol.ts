/**
 * A newcomer's side of joining: over one session under an invitation it asks, and gets what makes it a member or the reason
 * why not. On a shared channel what it says counts. Owns the session until it answers. Specified by docs/protocol/join.md, "Enrolment".
 */
import type { Clock } from "@godwit/sdk";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import { shortId } from "../kernel/ids.ts";
import type { Airtime } from "../kernel/airtime.ts";
import { type Departure, noteDropped } from "../kernel/departure.ts";
import { QUEUED_TIMEOUT_MS } from "../link/constants.ts";
import { Repeating } from "../link/repeating.ts";
import { isPaced, type Session } from "../link/types.ts";
import { FrameType } from "../wire/constants.ts";
import {
  decodeEnrolGrant,
  decodeEnrolRefuse,
  encodeEnrolRequest,
  EnrolRefusal,
  type EnrolGrant,
} from "../wire/join-messages.ts";

/** The whole enrolment, by class of link; repeats of the request where datagrams may be lost. */
const TIMEOUT_MS = { fast: 10_000, medium: 45_000, slow: 240_000 } as const;
const RESEND_MS = { fast: 1_000, medium: 5_000, slow: 30_000 } as const;

/**
 * Rejects with GODWIT_INVITE_USED, GODWIT_INVITE_EXPIRED, GODWIT_INVITE_UNSURE, GODWIT_JOIN_REFUSED, GODWIT_TIMEOUT or
 * GODWIT_LINK_CLOSED. The session is closed when it settles.
 */
export function enrol(
  session: Session,
  callsign: string | undefined,
  clock: Clock,
  airtime: Airtime,
): Promise<EnrolGrant> {
  const budget = session.medium && airtime.of(session.medium);
  return new Promise((resolve, reject) => {
    const repeating = new Repeating({
      clock,
      backoff: { nextMs: () => RESEND_MS[session.linkClass], reset() {} },
      answerMs: () => session.answerMs ?? 0,
    });
    let isOver = false;
    const end = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      repeating.stop();
      timeout.cancel();
      session.close();
      settle();
    };
    const fail = (error: GodwitError) => end(() => reject(error));
    const timeoutMs = Math.max(TIMEOUT_MS[session.linkClass], isPaced(session) ? QUEUED_TIMEOUT_MS : 0);
    const timeout = clock.after(timeoutMs, () =>
      fail(godwitError("GODWIT_TIMEOUT", "the member did not answer the request to join")),
    );
    const ask = (departure: Departure): void => {
      const request = encodeEnrolRequest(callsign ?? "");
      // A link that was made for it asks, owed or not: without it all of it was in vain.
      if (budget?.takeFrame(request.length, "handshakes", "mail") === false) return noteDropped(departure);
      session.send(request, departure);
      session.flush();
      if (session.isReliable) repeating.stop();
    };
    session.open({
      frame(bytes) {
        try {
          if (bytes[0] === FrameType.enrolGrant) {
            const grant = decodeEnrolGrant(bytes);
            end(() => resolve(grant));
          } else if (bytes[0] === FrameType.enrolRefuse)
            fail(refusalError(decodeEnrolRefuse(bytes), session));
        } catch (error) {
          fail(asGodwitError(error));
        }
      },
      drain() {},
      closed: (error) =>
        fail(error ?? godwitError("GODWIT_LINK_CLOSED", "the member closed before it had answered")),
    });
    repeating.start(ask);
  });
}

function refusalError(code: number, { remote }: Session): GodwitError {
  const who = `member ${shortId(remote)}`;
  switch (code) {
    case EnrolRefusal.used:
      return godwitError(
        "GODWIT_INVITE_USED",
        `the invitation was used before, says ${who}; ask for a new one`,
      );
    case EnrolRefusal.expired:
      return godwitError("GODWIT_INVITE_EXPIRED", `the invitation has expired by the clock of ${who}`);
    case EnrolRefusal.unsure:
      return godwitError(
        "GODWIT_INVITE_UNSURE",
        `${who} does not know the time and cannot judge the invitation`,
      );
    case EnrolRefusal.usesFull:
      return godwitError(
        "GODWIT_JOIN_REFUSED",
        `${who} can remember no more used invitations; try again later or through another member, and tell its operator, whose godwit health says what to do`,
      );
    default: {
      const name = Object.entries(EnrolRefusal).find(([, value]) => value === code)?.[0] ?? `reason ${code}`;
      return godwitError(
        "GODWIT_JOIN_REFUSED",
        `${who} could not let this node in (${name}); try again later`,
      );
    }
  }
}
