/**
 * Compose files brought up by podman-compose in an engine of one's own, and what their containers are asked. A topology is
 * gone, volumes, networks and all, when it is disposed of.
 */
import { expect } from "bun:test";
import { join } from "node:path";
import { CONTAINER_BINARY, CONTAINER_USER } from "../../scripts/images/container.ts";
import { root } from "../../scripts/lib.ts";
import { type Compose, isNode, isOneShot, readCompose, readVariables } from "./compose.ts";
import type { CallResult, Engine } from "./engine.ts";

export const folder = join(root, "images/compose");
export const file = (name: string) => join(folder, name);

/** What `health --live` may take to be fine, and routes to be there. */
const WAIT_MS = 40_000;
const NET_ADMIN = "0000000000001000";
const NOTHING = "0000000000000000";

export interface Brought {
  /** Of the compose files, in order. */
  readonly files: readonly string[];
  readonly variables?: Readonly<Record<string, string>>;
  /** Not started: its image cannot be had here. */
  readonly without?: readonly string[];
}

export class Topology implements AsyncDisposable {
  readonly engine: Engine;
  readonly compose: Compose;
  readonly #project: string;
  readonly #files: readonly string[];
  readonly #variables: Readonly<Record<string, string>>;
  readonly #without: readonly string[];

