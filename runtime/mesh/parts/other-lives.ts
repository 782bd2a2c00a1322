/**
 * What this node hears of itself from elsewhere, joined to the mesh: numbers that were raised are durable soon, a store that is behind
 * says so to the neighbours, and a node that stands down has no link until it looks again.
 */
import type { Timer } from "@godwit/sdk";
import { asGodwitError } from "../../kernel/errors.ts";
import { type Life, OtherLives } from "../../membership/other-lives.ts";
import { GoodbyeReason } from "../../wire/peer-messages.ts";
import type { PartOf, PartContext } from "../part.ts";

export function otherLivesPart({ mesh, deps, kept }: PartContext): PartOf<OtherLives> {
  const { boot } = kept;
  const { identity, clock, random, log, events } = deps;
  const advice = `stop one of the two, or give it an identity of its own: docs/restoring.md "One identity on two machines"`;
  const durably = (what: string, written: Promise<void>) =>
    void written.catch((error: unknown) => log.error(what, { error: asGodwitError(error) }));
  let isToldBehind = boot.isNew;

  /** Once a run: neighbours offer again what they still hold of all that this node ever acknowledged. */
  const tellBehind = () => {
    if (isToldBehind) return;
    isToldBehind = true;
    boot.renewHelloEpoch().then(
      () => {
        log.info("neighbours are told that state_dir was older");
        mesh.peers.disconnectAll(GoodbyeReason.stopping);
      },
      (error: unknown) => {
        log.error("neighbours not told that state_dir was older: trying again", {
          error: asGodwitError(error),
        });
        isToldBehind = false;
        clock.after(TELL_AGAIN_MS, tellBehind);
      },
    );
  };
  const onChange = (life: Life, since: Life) => {
    if (life === "behind")
      log.warn("state_dir is older than what the mesh remembers of this node", { advice: OLD_ADVICE });
    else if (life === "doubled")
      log.error("another machine runs under this identity; this one goes on", { advice });
    else if (life === "standing-down") {
      log.error("another machine runs under this identity; this one stands down", { advice });
      mesh.dialer.rest(true);
      clock.after(LINGER_MS, () => {
        if (otherLives.life === "standing-down") mesh.peers.disconnectAll(GoodbyeReason.double);
      });
    } else if (life === "returning") log.info("looking whether the other machine is gone");
    else if (since !== "behind") log.info("no other machine under this identity");
    if (since === "standing-down") mesh.dialer.rest(false);
    durably(
      "not noted that this node stands down",
      boot.noteStoodDown(life === "standing-down" || life === "returning"),
    );
    if (life === "alone" && since !== "doubled") tellBehind();
    if (life === "behind") events.emit("storeBehind", identity.id);
    else if (life !== "alone" || since !== "behind")
      events.emit("identityDoubled", { id: identity.id, state: life });
  };

  const otherLives = new OtherLives({
    clock,
    random,
    bootEpoch: boot.bootEpoch,
    stoodDown: boot.stoodDown,
    raised: (epoch) => {
      durably("boot epoch not durable", boot.raiseBootEpoch(epoch));
      // Records of the other life are above ours until they are numbered by the new epoch.
      mesh.ownRecord.changed();
    },
    // Whoever heard the word still acts on it: links end when it has.
    changed: (life, since) => void clock.after(0, () => onChange(life, since)),
  });
  let settling: Timer | undefined;
  return {
    engine: otherLives,
    // Not sooner: an older copy that begins with the numbers of the run before shall hear of that one first.
    peerUp: () => {
      settling ??= clock.after(SETTLE_MS, () => {
        mesh.router.settle();
        mesh.members.settle();
      });
    },
  };
}

/** Within this time behind the first link neighbours say what they remember, ms. */
const SETTLE_MS = 2_000;
/** A disk that is full now may have room then, ms. */
const TELL_AGAIN_MS = 60_000;
/** Links of a node that stands down stay for so long: receipts and mail that are under way get through. */
const LINGER_MS = 2_000;
const OLD_ADVICE = "a backup or an image was put back: docs/restoring.md says what it cannot know";
