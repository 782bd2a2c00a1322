/** Keys that remember what they agree with others' lasting keys: half of what sealing costs, each time the same. */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { DhKey } from "./keys.ts";

/** Shared secrets kept for each own key. */
const SECRETS_MAX = 4_096;
const rememberedSecrets = new WeakMap<DhKey, BoundedMap<string, Uint8Array>>();

/**
 * A key with a memory for the static-static half, which is the same for every message between two keys and costs as
 * much as all the rest. It reveals no more than the key in the same memory does, and goes when that one goes, so that a
 * deleted prekey leaves nothing behind. What is agreed with an ephemeral key is never kept: the opener names the one
 * static key that counts, the sealer agrees with no other.
 */
export function rememberingKey(key: DhKey, onlyWith?: Uint8Array): DhKey {
  let secrets = rememberedSecrets.get(key);
  if (secrets === undefined)
    rememberedSecrets.set(key, (secrets = new BoundedMap({ name: "agreed secrets", max: SECRETS_MAX })));
  const kept = secrets;
  return {
    publicKey: key.publicKey,
    agree(remotePublic) {
      if (onlyWith !== undefined && Buffer.compare(onlyWith, remotePublic) !== 0)
        return key.agree(remotePublic);
      const name = Buffer.from(remotePublic).toString("latin1");
      let secret = kept.get(name);
      if (secret === undefined) {
        secret = key.agree(remotePublic);
        kept.set(name, secret);
      }
      return secret.slice();
    },
  };
}
