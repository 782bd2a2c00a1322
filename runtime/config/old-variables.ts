/**
 * Variables by which the systems were set that Godwit replaces: what each is called here. Godwit reads none of them; whoever
 * sees one in its environment says so, and `godwit config import --env` turns them into a file. docs/moving.md lists them.
 */
type Environment = Readonly<Record<string, string | undefined>>;
type Document = Readonly<Record<string, unknown>>;

const tableOf = (value: unknown): Document =>
  typeof value === "object" && value !== null ? (value as Document) : {};
const has = (table: string, key: string) => (document: Document) =>
  tableOf(document[table])[key] !== undefined;
const hasOverlay = (document: Document) =>
  Object.values(tableOf(document["transports"])).some(
    (transport) => tableOf(transport)["type"] === "yggdrasil",
  );

interface OldVariable {
  /** Whether the configuration says what it said; undefined: there is no such setting, and `instead` says what there is. */
  readonly isSaid?: (document: Document) => boolean;
  readonly instead?: string;
}

export const oldVariables: Readonly<Record<string, OldVariable>> = {
  NODE_ID: { isSaid: has("node", "callsign") },
  AGENT_ID: { isSaid: has("node", "callsign") },
  LISTEN_HOST: { isSaid: has("api", "listen") },
  LISTEN_PORT: { isSaid: has("api", "listen") },
  LOG_LEVEL: { isSaid: has("node", "log_level") },
  YGGDRASIL_PEERS: { isSaid: hasOverlay },
  DB_PATH: { isSaid: has("node", "state_dir") },
  SERVER_URL: { instead: "nodes find each other: godwit invite on one node, godwit join on the other" },
  API_KEY: {
    instead: "an invitation lets a node in (godwit invite), a token lets a program in (godwit token new)",
  },
  API_KEY_FILE: {
    instead: "an invitation lets a node in (godwit invite), a token lets a program in (godwit token new)",
  },
  JSON_LOG_HOST: {
    instead: 'the log is on standard error, as JSON with node.log_format = "json", and in GET /logs',
  },
  JSON_LOG_PORT: {
    instead: 'the log is on standard error, as JSON with node.log_format = "json", and in GET /logs',
  },
  MESHTASTIC_CONNECTION: { instead: "godwit radio setup, with --port PATH or --host HOST" },
  MESHTASTIC_HOST: { instead: "godwit radio setup, with --port PATH or --host HOST" },
};

/** Those in the environment that nothing here says: no setting of the file, nor a `GODWIT_` variable, takes their place. */
export const unheardOf = (env: Environment, document: Document): string[] =>
  Object.entries(oldVariables)
    .filter(([name, { isSaid }]) => (env[name] ?? "") !== "" && isSaid?.(document) !== true)
    .map(([name]) => name);
