/**
 * The image that `bun run image container` makes and the compose files, run by podman: what stands in a file is what is
 * started. One engine for all tests, one image; each test has its own containers.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CONTAINER_BINARY, CONTAINER_USER, containerConfig } from "../../scripts/images/container.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { root, run } from "../../scripts/lib.ts";
import { blockOf, readPage } from "../../scripts/pages.ts";
import { rootArchive } from "../systemd/machine.ts";
import { type Compose, readCompose, readVariables } from "./compose.ts";
import { Engine, missing } from "./engine.ts";

const SLOW_MS = 120_000;
const IMAGE = "localhost/godwit:latest";
const PASSWORD = "a password for the line";
const folder = join(root, "images/compose");
const file = (name: string) => join(folder, name);

let engine: Engine;
let variables: Record<string, string>;

describe.skipIf(missing !== undefined)(
  `in containers${missing === undefined ? "" : ` [skipped: ${missing}]`}`,
  () => {
    beforeAll(async () => {
      engine = await Engine.start();
      const secrets = join(engine.dir, "secrets");
      mkdirSync(secrets, { mode: 0o700 });
      writeFileSync(join(secrets, "network_key"), "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB\n");
      writeFileSync(join(secrets, "telex_password"), `${PASSWORD}\n`);
      for (const name of ["network_key", "telex_password"]) {
        chmodSync(join(secrets, name), 0o400);
        chownSync(join(secrets, name), CONTAINER_USER, CONTAINER_USER);
      }
      variables = { ...readVariables(file(".env.example")), SECRETS_DIR: secrets };
      await image("first", "--rootfs");
      await engine.must("load", "--input", join(engine.dir, "first", "godwit.oci.tar"));
    }, 180_000);
    afterAll(() => engine?.close(), SLOW_MS);

    test("two builds of the image are the same bytes", sameBytes, SLOW_MS);
    test("the image says of itself what the Containerfiles say", sameConfig, SLOW_MS);
    test(
      "configured by nothing but its environment; stops in time; is process 1 and a node",
      byEnvironment,
      SLOW_MS,
    );
    test("a wrong variable ends the container with 78", wrongVariable, SLOW_MS);
    test("the line forms, a telex reaches its end, the hub comes back with its volume", line, SLOW_MS);
    test("the override runs the binary that was built last", override, SLOW_MS);
    test("the ring forms", ring, SLOW_MS);
    test("what docs/containers.md says to type does what it says", asThePageSays, SLOW_MS);
    test("podman builds both Containerfiles, and what they make runs", builtByPodman, 300_000);
  },
);

async function image(name: string, ...more: string[]): Promise<void> {
  const made = await run(
    [process.execPath, "scripts/image.ts", "container", "--out", join(engine.dir, name), ...more],
    { env: { ...process.env, SOURCE_DATE_EPOCH: "1767225600" } },
  );
  if (made.code !== 0) throw new Error(`no image: ${made.output}`);
}

const sha256 = (path: string) => new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex");

async function sameBytes(): Promise<void> {
  await image("second");
  const archiveOf = (name: string) => sha256(join(engine.dir, name, "godwit.oci.tar"));
  expect(archiveOf("second")).toBe(archiveOf("first"));
}

/** What `podman build` would write is read by hand: the instructions of both files. */
async function sameConfig(): Promise<void> {
  const shown = JSON.parse(await engine.must("image", "inspect", IMAGE)) as [
    { Config: Record<string, unknown>; Architecture: string; Os: string },
  ];
  const { User, Env, Entrypoint, Cmd, WorkingDir, StopSignal, ExposedPorts, Volumes } = shown[0].Config;
  const wanted = containerConfig("");
  expect({ User, Env, Entrypoint, Cmd, WorkingDir, StopSignal, ExposedPorts, Volumes }).toEqual({
    User: wanted.User,
    Env: wanted.Env,
    Entrypoint: wanted.Entrypoint,
    Cmd: wanted.Cmd,
    WorkingDir: "/",
    StopSignal: "SIGTERM",
    ExposedPorts: wanted.ExposedPorts,
    Volumes: wanted.Volumes,
  });
  for (const [name, path] of [
    ["Containerfile", "/usr/local/bin"],
    ["Containerfile.debian", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
  ] as const) {
    const text = readFileSync(join(root, "images/container", name), "utf8").replaceAll(/ \\\n\s+/g, " ");
    const environment = wanted.Env.map((one) => (one.startsWith("PATH=") ? `PATH=${path}` : one));
    expect(text).toContain("FROM scratch\n");
    expect(text).toContain(`\nENV ${environment.join(" ")}\n`);
    for (const instruction of [
      `USER ${wanted.User}`,
      `STOPSIGNAL ${wanted.StopSignal}`,
      `VOLUME ${Object.keys(wanted.Volumes).join(" ")}`,
      `EXPOSE ${Object.keys(wanted.ExposedPorts).join(" ")}`,
      `ENTRYPOINT ${JSON.stringify(wanted.Entrypoint)}`,
      `CMD ${JSON.stringify(wanted.Cmd)}`,
      `HEALTHCHECK --interval=30s --timeout=12s --start-period=15s --retries=3 CMD ["${CONTAINER_BINARY}", "health", "--live"]`,
    ])
      expect(text).toContain(`\n${instruction}\n`);
  }
}

/** One topology that podman-compose brought up; gone, volumes and all, when it is disposed of. */
class Topology implements AsyncDisposable {
  readonly #project: string;
  readonly #files: readonly string[];
  readonly #variables: Readonly<Record<string, string>>;
  readonly compose: Compose;

  private constructor(project: string, names: readonly string[], more: Readonly<Record<string, string>>) {
    this.#project = project;
    this.#files = names.map(file);
    this.#variables = { ...variables, ...more };
    this.compose = readCompose(this.#files, this.#variables);
  }

  static async up(
    project: string,
    names: readonly string[],
    more: Readonly<Record<string, string>> = {},
  ): Promise<Topology> {
    const topology = new Topology(project, names, more);
    try {
      await topology.start();
      return topology;
    } catch (error) {
      await topology[Symbol.asyncDispose]();
      throw error;
    }
  }

  get services(): string[] {
    return Object.keys(this.compose.services);
  }

  container(service: string): string {
    return `${this.#project}_${service}_1`;
  }

  /** What is not there yet, with the networks and volumes that are. */
  async start(): Promise<void> {
    await engine.compose(this.#project, this.#files, this.#variables, "up", "--detach", "--no-recreate");
    for (const service of this.services)
      expect(await engine.must("inspect", "--format", "{{.State.Running}}", this.container(service))).toBe(
        "true",
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await engine.podman("rm", "--force", "--time", "5", ...this.services.map((one) => this.container(one)));
    for (const one of Object.keys(this.compose.volumes ?? {}))
      await engine.podman("volume", "rm", `${this.#project}_${one}`);
    for (const one of Object.keys(this.compose.networks ?? {}))
      await engine.podman("network", "rm", `${this.#project}_${one}`);
  }
}

const godwit = (container: string, ...words: string[]) =>
  engine.podman("exec", container, CONTAINER_BINARY, ...words);

async function until(what: string, container: string, check: () => Promise<boolean>, timeoutMs = 40_000) {
  const endMs = performance.now() + timeoutMs;
  while (performance.now() < endMs) {
    if (await check()) return;
    await Bun.sleep(100);
  }
  const { out, err } = await engine.podman("logs", container);
  throw new Error(`${container}: waited for ${what}\n${out}${err}`.slice(-4_000));
}

const isHealthy = async (container: string) => (await godwit(container, "health")).code === 0;

async function byEnvironment(): Promise<void> {
  const name = "alone";
  await engine.must(
    ...["run", "--detach", "--name", name, "--no-healthcheck", "--cgroups=disabled", "--network=none"],
    ...["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
    ...["--env", "GODWIT_NODE__CALLSIGN=DUN-A", IMAGE],
  );
  await until("health", name, () => isHealthy(name));
  const status = JSON.parse((await godwit(name, "status", "--json")).out) as { node: { callsign: string } };
  expect(status.node.callsign).toBe("DUN-A");
  const { status: facts, command } = await engine.processOf(name);
  // Process 1 of its namespace, and a node all the same: the kernel started something else first.
  expect(facts).toMatch(/^NSpid:.*\t1$/m);
  expect(command).toBe(`${CONTAINER_BINARY} run`);
  expectPowerless(facts);
  const startedMs = performance.now();
  await engine.must("stop", "--time", "15", name);
  expect(await engine.must("inspect", "--format", "{{.State.ExitCode}}", name)).toBe("0");
  console.log(`stop: ${Math.round(performance.now() - startedMs)} ms`);
  const { out, err } = await engine.podman("logs", name);
  expect(`${out}${err}`).toContain('"event":"stopped"');
  await engine.must("rm", "--volumes", name);
}

async function wrongVariable(): Promise<void> {
  const { code, err, out } = await engine.podman(
    ...["run", "--rm", "--no-healthcheck", "--cgroups=disabled", "--network=none"],
    ...["--env", "GODWIT_NODE__CALLSING=DUN-A", IMAGE],
  );
  expect(code).toBe(78);
  expect(`${out}${err}`).toContain("GODWIT_NODE__CALLSING");
}

function expectPowerless(status: string): void {
  expect(status).toMatch(new RegExp(`^Uid:(\t${CONTAINER_USER}){4}$`, "m"));
  expect(status).toMatch(new RegExp(`^Gid:(\t${CONTAINER_USER}){4}$`, "m"));
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    expect(status).toContain(`${set}:\t0000000000000000`);
  expect(status).toContain("NoNewPrivs:\t1");
}

/** What every service of a compose file must be like while it runs. */
async function isConfined(topology: Topology): Promise<void> {
  for (const service of topology.services.map((one) => topology.container(one))) {
    expectPowerless((await engine.processOf(service)).status);
    // The root is really closed, and the state really open.
    const write = await godwit(service, "init", "--config", "/written.toml");
    expect(`${write.out}${write.err}`).toMatch(/read-only|EROFS/i);
  }
}

/** By the very command of the file's healthcheck. */
async function allHealthy(topology: Topology): Promise<void> {
  for (const [service, { healthcheck }] of Object.entries(topology.compose.services)) {
    const [, ...command] = healthcheck!.test;
    const container = topology.container(service);
    await until("its healthcheck", container, async () => {
      return (await engine.podman("exec", container, ...command)).code === 0;
    });
  }
}

async function canReach(service: string, callsigns: readonly string[]): Promise<void> {
  for (const callsign of callsigns)
    await until(`a route to ${callsign}`, service, async () => {
      const { code, out } = await godwit(service, "why", callsign, "--json");
      return code === 0 && (JSON.parse(out) as { reachable: boolean }).reachable;
    });
}

async function line(): Promise<void> {
  await using topology = await Topology.up("line", ["line.yaml"]);
  const [dun, lon, nyc] = ["dun-a", "lon-b", "nyc-c"].map((one) => topology.container(one)) as [
    string,
    string,
    string,
  ];
  await allHealthy(topology);
  await isConfined(topology);
  await canReach(dun, ["LON-B", "NYC-C"]);
  await canReach(nyc, ["LON-B", "DUN-A"]);
  const call = (from: number, to: number, destination: string, body: string) =>
    engine.bun(
      join(import.meta.dir, "telex-call.ts"),
      ...[String(from), String(to), PASSWORD, destination, body],
    );
  const arrived = JSON.parse(await call(8023, 8025, "NYC-C", "ALL WELL")) as {
    content: { body: string };
    trace: { node_id: string }[];
  };
  expect(arrived.content.body).toBe("ALL WELL");
  // There is no other way than through the hub.
  expect(arrived.trace.map(({ node_id }) => node_id)).toContain("LON-B");

  const identity = (await godwit(lon, "id")).out;
  // The hub goes and a new container comes with the old volume; what was sent meanwhile waits and arrives.
  await engine.must("rm", "--force", "--time", "10", lon);
  const sent = await godwit(dun, "send", "NYC-C", "WHILE THE HUB WAS AWAY", "--json");
  const { id } = JSON.parse(sent.out) as { id: string };
  await topology.start();
  await until("health after its restart", lon, () => isHealthy(lon));
  expect((await godwit(lon, "id")).out).toBe(identity);
  await until("the receipt", dun, async () => {
    const { out } = await godwit(dun, "outbox", "--json");
    const { messages } = JSON.parse(out) as { messages: { id: string; state: string }[] };
    return messages.find((message) => message.id === id)?.state === "delivered";
  });
  // The hub is another process with the same place in the mesh, and both ends still talk through it.
  expect(JSON.parse(await call(8025, 8023, "DUN-A", "HEARD YOU"))).toMatchObject({
    content: { body: "HEARD YOU" },
  });
}

async function ring(): Promise<void> {
  await using topology = await Topology.up("ring", ["ring.yaml"]);
  const { services } = topology;
  const callsigns = services.map((name) => name.toUpperCase());
  await allHealthy(topology);
  await isConfined(topology);
  for (const service of services)
    await canReach(
      topology.container(service),
      callsigns.filter((name) => name !== service.toUpperCase()),
    );
  for (const service of services) {
    const { out } = await godwit(topology.container(service), "status", "--json");
    const status = JSON.parse(out) as { peers: { connected: number }; open: boolean };
    expect(status.open).toBe(false);
    // Its neighbours on the ring and nobody else: it shares no network with the others.
    expect(status.peers.connected).toBe(2);
  }
  // Any one may go: from one side of the gap to the other the mail takes the long way.
  await engine.must("stop", "--time", "10", topology.container("lon-b"));
  const sent = await godwit(
    topology.container("dun-a"),
    ...["send", "NYC-C", "THE LONG WAY", "--wait", "--timeout", "30s", "--json"],
  );
  expect(sent.code).toBe(0);
}

async function override(): Promise<void> {
  await using topology = await Topology.up("dev", ["line.yaml", "dev.yaml"], { GODWIT_BINARY: binaryPath });
  const dun = topology.container("dun-a");
  await allHealthy(topology);
  await isConfined(topology);
  await canReach(dun, ["NYC-C"]);
  const built = await run([binaryPath, "version", "--json"]);
  expect((await godwit(dun, "version", "--json")).out).toBe(built.output);
  for (const port of [8000, 8001, 8002])
    expect(await engine.bun(join(import.meta.dir, "get.ts"), `http://127.0.0.1:${port}/health`)).toStartWith(
      "200 ",
    );
  const { out, err } = await engine.podman("logs", dun);
  // For people, not for programs.
  expect(`${out}${err}`).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info {2}node started /m);
}

async function builtByPodman(): Promise<void> {
  const context = join(engine.dir, "first");
  copyFileSync(binaryPath, join(context, "godwit"));
  mkdirSync(join(context, "state"), { recursive: true });
  // Unpacked and not set up: enough for the binary, and made in seconds.
  copyFileSync(await rootArchive("extract", "base-files,libc6"), join(context, "debian.tar"));
  for (const name of ["Containerfile", "Containerfile.debian"]) {
    const containerfile = join(root, "images/container", name);
    const tag = `localhost/${name.toLowerCase().replace(".", "-")}:test`;
    await engine.must(
      "build",
      "--format",
      "docker",
      "--quiet",
      "--file",
      containerfile,
      "--tag",
      tag,
      context,
    );
    const [shown] = JSON.parse(await engine.must("image", "inspect", tag)) as [
      { Healthcheck: { Test: string[] } },
    ];
    expect(shown.Healthcheck.Test).toEqual(["CMD", CONTAINER_BINARY, "health", "--live"]);
    await engine.must(
      ...["run", "--detach", "--name", "built", "--no-healthcheck", "--cgroups=disabled", "--network=none"],
      ...[
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        tag,
      ],
    );
    await until("health", "built", () => isHealthy("built"));
    expectPowerless((await engine.processOf("built")).status);
    await engine.must("rm", "--force", "--volumes", "--time", "10", "built");
    await engine.must("rmi", "--force", tag);
  }
}

async function asThePageSays(): Promise<void> {
  const page = readPage("docs/containers.md");
  try {
    expect(await engine.shell(blockOf(page, "./scripts/image container"))).toContain("DUN-A");
    const telex = await engine.shell(
      blockOf(page, "cd images/compose"),
      "a password for the telex\nsend NYC-C ALL WELL\n",
    );
    expect(telex).toContain("accepted");
    const inbox = async () => (await engine.podman("exec", "line_nyc-c_1", "godwit", "inbox", "--json")).out;
    for (let tries = 0; !(await inbox()).includes("DUN-A"); tries++) {
      if (tries > 100) throw new Error("the telex does not come");
      await Bun.sleep(200);
    }
  } finally {
    await engine.must("rm", "--force", "--all", "--volumes");
    await engine.must("volume", "rm", "--force", "--all");
    // Whatever starts the same files later would take its settings and secrets.
    await engine.shell("rm -rf images/compose/.env images/compose/secrets");
  }
}
