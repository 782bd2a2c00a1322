/**
 * A list of peers signed by a key that the operator trusts, fetched over HTTPS and kept for starts without the internet.
 * A list that is older than the newest one seen, expired, too long or signed by somebody else changes nothing. The format is
 * drawn in docs/joining.md.
 */
import { createPublicKey, verify } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { PluginContext } from "@godwit/sdk";
import { z } from "zod/mini";
import type { Board } from "./board.ts";
import { pause } from "./dns.ts";
import { ENTRIES_MAX, parseEntry, type Entry } from "./entry.ts";

export const LIST_BYTES_MAX = 262_144;
const FETCH_TIMEOUT_MS = 20_000;
const RETRY_MS = 60_000;
/** No machine's clock was right before this, 2026-01-01: earlier readings expire nothing. */
const PLAUSIBLE_WALL_MS = 1_767_225_600_000;
const STORAGE_KEY = "list";
const DOMAIN = new TextEncoder().encode("godwit peer list 1\0");

const envelope = z.object({
  payload: z.string().check(z.maxLength(LIST_BYTES_MAX)),
  signature: z.string().check(z.maxLength(128)),
});
const content = z.object({
  sequence: z.int().check(z.nonnegative()),
  expires_at: z.int().check(z.nonnegative()),
  peers: z.array(z.string().check(z.maxLength(300))).check(z.maxLength(ENTRIES_MAX)),
});

export interface SignedList {
  /** A newer list has a higher one. */
  readonly sequence: number;
  /** Seconds since 1970. */
  readonly expiresAtS: number;
  readonly entries: readonly Entry[];
}

/** Throws an Error that says what is wrong. `key`: 32 bytes, Ed25519. */
export function openList(text: string, key: Uint8Array): SignedList {
  if (text.length > LIST_BYTES_MAX) throw new Error(`it has more than ${LIST_BYTES_MAX} characters`);
  const { payload, signature } = parsed(envelope, text, "it is no signed list");
  const bytes = Buffer.from(payload, "base64");
  const publicKey = createPublicKey({
    key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(key).toString("base64url") },
    format: "jwk",
  });
  if (!verify(null, Buffer.concat([DOMAIN, bytes]), publicKey, Buffer.from(signature, "base64")))
    throw new Error("it is not signed by the configured key");
  const {
    sequence,
    expires_at: expiresAtS,
    peers,
  } = parsed(content, bytes.toString("utf8"), "its content is malformed");
  return { sequence, expiresAtS, entries: peers.flatMap((peer) => parseEntry(peer) ?? []) };
}

function parsed<T>(schema: z.ZodMiniType<T>, text: string, otherwise: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(otherwise);
  }
  const result = schema.safeParse(value);
  if (!result.success) throw new Error(otherwise);
  return result.data;
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** A node id, 52 characters, as its 32 bytes. */
export function keyBytes(id: string): Uint8Array {
  const out = new Uint8Array(32);
  let [held, bits, at] = [0, 0, 0];
  for (const char of id.toLowerCase()) {
    held = ((held << 5) | BASE32.indexOf(char)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    if (at < 32) out[at++] = (held >> bits) & 255;
  }
  return out;
}

export interface ListOptions {
  readonly url: string;
  /** As a node id. */
  readonly key: string;
  readonly refreshMs: number;
  /** A file with the certificate authority of the server, for one that the system does not know. */
  readonly ca: string | undefined;
}

export function watchList(ctx: PluginContext, board: Board, options: ListOptions): void {
  const key = keyBytes(options.key);
  const source = `list ${options.url}`;
  let newest: SignedList | undefined;
  let text = "";
  const isOver = ({ expiresAtS }: SignedList) => {
    const wallMs = ctx.clock.wallMs();
    return wallMs >= PLAUSIBLE_WALL_MS && wallMs > expiresAtS * 1_000;
  };
  const adopt = (list: SignedList) => {
    newest = list;
    board.publish(source, isOver(list) ? [] : list.entries, false);
  };
  /** Answers whether it is another text than the one that is kept. */
  const take = (fetched: string): boolean => {
    const list = openList(fetched, key);
    if (isOver(list)) throw new Error("it has expired");
    if (newest !== undefined && list.sequence < newest.sequence)
      throw new Error(`it is older (${list.sequence}) than one seen before (${newest.sequence})`);
    if (newest !== undefined && list.sequence === newest.sequence && fetched !== text)
      throw new Error(`it differs from the one seen before under the same number ${list.sequence}`);
    adopt(list);
    const isNew = fetched !== text;
    text = fetched;
    return isNew;
  };
  ctx.spawn(source, async (signal) => {
    const kept = await ctx.storage.get(STORAGE_KEY).catch(() => undefined);
    if (kept !== undefined) {
      try {
        const keptText = new TextDecoder().decode(kept);
        adopt(openList(keptText, key));
        text = keptText;
      } catch (error) {
        // Of another key that stood here before.
        ctx.log.warn("kept list is of no use", { source, reason: String(error) });
      }
    }
    while (!signal.aborted) {
      let waitMs = options.refreshMs;
      try {
        if (take(await fetchText(ctx, options, signal)))
          await ctx.storage.set(STORAGE_KEY, new TextEncoder().encode(text));
        board.report(source, undefined);
      } catch (error) {
        if (signal.aborted) return;
        if (newest !== undefined) adopt(newest);
        const stands = newest !== undefined && !isOver(newest) ? "; the last good one stands" : "";
        board.report(source, `${error instanceof Error ? error.message : String(error)}${stands}`);
        waitMs = Math.min(RETRY_MS, options.refreshMs);
      }
      await pause(ctx, waitMs, signal);
    }
  });
}

async function fetchText(ctx: PluginContext, { url, ca }: ListOptions, signal: AbortSignal): Promise<string> {
  const late = new AbortController();
  const timer = ctx.clock.after(FETCH_TIMEOUT_MS, () =>
    late.abort(new Error(`no answer within ${FETCH_TIMEOUT_MS / 1_000} s`)),
  );
  try {
    const response = await fetch(url, {
      signal: AbortSignal.any([signal, late.signal]),
      redirect: "error",
      ...(ca === undefined ? {} : { tls: { ca: await readFile(ca, "utf8") } }),
    });
    if (!response.ok || response.body === null) throw new Error(`the server answers ${response.status}`);
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > LIST_BYTES_MAX) throw new Error(`it has more than ${LIST_BYTES_MAX} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString("utf8");
  } finally {
    timer.cancel();
  }
}
