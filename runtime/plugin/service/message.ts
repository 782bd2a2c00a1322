/** Messages of services: their bounds, and copies that nobody else can change. Pure; both ends of a channel of frames use it. */
import { SERVICE_LIMITS, type ServiceMessage, type ServiceSending } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";

/** As it waits: what its receiver gets is made of it when it is handed over. */
export interface SealedMessage {
  /** JSON. */
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Of both, in UTF-8. */
  readonly size: number;
}

const NAME = /^[a-z][a-z0-9.-]{0,63}$/;
const ASK = /^[\x21-\x7e]{1,64}$/;
const EMPTY = new Uint8Array(0);

/** Throws GODWIT_REQUEST_INVALID. */
export function checkServiceName(name: string): void {
  if (!NAME.test(name))
    throw godwitError("GODWIT_REQUEST_INVALID", `"${`${name}`.slice(0, 64)}" is no name of a service`);
}

/** Throws GODWIT_REQUEST_INVALID. */
export function checkAsk(ask: string): void {
  if (!ASK.test(ask))
    throw godwitError(
      "GODWIT_REQUEST_INVALID",
      "what is asked of a service has 1 to 64 characters of ASCII without spaces",
    );
}

/** Copies. Throws GODWIT_TOO_BIG, GODWIT_REQUEST_INVALID. */
export function sealMessage(sending: ServiceSending): SealedMessage {
  if (typeof sending !== "object" || (sending as unknown) === null)
    throw godwitError("GODWIT_REQUEST_INVALID", "a message is an object with json, bytes or both");
  const { json = null, bytes = EMPTY } = sending;
  const text = textOf(json);
  const jsonBytes = Buffer.byteLength(text);
  if (!(bytes instanceof Uint8Array))
    throw godwitError("GODWIT_REQUEST_INVALID", "the bytes of a message are a Uint8Array");
  if (jsonBytes > SERVICE_LIMITS.jsonBytes || jsonBytes + bytes.length > SERVICE_LIMITS.messageBytes)
    throw godwitError(
      "GODWIT_TOO_BIG",
      `a message has at most ${SERVICE_LIMITS.jsonBytes} bytes of JSON, and ${SERVICE_LIMITS.messageBytes} together`,
    );
  return { text, bytes: bytes.slice(), size: jsonBytes + bytes.length };
}

export const openMessage = ({ text, bytes }: SealedMessage): ServiceMessage => ({
  json: JSON.parse(text) as unknown,
  bytes,
});

function textOf(json: unknown): string {
  try {
    return JSON.stringify(json) ?? "null";
  } catch (cause) {
    throw godwitError("GODWIT_REQUEST_INVALID", "a message holds what JSON does not know", cause);
  }
}
