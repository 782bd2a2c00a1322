/** The compose files by their text: everything in them is understood, and each fault of a file is found. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root as project } from "../../scripts/lib.ts";
import { interpolate, readCompose, readVariables } from "./compose.ts";

const folder = join(project, "images/compose");
const file = (name: string) => join(folder, name);
const example = readVariables(file(".env.example"));

let scratch: string;
beforeEach(() => void (scratch = mkdtempSync(join(tmpdir(), "godwit-compose-"))));
afterEach(() => rmSync(scratch, { recursive: true }));

test("every file is right, with .env.example and without", () => {
  for (const files of [["line.yaml"], ["ring.yaml"], ["line.yaml", "dev.yaml"]])
    for (const variables of [example, {}]) {
      const compose = readCompose(files.map(file), variables);
      expect(Object.keys(compose.services).length).toBeGreaterThanOrEqual(3);
    }
});

test(".env.example names every variable of the files, with their defaults, and no other", () => {
  const text = ["line.yaml", "ring.yaml", "dev.yaml"]
    .map((name) => readFileSync(file(name), "utf8"))
    .join("");
  const used = new Map(
    [...text.matchAll(/\$\{([A-Z_]+):-([^}]*)\}/g)].map(([, name, value]) => [name!, value!]),
  );
  expect(new Map(Object.entries(example))).toEqual(used);
});

test("the line is published on 8023, 8024 and 8025, and the ring on nothing", () => {
  const ports = (name: string) =>
    Object.values(readCompose([file(name)], {}).services).flatMap((service) => service.ports ?? []);
  expect(ports("line.yaml")).toEqual(["127.0.0.1:8023:8023", "127.0.0.1:8024:8023", "127.0.0.1:8025:8023"]);
  expect(ports("ring.yaml")).toEqual([]);
});

test("the override adds to the line and takes nothing from it but the API's silence", () => {
  const line = readCompose([file("line.yaml")], {});
  const dev = readCompose([file("line.yaml"), file("dev.yaml")], {});
  for (const [name, { environment, ports, volumes, ...rest }] of Object.entries(line.services)) {
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
  ["secrets: [network_key, telex_password]", "secrets: [network_key]", /does not get secret telex_password/],
  ['volumes: ["nyc-c:/var/lib/godwit"]', "volumes: []", /state is not on a volume/],
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
