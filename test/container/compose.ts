/**
 * Compose files by their text: checked against everything that ours may say. It is the part of the Compose specification
 * that they use, and nothing else: a key that is not understood here is an error, where engines pass it over. Beyond that,
 * what no service of ours may lack.
 */
import { readFileSync } from "node:fs";
import * as z from "zod";

const duration = z.string().regex(/^\d+(ms|s|m)$/);
const name = z.string().regex(/^[a-z][a-z0-9_-]{0,30}$/);
const uid = z.string().regex(/^\d+:\d+$/);

const bytes = z.string().regex(/^\d+[mg]$/);
const absolute = z.string().regex(/^\/[^:\s]*$/);
const file = z.string().regex(/^[./][^:]*$/);

const serviceSchema = z.strictObject({
  image: z.string().optional(),
  build: z
    .strictObject({
      context: file,
      dockerfile: z.string(),
      args: z.record(z.string().regex(/^[A-Z]+$/), z.string()),
      tags: z.array(z.string()),
    })
    .optional(),
  entrypoint: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  mem_limit: bytes.optional(),
  /** podman-compose 1.0.3 does not know it; podman itself allows 2,048. */
  pids_limit: z.int().min(1).optional(),
  /** `json-file` is understood by docker and podman alike. */
  logging: z
    .strictObject({
      driver: z.literal("json-file"),
      options: z.strictObject({ "max-size": bytes, "max-file": z.string().regex(/^\d+$/) }),
    })
    .optional(),
  cap_add: z.array(z.literal("NET_ADMIN")).optional(),
  devices: z.array(z.literal("/dev/net/tun:/dev/net/tun")).optional(),
  sysctls: z.array(z.string()).optional(),
  tmpfs: z.array(absolute).optional(),
  depends_on: z
    .union([
      z.array(name),
      z.record(
        name,
        z.strictObject({ condition: z.enum(["service_completed_successfully", "service_healthy"]) }),
      ),
    ])
    .optional(),
  user: uid.optional(),
  read_only: z.boolean().optional(),
  cap_drop: z.array(z.literal("ALL")).optional(),
  security_opt: z.array(z.literal("no-new-privileges:true")).optional(),
  restart: z.enum(["no", "always", "on-failure", "unless-stopped"]).optional(),
  stop_grace_period: duration.optional(),
  healthcheck: z
    .strictObject({
      test: z.tuple([z.literal("CMD"), absolute.or(z.literal("wget"))], z.string()),
      interval: duration,
      timeout: duration,
      start_period: duration,
      retries: z.int().min(1),
    })
    .optional(),
  environment: z.record(z.string().regex(/^[A-Z][A-Z0-9_]*$/), z.string()).optional(),
  networks: z.array(name).optional(),
  /** ADDRESS:PUBLISHED:INSIDE */
  ports: z.array(z.string().regex(/^[\d.]+:\d{1,5}:\d{1,5}$/)).optional(),
  /** NAME:/path, or ./path:/path:ro */
  volumes: z.array(z.string().regex(/^([a-z][a-z0-9_-]*:\/[^:]*(:ro)?|[./][^:]*:\/[^:]*:ro)$/)).optional(),
});

const composeSchema = z.strictObject({
  name: name.optional(),
  services: z.record(name, serviceSchema),
  networks: z.record(name, z.strictObject({ internal: z.literal(true).optional() })),
  volumes: z.record(name, z.strictObject({})),
});
export type Compose = z.output<typeof composeSchema>;
export type Service = z.output<typeof serviceSchema>;

type Variables = Readonly<Record<string, string>>;

/** `${NAME:-default}`, and `$$` for a dollar sign. Throws on a variable without a value, and on any other dollar sign. */
export function interpolate(text: string, variables: Variables): string {
  return text.replace(
    /\$(?:\$|\{([A-Z_]+)(?::-([^}]*))?\}|)/g,
    (whole, key: string | undefined, fallback) => {
      if (whole === "$$") return "$";
      if (key === undefined) throw new Error(`a lone $ in ${JSON.stringify(text)}`);
      const value = variables[key] ?? (fallback as string | undefined);
      if (value === undefined) throw new Error(`${key} has no value and no default`);
      return value;
    },
  );
}

function interpolateAll(value: unknown, variables: Variables): unknown {
  if (typeof value === "string") return interpolate(value, variables);
  if (Array.isArray(value)) return value.map((one) => interpolateAll(one, variables));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, interpolateAll(one, variables)]));
}

/** Later files win; tables are merged, lists joined. */
function merged(below: unknown, above: unknown): unknown {
  if (Array.isArray(below) && Array.isArray(above)) return [...below, ...above];
  const isTable = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isTable(below) || !isTable(above)) return above;
  const out: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) out[key] = key in out ? merged(out[key], value) : value;
  return out;
}

