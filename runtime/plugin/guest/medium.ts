/** The shared channel of a plugin's transport over frames: what it costs, how busy it is, what is sent to all on it and heard. */
import type { Clock, Medium, Timer, Urgency } from "@godwit/sdk";
import { PluginFrame } from "../frames/frames.ts";
import { factsOf, type MediumFacts } from "../frames/medium.ts";
import type { ContextParts } from "./parts.ts";

/** How often the node is told how busy the channel is, ms. */
const TELL_MS = 10_000;
/** Changes below that are told with the next one. */
const TOLD_STEPS = 1_000;

/** What may be something else at any time. */
interface Now {
  readonly utilisation: number;
  readonly ownShare?: number;
  readonly admits?: Urgency;
}

type Told = MediumFacts & Now;

export interface GuestMedium {
  /** The plugin registered a transport. Answers what the node is told of its channel. */
  use(given: Medium | undefined): Told | undefined;
}

export function createMedium({ calls, port, scope }: ContextParts, clock: Clock): GuestMedium {
  let medium: Medium | undefined;
  let timer: Timer | undefined;
  let told: Now | undefined;
  const now = ({ utilisation, ownShare, admits }: Medium): Now => ({
    utilisation: Math.round(utilisation * TOLD_STEPS) / TOLD_STEPS,
    ...(ownShare === undefined ? {} : { ownShare }),
    ...(admits === undefined ? {} : { admits }),
  });
  const tell = () => {
    timer = clock.after(TELL_MS, tell);
    if (medium === undefined) return;
    const before = told;
    told = now(medium);
    if (
      told.utilisation === before?.utilisation &&
      told.ownShare === before.ownShare &&
      told.admits === before.admits
    )
      return;
    port.sendParts(PluginFrame.event, 0, { event: "medium", ...told });
  };
  scope.own(() => timer?.cancel());
  calls.add("medium.broadcast", (args, bytes) => {
    const { urgency } = args as { readonly urgency?: Urgency };
    return { json: medium?.broadcast(bytes, urgency) === true };
  });
  return {
    use(given) {
      timer?.cancel();
      if (medium !== given) medium?.listen(() => {});
      medium = given;
      if (given === undefined) return undefined;
      given.listen((from, bytes) => {
        if (medium === given && !scope.isClosed)
          port.sendParts(PluginFrame.event, 0, { event: "heard", from }, bytes);
      });
      timer = clock.after(TELL_MS, tell);
      told = now(given);
      return { ...factsOf(given), ...told };
    },
  };
}
