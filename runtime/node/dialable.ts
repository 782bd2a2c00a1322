/**
 * Endpoints that somebody wrote into a configuration and that no transport of it could ever dial: a scheme that nobody there has, a
 * port too high. A node passes over them in silence, and a typing error would cost somebody on site a day.
 */
import type { Config, ConfigProblem } from "../config/load.ts";
import { formatPath } from "../config/problems.ts";
import { builtinDialling, type Dialling } from "../registry.ts";

interface Written {
  readonly path: readonly (string | number)[];
  readonly endpoint: string;
}

/** Of tables that are switched on. Endpoints of schemes that a third party's transport may have are left to it. */
export async function undialable(config: Config): Promise<ConfigProblem[]> {
  const transports = config.transports.filter(({ enabled }) => enabled);
  const types = [...new Set(transports.map(({ type }) => type))];
  const isForeign = types.some((type) => !Object.hasOwn(builtinDialling, type));
  const dialling = types.flatMap((type) =>
    Object.hasOwn(builtinDialling, type) ? builtinDialling[type]! : [],
  );
  const schemes = dialling.flatMap((one) => one.schemes);
  const problems: ConfigProblem[] = [];
  for (const { path, endpoint } of writtenIn(config)) {
    const scheme = endpoint.slice(0, endpoint.indexOf(":"));
    const by = dialling.find((one) => one.schemes.includes(scheme));
    const expected =
      by !== undefined
        ? await whyNot(by, endpoint)
        : isForeign
          ? undefined
          : `an endpoint that a transport of this configuration dials: ${schemes.map((one) => `${one}://`).join(", ") || "it has none"}`;
    if (expected === undefined) continue;
    const type = Object.entries(builtinDialling).find(([, one]) => one.schemes.includes(scheme))?.[0];
    problems.push({
      path: formatPath(path),
      expected,
      found: JSON.stringify(endpoint.slice(0, 200)),
      ...(by === undefined && type !== undefined
        ? { suggestion: `add a table like [transports.${type}] with type = "${type}"` }
        : {}),
    });
  }
  return problems;
}

function writtenIn(config: Config): Written[] {
  const listed = (section: string, name: string, key: string, value: unknown): Written[] =>
    (Array.isArray(value) ? value : []).flatMap((text: unknown, index) =>
      typeof text === "string"
        ? [{ path: [section, name, key, index], endpoint: text.replace(/#.*$/, "") }]
        : [],
    );
  const isStatic = ({ type, enabled }: { type: string; enabled: boolean }) => enabled && type === "static";
  const peers = config.discovery
    .filter(isStatic)
    .flatMap(({ name, options }) => listed("discovery", name, "peers", options["peers"]));
  const advertised = config.transports
    .filter(({ enabled }) => enabled)
    .flatMap(({ name, options }) => listed("transports", name, "advertise", options["advertise"]));
  // Some transports advertise hosts, and make the endpoint of them.
  return [...peers, ...advertised.filter(({ endpoint }) => endpoint.includes("://"))];
}

async function whyNot(by: Dialling, endpoint: string): Promise<string | undefined> {
  try {
    (await by.load())(endpoint);
    return undefined;
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    return `an endpoint that can be dialled: ${words}`;
  }
}
