/** `[services.NAME] type = "radio"`: what may stand there. */
import { type HostPort, parseHostPort } from "@godwit/sdk";
import { z } from "zod/mini";
import { TCP_PORT } from "./wire.ts";

export type RadioPlace = { readonly kind: "tcp" } & HostPort;

/** Undefined: no place of a radio. */
export function parsePlace(text: string): RadioPlace | undefined {
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
  /** Where the radio is. */
  connect: z.pipe(
    z.string(),
    z.transform((value, ctx): RadioPlace => {
      const place = parsePlace(value);
      if (place !== undefined) return place;
      ctx.issues.push({
        code: "custom",
        message: 'expected the place of a radio, like "tcp://192.0.2.7" or "tcp://meshtastic.local:4403"',
        input: value,
      });
      return z.NEVER;
    }),
  ),
});

export interface RadioConfig {
  readonly connect: RadioPlace;
}

export const formatPlace = ({ host, port }: RadioPlace): string =>
  `tcp://${host.includes(":") ? `[${host}]` : host}:${port}`;
