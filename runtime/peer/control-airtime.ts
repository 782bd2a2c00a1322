/** What control to neighbours may take of the channels that all in earshot share: asked before a frame goes. docs/protocol/slow.md "One channel, one budget" */
import type { Airtime, AirtimeNeed, AirtimeUse } from "../kernel/airtime.ts";
import type { Session } from "../link/types.ts";

/** Who tells a neighbour something that it does not wait for room with; a label. */
export type Teller = "routing" | "membership" | "custody" | "lookups" | "revocations" | "redemptions";

/** What a teller's frames count as; undefined: mail, or asked for already by who tells. */
const useOf: Readonly<Record<Teller, AirtimeUse | undefined>> = {
  routing: undefined,
  custody: undefined,
  lookups: undefined,
  membership: "membership",
  revocations: "membership",
  redemptions: "membership",
};

export class ControlAirtime {
  readonly #airtime: Airtime | undefined;

  constructor(airtime: Airtime | undefined) {
    this.#airtime = airtime;
  }

  /** Takes the airtime of a frame. False: there is none, and it must not be sent now. */
  take(
    { medium, direction }: Pick<Session, "medium" | "direction">,
    bytes: number,
    use: AirtimeUse,
    need: AirtimeNeed = "control",
  ): boolean {
    const budget = medium === undefined ? undefined : this.#airtime?.of(medium);
    const isThere = budget?.takeFrame(bytes, use, need) !== false;
    if (isThere && use === "handshakes" && direction === "inbound") budget?.noteAnswer(bytes);
    return isThere;
  }

  /** There is enough for a frame of so many bytes, of which some may be owed. */
  has({ medium }: Pick<Session, "medium">, bytes: number): boolean {
    const budget = medium === undefined ? undefined : this.#airtime?.of(medium);
    return budget?.has(budget.costMs(bytes, true), "handshakes", "mail") !== false;
  }

  /** The same of a frame that a part tells. */
  takeFor(teller: Teller, session: Session | undefined, bytes: number): boolean {
    const use = useOf[teller];
    return use === undefined || session === undefined || this.take(session, bytes, use);
  }
}
