/**
 * The headers that shut a page into an origin of its own, and those of a request that go in. Pure. Every answer under `/x/` has them,
 * refusals too. Must never let a plugin's answer be read by who has no token for it, nor a token into a plugin.
 */
import type { ApiRequest } from "../exchange.ts";
import { PAGE_REQUEST_HEADERS, PAGES_LIMITS } from "@godwit/sdk";
import { folderSource } from "./folder.ts";

export const PAGE_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const;
const ALLOW = [...PAGE_METHODS, "OPTIONS"].join(", ");
/** For how long a browser may remember a preflight, in seconds. */
const PREFLIGHT_SECONDS = 600;

/** `instance` undefined: a refusal that is of no instance. */
export function isolationHeaders(host: string | null, instance?: string): Record<string, string> {
  const own = instance === undefined ? "'none'" : folderSource(host, instance);
  const policy = [
    // Without allow-same-origin the page's origin is opaque: no storage, no cookies, no worker, same-origin with nothing.
    "sandbox allow-scripts",
    "default-src 'none'",
    ...["script-src", "style-src", "connect-src"].map((what) => `${what} ${own}`),
    `img-src ${own} data: blob:`,
    `media-src ${own} blob:`,
    "font-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "webrtc 'block'",
  ];
  return {
    "content-security-policy": policy.join("; "),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-dns-prefetch-control": "off",
    vary: "authorization, origin",
    "cache-control": "no-store",
  };
}

/**
 * Who may read the answer in a browser: with a token for the instance a page of an opaque origin, which any site can make itself, and which
 * therefore gets nothing without one. Open paths may be loaded by anybody, as scripts, styles and images.
 */
export function sharingHeaders(origin: string | null, isAuthorized: boolean): Record<string, string> {
  if (!isAuthorized) return { "cross-origin-resource-policy": "cross-origin" };
  return {
    "cross-origin-resource-policy": "same-origin",
    ...(origin === "null"
      ? { "access-control-allow-origin": "null", "access-control-expose-headers": "etag, retry-after" }
      : {}),
  };
}

/** The answer to OPTIONS, which never goes in. It is the same whether the instance is there or not. */
export function preflightHeaders(request: ApiRequest): Record<string, string> {
  const isPreflight =
    request.headers.get("origin") === "null" && request.headers.has("access-control-request-method");
  if (!isPreflight) return { allow: ALLOW };
  return {
    "access-control-allow-origin": "null",
    "access-control-allow-methods": PAGE_METHODS.join(", "),
    "access-control-allow-headers": ["authorization", ...PAGE_REQUEST_HEADERS].join(", "),
    "access-control-max-age": String(PREFLIGHT_SECONDS),
  };
}

/** The script of a worker would outlive the page, or stand before others. Browsers say what they fetch it for. */
export const isWorkerScript = (headers: ApiRequest["headers"]): boolean =>
  headers.has("service-worker") ||
  ["serviceworker", "sharedworker"].includes(headers.get("sec-fetch-dest") ?? "");

/** What goes in. A value beyond the bound is left out. */
export function headersForPlugin(headers: ApiRequest["headers"]): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name of PAGE_REQUEST_HEADERS) {
    const value = headers.get(name);
    if (value !== null && value.length <= PAGES_LIMITS.headerChars) out[name] = value;
  }
  return out;
}
