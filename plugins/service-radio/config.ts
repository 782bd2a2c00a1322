/** `[services.NAME] type = "radio"`: what may stand there. */
import { type HostPort, parseHostPort } from "@godwit/sdk";
import { z } from "zod/mini";
import { TCP_PORT } from "./wire.ts";

export type RadioPlace =
  ({ readonly kind: "tcp" } & HostPort) | { readonly kind: "serial"; readonly path: string };

/** Undefined: no place of a radio. */
export function parsePlace(text: string): RadioPlace | undefined {
  const path = /^serial:(?:\/\/)?(\/dev\/[^\0\s]{1,200})$/.exec(text)?.[1];
  if (path !== undefined) return { kind: "serial", path };
  const host = /^tcp:\/\/(.+)$/.exec(text)?.[1];
  if (host === undefined) return undefined;
  try {
    const { host: name, port } = parseHostPort(/^(\[.+\]|[^:]+)$/.test(host) ? `${host}:${TCP_PORT}` : host);
    return port > 0 ? { kind: "tcp", host: name, port } : undefined;
  } catch {
    return undefined;
  }
}

export const radioConfig = z.strictObject({
  /** Where the radio is: `serial:/dev/...`, best by its name under `/dev/serial/by-id`, or `tcp://HOST`, port 4403 unless it says otherwise. */
  connect: z.pipe(
    z.string(),
    z.transform((value, ctx): RadioPlace => {
      const place = parsePlace(value);
      if (place !== undefined) return place;
      ctx.issues.push({
        code: "custom",
        message:
          'expected the place of a radio, like "serial:/dev/serial/by-id/usb-..." or "tcp://192.0.2.7"',
        input: value,
      });
      return z.NEVER;
    }),
  ),
});

export interface RadioConfig {
  readonly connect: RadioPlace;
}

export const formatPlace = (place: RadioPlace): string =>
  place.kind === "serial"
    ? place.path
    : `tcp://${place.host.includes(":") ? `[${place.host}]` : place.host}:${place.port}`;