  private constructor(engine: Engine, project: string, { files, variables, without = [] }: Brought) {
    this.engine = engine;
    this.#project = project;
    this.#files = files.map(file);
    this.#variables = { ...readVariables(file(".env.example")), ...variables };
    this.#without = without;
    this.compose = readCompose(this.#files, this.#variables);
  }

  static async up(engine: Engine, project: string, brought: Brought): Promise<Topology> {
    const topology = new Topology(engine, project, brought);
    try {
      await topology.start();
      return topology;
    } catch (error) {
      await topology[Symbol.asyncDispose]();
      throw error;
    }
  }

  get services(): string[] {
    return Object.keys(this.compose.services).filter((one) => !this.#without.includes(one));
  }

  get nodes(): string[] {
    return this.services.filter((one) => isNode(this.compose.services[one]!));
  }

  container(service: string): string {
    return `${this.#project}_${service}_1`;
  }

  /** What is not there yet, with the networks and volumes that are. Those that serve run then, those that make something have made it. */
  async start(): Promise<void> {
    const some = this.#without.length > 0 ? this.services : [];
    await this.#run("up", "--detach", "--no-recreate", ...some);
    for (const service of this.services) {
      const container = this.container(service);
      const state = async (field: string) =>
        await this.engine.must("inspect", "--format", `{{.State.${field}}}`, container);
      if (!isOneShot(this.compose.services[service]!)) expect(await state("Running")).toBe("true");
      else if (this.compose.services[service]!.restart === "no")
        await this.until("its end", service, async () => (await state("Status")) === "exited");
    }
  }

  /** `podman-compose down`, and the networks, which this release of it forgets. */
  async down(...words: string[]): Promise<void> {
    await this.#run("down", "--timeout", "10", ...words);
    for (const one of Object.keys(this.compose.networks))
      await this.engine.podman("network", "rm", `${this.#project}_${one}`);
  }

  /** It went well fresh: down and up with its volumes, where `check` holds, then down without them, and nothing is left. */
  async again(check: () => Promise<void>): Promise<void> {
    await this.down();
    await this.start();
    await this.allHealthy();
    await check();
    await this.down("--volumes");
    expect(await this.left()).toEqual([]);
  }

  /** Of its nodes, in the order of the file. */
  async ids(): Promise<string[]> {
    return await Promise.all(this.nodes.map(async (node) => (await this.godwit(node, "id")).out));
  }

  /** What an engine still has of it. */
  async left(): Promise<string[]> {
    const { engine } = this;
    const label = ["--filter", `label=io.podman.compose.project=${this.#project}`];
    const lines = async (...words: string[]) => (await engine.must(...words)).split("\n").filter(Boolean);
    return [
      ...(await lines("ps", "--all", "--format", "{{.Names}}", ...label)),
      ...(await lines("pod", "ls", "--format", "{{.Name}}")),
      ...(await lines("volume", "ls", "--format", "{{.Name}}")),
      ...(await lines("network", "ls", "--format", "{{.Name}}", ...label)),
    ];
  }

  godwit(service: string, ...words: string[]): Promise<CallResult> {
    return this.engine.podman("exec", this.container(service), CONTAINER_BINARY, ...words);
  }

  async until(what: string, service: string, check: () => Promise<boolean>, timeoutMs = WAIT_MS) {
    await until(this.engine, what, this.container(service), check, timeoutMs);
  }

  /** By the very command of the file's healthcheck. */
  async allHealthy(): Promise<void> {
    for (const service of this.services) {
      const { healthcheck } = this.compose.services[service]!;
      if (healthcheck === undefined) continue;
      const [, ...command] = healthcheck.test;
      await this.until("its healthcheck", service, async () => {
        return (await this.engine.podman("exec", this.container(service), ...command)).code === 0;
      });
    }
  }

  async canReach(service: string, callsigns: readonly string[], timeoutMs?: number): Promise<void> {
    for (const callsign of callsigns)
      await this.until(
        `a route to ${callsign}`,
        service,
        async () => {
          const { code, out } = await this.godwit(service, "why", callsign, "--json");
          return code === 0 && (JSON.parse(out) as { reachable: boolean }).reachable;
        },
        timeoutMs,
      );
  }

  /** Each node has a way to each other. */
  async isWhole(timeoutMs?: number): Promise<void> {
    const { nodes } = this;
    for (const service of nodes)
      await this.canReach(
        service,
        nodes.filter((one) => one !== service).map((one) => one.toUpperCase()),
        timeoutMs,
      );
  }

  /** What every service that serves must be like while it runs. */
  async isConfined(): Promise<void> {
    for (const service of this.services) {
      const spec = this.compose.services[service]!;
      if (isOneShot(spec)) continue;
      const { status } = await this.engine.processOf(this.container(service));
      expectPowerless(status, spec.user, spec.cap_add === undefined ? NOTHING : NET_ADMIN);
      if (!isNode(spec)) continue;
      // The root is really closed, and the state really open.
      const write = await this.godwit(service, "init", "--config", "/written.toml");
      expect(`${write.out}${write.err}`).toMatch(/read-only|EROFS/i);
    }
  }

  /** Routes of a container that lead anywhere: none in networks that are internal. */
  async wayOut(service: string): Promise<string> {
    return await this.engine.inNetOf(this.container(service), "ip", "route", "show", "default");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.podman(
      "rm",
      "--force",
      "--time",
      "5",
      ...this.services.map((one) => this.container(one)),
    );
    for (const one of Object.keys(this.compose.volumes))
      await this.engine.podman("volume", "rm", `${this.#project}_${one}`);
    for (const one of Object.keys(this.compose.networks))
      await this.engine.podman("network", "rm", `${this.#project}_${one}`);
  }

  async #run(...words: string[]): Promise<void> {
    await this.engine.compose(this.#project, this.#files, this.#variables, ...words);
  }
}

export async function until(
  engine: Engine,
  what: string,
  container: string,
  check: () => Promise<boolean>,
  timeoutMs = WAIT_MS,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (performance.now() < endMs) {
    if (await check()) return;
    await Bun.sleep(100);
  }
  const { out, err } = await engine.podman("logs", container);
  throw new Error(`${container}: waited for ${what}\n${out}${err}`.slice(-4_000));
}

/** `/proc/PID/status` of a process with that user, those capabilities at most, and no way to more. */
export function expectPowerless(
  status: string,
  user = `${CONTAINER_USER}:${CONTAINER_USER}`,
  capabilities = NOTHING,
): void {
  const [uid, gid] = user.split(":");
  expect(status).toMatch(new RegExp(`^Uid:(\t${uid}){4}$`, "m"));
  expect(status).toMatch(new RegExp(`^Gid:(\t${gid}){4}$`, "m"));
  for (const set of ["CapPrm", "CapEff", "CapBnd"]) expect(status).toContain(`${set}:\t${capabilities}`);
  for (const set of ["CapInh", "CapAmb"])
    expect(status).toMatch(new RegExp(`^${set}:\t(${NOTHING}|${capabilities})$`, "m"));
  expect(status).toContain("NoNewPrivs:\t1");
}
