/** The compose files by their text: everything in them is understood, and each fault of a file is found. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root as project } from "../../scripts/lib.ts";
import { interpolate, isNode, readCompose, readVariables } from "./compose.ts";

const folder = join(project, "images/compose");
const file = (name: string) => join(folder, name);
const all = ["line.yaml", "ring.yaml", "mesh.yaml", "tor.yaml", "dev.yaml"];
const example = readVariables(file(".env.example"));

let scratch: string;
beforeEach(() => void (scratch = mkdtempSync(join(tmpdir(), "godwit-compose-"))));
afterEach(() => rmSync(scratch, { recursive: true }));

test("every file is right, with .env.example and without", () => {
  for (const files of [["line.yaml"], ["ring.yaml"], ["mesh.yaml"], ["tor.yaml"], ["line.yaml", "dev.yaml"]])
    for (const variables of [example, {}]) {
      const compose = readCompose(files.map(file), variables);
      expect(Object.keys(compose.services).length).toBeGreaterThanOrEqual(3);
    }
});

test(".env.example names every variable of the files, with their defaults, and no other", () => {
  const text = all.map((name) => readFileSync(file(name), "utf8")).join("");
  const used = new Map(
    [...text.matchAll(/\$\{([A-Z_]+):-([^}]*)\}/g)].map(([, name, value]) => [name!, value!]),
  );
  expect(new Map(Object.entries(example))).toEqual(used);
});

test("the version that images are tagged with is ours", () => {
  const { version } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as { version: string };
  for (const name of all.filter((one) => one !== "dev.yaml"))
    for (const { build } of Object.values(readCompose([file(name)], example).services))
      for (const tag of build?.tags ?? [])
        expect(tag).toMatch(new RegExp(`^localhost/godwit:${version}(-debian)?$`));
  expect(readFileSync(file(".env.example"), "utf8")).toContain(`localhost/godwit:${version}.`);
});

test("everything is published on loopback: the line's telex ports, what the mesh shows, and of others nothing", () => {
  const ports = (name: string) =>
    Object.values(readCompose([file(name)], {}).services).flatMap((service) => service.ports ?? []);
  expect(ports("line.yaml")).toEqual(["127.0.0.1:8023:8023", "127.0.0.1:8024:8023", "127.0.0.1:8025:8023"]);
  expect(ports("ring.yaml")).toEqual([]);
  expect(ports("tor.yaml")).toEqual([]);
  expect(ports("mesh.yaml")).toEqual([
    ...["127.0.0.1:8000:8000", "127.0.0.1:8001:8000", "127.0.0.1:8002:8000"],
    ...["127.0.0.1:9093:9090", "127.0.0.1:3000:3000"],
  ]);
});

test("no network leads out but where something is published, or is Tor's", () => {
  const open = (name: string) =>
    Object.entries(readCompose([file(name)], {}).networks)
      .filter(([, { internal }]) => internal !== true)
      .map(([network]) => network);
  expect(open("ring.yaml")).toEqual([]);
  expect(open("tor.yaml")).toEqual(["out"]);
  const { services } = readCompose([file("tor.yaml")], {});
  expect(Object.keys(services).filter((one) => services[one]!.networks?.includes("out"))).toEqual(["tor"]);
});

test("the override adds to the line and takes nothing from it but the API's silence", () => {
  const line = readCompose([file("line.yaml")], {});
  const dev = readCompose([file("line.yaml"), file("dev.yaml")], {});
  for (const [name, { environment, ports, volumes, ...rest }] of Object.entries(line.services)) {
    if (!isNode(line.services[name]!)) continue;
    const above = dev.services[name]!;
    expect(above).toMatchObject(rest);
    expect({ ...above.environment, GODWIT_API__LISTEN: "off" }).toMatchObject(environment!);
    expect(above.ports!.slice(0, ports!.length)).toEqual(ports!);
    expect(above.volumes).toEqual([...volumes!, "../../dist/godwit:/usr/local/bin/godwit:ro"]);
  }
});

const changes: readonly [string, string, RegExp][] = [
  ["read_only: true", "read_only: false", /its root can be written to/],
  ['user: "65532:65532"', 'user: "0:0"', /runs as root/],
  ["cap_drop: [ALL]", "cap_drop: []", /keeps capabilities/],
  ['security_opt: ["no-new-privileges:true"]', "security_opt: []", /may gain privileges/],
  ["networks: [east]", "networks: [eest]", /no networks eest/],
  [', "/run/secrets/telex_password"]', "]", /does not get secret .*telex_password/],
  ['"nyc-c:/var/lib/godwit", "secrets:/run/secrets:ro"', '"nyc-c:/var/lib/godwit"', /does not get secret/],
  [
    '"nyc-c:/var/lib/godwit", "secrets:/run/secrets:ro"',
    '"secrets:/run/secrets:ro"',
    /state is not on a volume/,
  ],
  ["tmpfs: [/var/lib/godwit]", "tmpfs: []", /nothing is mounted at/],
  ["mem_limit: ${NODE_MEMORY:-512m}", "stop_grace_period: 5s", /have no bound/],
  ["setup: { condition", "set-up: { condition", /no services set-up/],
  [":8025:8023", ":8024:8023", /published twice/],
  ["restart: unless-stopped", "restart: sometimes", /restart/],
  ["restart: unless-stopped", "priviledged: true", /priviledged/],
  ["${TELEX_BIND:-127.0.0.1}", "${TELEX_BIND}", /TELEX_BIND has no value/],
];
for (const [from, to, pattern] of changes)
  test(`a fault is found: ${to}`, () => {
    const text = readFileSync(file("line.yaml"), "utf8");
    expect(text).toContain(from);
    writeFileSync(join(scratch, "line.yaml"), text.replace(from, to));
    expect(() => readCompose([join(scratch, "line.yaml")], {})).toThrow(pattern);
  });

test("dollar signs mean variables, or themselves when doubled", () => {
  expect(interpolate("a ${B:-c} $$ ${D}", { D: "e" })).toBe("a c $ e");
  expect(() => interpolate("$A", {})).toThrow("a lone $");
});
