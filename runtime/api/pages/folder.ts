/**
 * Where a request for a page goes, read from its URL, and how a browser is told of that place. Pure: text in, values out. One parser
 * of the URL stands before this (the server's own), and nothing after it decodes again.
 */
import { PAGES_LIMITS } from "@godwit/sdk";

export interface PageTarget {
  /** The table `[services.NAME]`. */
  readonly instance: string;
  /** Inside the folder, decoded; undefined: it is none that a page may have. */
  readonly path: string | undefined;
  readonly query: string;
}

const INSTANCE = /^[a-z0-9_]{1,32}$/;

/** Undefined: the URL is none of `/x/<instance>/...`. */
export function parseTarget(url: string): PageTarget | undefined {
  const from = url.startsWith("/") ? 0 : url.indexOf("/", url.indexOf("://") + 3);
  const whole = from < 0 ? "" : url.slice(from).split("#", 1)[0]!;
  const mark = whole.indexOf("?");
  const path = mark < 0 ? whole : whole.slice(0, mark);
  const query = mark < 0 ? "" : whole.slice(mark + 1);
  if (!path.startsWith("/x/")) return undefined;
  const slash = path.indexOf("/", 3);
  const instance = path.slice(3, slash < 0 ? undefined : slash);
  if (slash < 0 || !INSTANCE.test(instance)) return undefined;
  const isTooLong = query.length > PAGES_LIMITS.queryChars;
  return { instance, path: isTooLong ? undefined : decodePath(path.slice(slash)), query };
}

/** `/a%20b/` to `/a b/`. Undefined for what could lead out of a folder, in any reading. */
function decodePath(raw: string): string | undefined {
  if (raw.length > PAGES_LIMITS.pathChars) return undefined;
  const segments = raw.slice(1).split("/");
  const decoded: string[] = [];
  for (const [at, segment] of segments.entries()) {
    let text: string;
    try {
      text = decodeURIComponent(segment);
    } catch {
      return undefined;
    }
    const isLast = at === segments.length - 1;
    // oxlint-disable-next-line no-control-regex
    if ((text === "" && !isLast) || text === "." || text === ".." || /[/\\\u0000-\u001f\u007f]/.test(text))
      return undefined;
    decoded.push(text);
  }
  return `/${decoded.join("/")}`;
}

/**
 * What stands for the instance's folder in a Content-Security-Policy: `127.0.0.1:8000/x/board/`. A Host header that a policy cannot name
 * (an IPv6 address) or that is none leaves nothing: a wider one would hold the folders of others.
 */
export function folderSource(host: string | null, instance: string): string {
  const isNameable = host !== null && /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::\d{1,5})?$/i.test(host);
  return isNameable ? `${host.toLowerCase()}/x/${instance}/` : "'none'";
}