/** The files as one, in order. Throws with everything that is wrong. */
export function readCompose(paths: readonly string[], variables: Variables): Compose {
  const documents = paths.map((path) => {
    const parsed = Bun.YAML.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    // Extensions are there to be merged into others, and have been.
    return Object.fromEntries(Object.entries(parsed).filter(([key]) => !key.startsWith("x-")));
  });
  const whole = documents.reduce((below, above) => merged(below, above) as Record<string, unknown>);
  const compose = composeSchema.parse(interpolateAll(whole, variables));
  const problems = Object.entries(compose.services).flatMap(([service, spec]) =>
    crossCheck(service, spec, compose),
  );
  const published = Object.values(compose.services).flatMap(({ ports = [] }) =>
    ports.map((port) => port.slice(0, port.lastIndexOf(":"))),
  );
  if (new Set(published).size !== published.length) problems.push("one port is published twice");
  if (problems.length > 0) throw new Error(problems.join("\n"));
  return compose;
}

/** What one key alone cannot tell: names that mean something, and the settings that no service of ours may lack. */
function crossCheck(service: string, spec: Service, compose: Compose): string[] {
  const problems: string[] = [];
  const known = (kind: "networks" | "volumes" | "services", names: readonly string[]) => {
    for (const one of names)
      if (!Object.hasOwn(compose[kind], one)) problems.push(`${service}: no ${kind} ${one}`);
  };
  known("networks", spec.networks ?? []);
  known("services", dependenciesOf(spec));
  known(
    "volumes",
    mountsOf(spec).flatMap(({ volume }) => volume ?? []),
  );
  if (spec.image === undefined) problems.push(`${service}: no image`);
  if (spec.user === undefined) problems.push(`${service}: has no user of its own`);
  // Of a capability's sake: an engine gives it to no other user.
  if (isRoot(spec) && !Object.values(compose.services).some(({ cap_add: added = [] }) => added.length > 0))
    problems.push(`${service}: runs as root`);
  if (spec.read_only !== true) problems.push(`${service}: its root can be written to`);
  if (spec.cap_drop?.includes("ALL") !== true) problems.push(`${service}: keeps capabilities`);
  if (spec.security_opt?.length !== 1) problems.push(`${service}: may gain privileges`);
  if (spec.mem_limit === undefined || spec.pids_limit === undefined)
    problems.push(`${service}: its memory or its processes have no bound`);
  if (spec.logging === undefined) problems.push(`${service}: its log has no bound`);
  if (spec.restart === undefined) problems.push(`${service}: nothing says what follows its end`);
  if (!isOneShot(spec)) {
    if (spec.healthcheck === undefined) problems.push(`${service}: no healthcheck`);
    if (spec.stop_grace_period === undefined) problems.push(`${service}: no time to stop`);
  }
  // Its image declares it: what is not mounted there becomes a volume without a name, which nobody removes.
  const isOurs = spec.build !== undefined;
  const isCovered = [...mountsOf(spec).map(({ target }) => target), ...(spec.tmpfs ?? [])];
  if (isOurs && !isCovered.includes(STATE)) problems.push(`${service}: nothing is mounted at ${STATE}`);
  const state = spec.environment?.["GODWIT_NODE__STATE_DIR"] ?? STATE;
  if (isNode(spec) && !mountsOf(spec).some(({ volume, target }) => volume !== undefined && target === state))
    problems.push(`${service}: its state is not on a volume`);
  for (const path of secretsOf(spec)) {
    const mount = mountsOf(spec).find(({ target }) => path.startsWith(`${target}/`));
    const maker = Object.values(compose.services).find(
      ({ command = [], volumes = [] }) =>
        command[0] === "secret" &&
        volumes.some((one) => {
          const [volume, target] = one.split(":");
          return volume === mount?.volume && command.includes(path.replace(mount!.target, target!));
        }),
    );
    if (mount?.isReadOnly !== true || maker === undefined)
      problems.push(`${service}: does not get secret ${path}`);
  }
  return problems;
}

const STATE = "/var/lib/godwit";
/** It serves nothing: it makes something and ends. */
export const isOneShot = ({ restart }: Service): boolean => restart === "no" || restart === "on-failure";
/** It runs a node. */
export const isNode = ({ environment }: Service): boolean =>
  environment?.["GODWIT_NODE__CALLSIGN"] !== undefined;
const isRoot = ({ user = "" }: Service): boolean => user.startsWith("0:");
const dependenciesOf = ({ depends_on: on = [] }: Service): string[] =>
  Array.isArray(on) ? on : Object.keys(on);

interface Mount {
  /** Undefined: of the clone. */
  readonly volume: string | undefined;
  readonly target: string;
  readonly isReadOnly: boolean;
}

const mountsOf = ({ volumes = [] }: Service): Mount[] =>
  volumes.map((text) => {
    const [source = "", target = "", mode] = text.split(":");
    return { volume: /^[a-z]/.test(source) ? source : undefined, target, isReadOnly: mode === "ro" };
  });

/** Paths of the secrets that its settings name. */
const secretsOf = ({ environment = {} }: Service): string[] =>
  Object.entries(environment).flatMap(([key, value]) => [
    ...[...value.matchAll(/credential:([\w.-]+)/g)].map(([, secret]) => `/run/secrets/${secret}`),
    ...[...value.matchAll(/file:(\/[\w./-]+)/g)].map(([, path]) => path!),
    ...(key.endsWith("__FILE") && value.startsWith("/secrets/") ? [value] : []),
  ]);

/** `KEY=value` lines; comments and empty ones are passed over. */
export function readVariables(path: string): Record<string, string> {
  return Object.fromEntries(
    readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}
