/** Secrets that a configuration names instead of holding them: how one is read, and the field of a plugin's options that does. */
export {
  type Environment,
  readSecret,
  Secret,
  SECRET_REFERENCE,
  type SecretBounds,
  type SecretFault,
} from "./secret-read.ts";
export { secretField } from "./secret-field.ts";
