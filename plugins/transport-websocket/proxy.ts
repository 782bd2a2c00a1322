/** HTTP proxies as text: how one is written, what the environment says, the request for a tunnel. Pure. */
export interface Proxy {
  readonly isSecure: boolean;
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  /** `user:password`, if it wants to know who asks. */
  readonly credentials: string | undefined;
}

/** `http://user:password@host:port`, or https; undefined for anything else. */
export function parseProxy(text: string): Proxy | undefined {
  try {
    const url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
    const isSecure = url.protocol === "https:";
    const host = url.hostname.replace(/^\[|\]$/g, "");
    if ((!isSecure && url.protocol !== "http:") || host === "") return undefined;
    const [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
    return {
      isSecure,
      host,
      port: url.port === "" ? (isSecure ? 443 : 80) : Number(url.port),
      credentials: user === "" && password === "" ? undefined : `${user}:${password}`,
    };
  } catch {
    return undefined;
  }
}

/** As curl and most others read them. Undefined: none is set. */
export function environmentProxy(
  scheme: "ws" | "wss",
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const names = scheme === "wss" ? ["HTTPS_PROXY", "https_proxy"] : ["HTTP_PROXY", "http_proxy"];
  return names.map((name) => env[name]).find((value) => value !== undefined && value !== "");
}

/** Whether NO_PROXY exempts the place: `*`, or names with all that is below them, addresses, each with a port or without. */
export function isExempt(
  { host, port }: { readonly host: string; readonly port: number },
  env: Readonly<Record<string, string | undefined>>,
): boolean {
  const name = host.toLowerCase();
  return (env["NO_PROXY"] ?? env["no_proxy"] ?? "").split(",").some((entry) => {
    const wanted = entry.trim().toLowerCase();
    if (wanted === "*") return true;
    const match = /^\[([^\]]+)\](?::(\d+))?$/.exec(wanted) ?? /^([^:]+)(?::(\d+))?$/.exec(wanted);
    const place = (match?.[1] ?? wanted).replace(/^\*?\./, "");
    if (place === "" || (match?.[2] !== undefined && Number(match[2]) !== port)) return false;
    return name === place || name.endsWith(`.${place}`);
  });
}

/** `authority`: host and port, an IPv6 host in brackets. */
export const encodeConnect = (authority: string, credentials: string | undefined): string =>
  `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Connection: Keep-Alive\r\n` +
  (credentials === undefined
    ? ""
    : `Proxy-Authorization: Basic ${Buffer.from(credentials).toString("base64")}\r\n`) +
  "\r\n";
