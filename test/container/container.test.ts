/**
 * The image that `bun run image container` makes and the compose files, run by podman: what stands in a file is what is
 * started. One engine for all tests, one image; each test has its own containers. What takes longer: compose-twice.long.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONTAINER_BINARY, containerConfig } from "../../scripts/images/container.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { root, run } from "../../scripts/lib.ts";
import { blockOf, readPage } from "../../scripts/pages.ts";
import { Engine, missing } from "./engine.ts";
import { buildDebian, DEBIAN_IMAGE, IMAGE, loadImage, makeImage } from "./images.ts";
import { meshOfYggdrasil } from "./mesh.ts";
import { isRing } from "./ring.ts";
import { expectPowerless, Topology, until } from "./topology.ts";

const SLOW_MS = 120_000;

let engine: Engine;

describe.skipIf(missing !== undefined)(
  `in containers${missing === undefined ? "" : ` [skipped: ${missing}]`}`,
  () => {
    beforeAll(async () => {
      engine = await Engine.start();
      await loadImage(engine);
      await buildDebian(engine);
    }, 300_000);
    afterAll(() => engine?.close(), SLOW_MS);

    test("two builds of the image are the same bytes", sameBytes, SLOW_MS);
    test("the image says of itself what the Containerfiles say", sameConfig, SLOW_MS);
    test(
      "configured by nothing but its environment; stops in time; is process 1 and a node",
      byEnvironment,
      SLOW_MS,
    );
    test("a wrong variable ends the container with 78", wrongVariable, SLOW_MS);
    test("an image or a secret that is missing: what is said says what to type", missingParts, SLOW_MS);
    test("the line forms, a telex reaches its end, the hub comes back with its volume", line, SLOW_MS);
    test("the override runs the binary that was built last", override, SLOW_MS);
    test("the ring forms, and no network of it leads out", ring, SLOW_MS);
    test("the mesh of Yggdrasil is read and watched from the host", () => meshOfYggdrasil(engine), SLOW_MS);
    test("what docs/containers.md says to type does what it says", asThePageSays, SLOW_MS);
    test("podman builds both Containerfiles, and what they make runs", builtByPodman, 300_000);
  },
);

const sha256 = (path: string) => new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex");

async function sameBytes(): Promise<void> {
  await makeImage(engine, "second");
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

const godwit = (container: string, ...words: string[]) =>
  engine.podman("exec", container, CONTAINER_BINARY, ...words);

const isHealthy = async (container: string) => (await godwit(container, "health")).code === 0;

async function byEnvironment(): Promise<void> {
  const name = "alone";
  await engine.must(
    ...["run", "--detach", "--name", name, "--no-healthcheck", "--cgroups=disabled", "--network=none"],
    ...["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
    ...["--env", "GODWIT_NODE__CALLSIGN=DUN-A", IMAGE],
  );
  await until(engine, "health", name, () => isHealthy(name));
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

async function line(): Promise<void> {
  await using topology = await Topology.up(engine, "line", { files: ["line.yaml"] });
  const [setup, dun, lon] = ["setup", "dun-a", "lon-b"].map((one) => topology.container(one)) as [
    string,
    string,
    string,
  ];
  expect(await engine.must("logs", setup)).toBe(
    "made /run/secrets/network_key\nmade /run/secrets/telex_password",
  );
  await topology.allHealthy();
  await topology.isConfined();
  await topology.isWhole();
  const password = join(engine.dir, "telex_password");
  await engine.must("cp", `${dun}:/run/secrets/telex_password`, password);
  const call = (from: number, to: number, destination: string, body: string) =>
    engine.bun(
      join(import.meta.dir, "telex-call.ts"),
      ...[String(from), String(to), readFileSync(password, "utf8").trim(), destination, body],
    );
  const arrived = JSON.parse(await call(8023, 8025, "NYC-C", "ALL WELL")) as {
    content: { body: string };
    trace: { node_id: string }[];
  };
  expect(arrived.content.body).toBe("ALL WELL");
  // There is no other way than through the hub.
  expect(arrived.trace.map(({ node_id }) => node_id)).toContain("LON-B");

  const ids = await topology.ids();
  // The hub goes and a new container comes with the old volume; what was sent meanwhile waits and arrives.
  await engine.must("rm", "--force", "--time", "10", lon);
  const sent = await topology.godwit("dun-a", "send", "NYC-C", "WHILE THE HUB WAS AWAY", "--json");
  const { id } = JSON.parse(sent.out) as { id: string };
  await topology.start();
  await topology.until("health after its restart", "lon-b", async () => {
    return (await topology.godwit("lon-b", "health")).code === 0;
  });
  await topology.until("the receipt", "dun-a", async () => {
    const { out } = await topology.godwit("dun-a", "outbox", "--json");
    const { messages } = JSON.parse(out) as { messages: { id: string; state: string }[] };
    return messages.find((message) => message.id === id)?.state === "delivered";
  });
  // The hub is another process with the same place in the mesh, and both ends still talk through it.
  expect(JSON.parse(await call(8025, 8023, "DUN-A", "HEARD YOU"))).toMatchObject({
    content: { body: "HEARD YOU" },
  });
  await topology.again(async () => {
    expect(await engine.must("logs", setup)).toBe(
      "/run/secrets/network_key is there and stays\n/run/secrets/telex_password is there and stays",
    );
    await topology.isWhole();
    expect(await topology.ids()).toEqual(ids);
    // The password of before opens the port.
    await call(8023, 8025, "NYC-C", "AGAIN");
  });
}

async function ring(): Promise<void> {
  await using topology = await Topology.up(engine, "ring", { files: ["ring.yaml"] });
  await isRing(topology);
  // Any one may go: from one side of the gap to the other the mail takes the long way.
  await engine.must("stop", "--time", "10", topology.container("lon-b"));
  const sent = await topology.godwit(
    "dun-a",
    ...["send", "NYC-C", "THE LONG WAY", "--wait", "--timeout", "30s", "--json"],
  );
  expect(sent.code).toBe(0);
}

async function override(): Promise<void> {
  await using topology = await Topology.up(engine, "dev", {
    files: ["line.yaml", "dev.yaml"],
    variables: { GODWIT_BINARY: binaryPath },
  });
  await topology.allHealthy();
  await topology.isConfined();
  await topology.canReach("dun-a", ["NYC-C"]);
  const built = await run([binaryPath, "version", "--json"]);
  expect((await topology.godwit("dun-a", "version", "--json")).out).toBe(built.output);
  for (const port of [8000, 8001, 8002])
    expect(await engine.bun(join(import.meta.dir, "get.ts"), `http://127.0.0.1:${port}/health`)).toStartWith(
      "200 ",
    );
  const { out, err } = await engine.podman("logs", topology.container("dun-a"));
  // For people, not for programs.
  expect(`${out}${err}`).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info {2}node started /m);
}

async function missingParts(): Promise<void> {
  const { out, err } = await engine.podman(
    ...["run", "--rm", "--no-healthcheck", "--cgroups=disabled", "--network=none"],
    ...["--env", "GODWIT_NODE__NETWORK_SECRET=credential:network_key", IMAGE],
  );
  expect(`${out}${err}`).toContain("/run/secrets/network_key");
  expect(`${out}${err}`).toContain("godwit secret new --out FILE");
  for (const [name, command] of [
    ["Containerfile", "./scripts/image container --rootfs --out out"],
    ["Containerfile.debian", "at the head of images/container/Containerfile.debian"],
  ] as const) {
    const built = await engine.podman(
      ...["build", "--file", join(root, "images/container", name), "--build-arg", "OUT=nowhere", root],
    );
    expect(built.code).not.toBe(0);
    expect(`${built.out}${built.err}`).toContain(command);
  }
}

async function builtByPodman(): Promise<void> {
  // As the files do it: by a build section, of what lies in out/ of the clone, which here is gone with the engine. The image on
  // Debian's packages was built by its Containerfile for all tests.
  await engine.must("rmi", "--force", IMAGE);
  await engine.shell(
    `mkdir -p out && cp ${join(engine.dir, "first", "rootfs.tar")} out/\n` +
      "podman-compose --podman-build-args='--format docker' -f images/compose/line.yaml build",
  );
  for (const image of [IMAGE, DEBIAN_IMAGE]) {
    const [shown] = JSON.parse(await engine.must("image", "inspect", image)) as [
      { Healthcheck: { Test: string[] } },
    ];
    expect(shown.Healthcheck.Test).toEqual(["CMD", CONTAINER_BINARY, "health", "--live"]);
    await engine.must(
      ...["run", "--detach", "--name", "built", "--no-healthcheck", "--cgroups=disabled", "--network=none"],
      ...["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
      image,
    );
    await until(engine, "health", "built", () => isHealthy("built"));
    expectPowerless((await engine.processOf("built")).status);
    await engine.must("rm", "--force", "--volumes", "--time", "10", "built");
  }
}

async function asThePageSays(): Promise<void> {
  const page = readPage("docs/containers.md");
  try {
    expect(await engine.shell(blockOf(page, "./scripts/image container --out out "))).toContain("DUN-A");
    const telex = await engine.shell(
      blockOf(page, "cd images/compose"),
      "<telex_password>\nsend NYC-C ALL WELL\n",
    );
    expect(telex).toContain("accepted");
    const inbox = async () => (await engine.podman("exec", "line_nyc-c_1", "godwit", "inbox", "--json")).out;
    for (let tries = 0; !(await inbox()).includes("DUN-A"); tries++) {
      if (tries > 100) throw new Error("the telex does not come");
      await Bun.sleep(200);
    }
    const end = blockOf(page, "podman-compose -p line -f line.yaml down");
    await engine.shell(`cd images/compose\n${end}`);
    expect(await engine.must("ps", "--all", "--quiet", "--filter", "name=line_")).toBe("");
    expect(await engine.must("volume", "ls", "--quiet", "--filter", "name=line_")).toBe("");
  } finally {
    await engine.must("rm", "--force", "--all", "--volumes");
    await engine.must("volume", "rm", "--force", "--all");
    // Whatever starts the same files later would take its settings.
    await engine.shell("rm -rf images/compose/.env images/compose/telex_password");
  }
}
