/** A field of a plugin's options that names a secret. A file of its own, so that who reads a secret loads no zod. */
import * as z from "zod/mini";
import { type Environment, readSecret, Secret, type SecretBounds } from "./secret-read.ts";

/**
 * A field of a plugin's options, for a zod object: takes a reference out of the node's environment, yields the `Secret`. `what` completes
 * "expected", such as `a password of 8 to 256 bytes`. Its problems show no value, whatever the key is called; what was found there instead, and what to
 * do, stand in their `params` as a `SecretFault`.
 */
export function secretField(what: string, bounds: SecretBounds, env: Environment = process.env) {
  return z.pipe(
    z.string({ error: `expected "file:/path", "env:NAME" or "credential:NAME" that names ${what}` }),
    z.transform((reference, context): Secret => {
      const read = readSecret(reference, env, bounds);
      if (read instanceof Secret) return read;
      context.issues.push({
        code: "custom",
        message: `expected ${what}`,
        params: { isSecret: true, ...read },
        input: "[secret]",
      });
      return z.NEVER;
    }),
  );
}
