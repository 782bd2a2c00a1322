/** Packages of third parties for real nodes: bundled, signed by a publisher of the test, installed where the node looks. */
import { join } from "node:path";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { sdkModules } from "../../runtime/plugin/package/sdk-modules.ts";
import { installPackage, trustPublisher } from "../../runtime/plugin/installed.ts";
import { encodePackage } from "../../runtime/plugin/package/package.ts";
import { builtinPlugins } from "../../runtime/registry.ts";
import type { LabNode } from "../../scripts/lab.ts";

export const publisher = generateIdentity(systemRandom);

export interface TestPackage {
  readonly id: string;
  readonly namespace: "transport" | "discovery" | "service" | "engine";
  readonly version?: string;
  readonly permissions?: readonly string[];
  readonly runtime?: "godwit" | "exec";
  readonly code: Uint8Array;
}

export async function bundle(
  name: string,
  define: Readonly<Record<string, string>> = {},
): Promise<Uint8Array> {
  const built = await Bun.build({
    entrypoints: [join(import.meta.dir, "plugins", `${name}.ts`)],
    target: "bun",
    format: "esm",
    external: [...sdkModules],
    define,
  });
  return new Uint8Array(await built.outputs[0]!.arrayBuffer());
}

export function encode({ id, namespace, version, permissions, runtime, code }: TestPackage): Uint8Array {
  const manifest = {
    id,
    namespace,
    version: version ?? "1.0.0",
    sdk: "^0.1.0",
    permissions: permissions ?? [],
    entry: "index.ts",
    config: { type: "object" },
    ...(runtime === undefined ? {} : { runtime }),
  };
  return encodePackage(new TextEncoder().encode(JSON.stringify(manifest)), code, publisher);
}

export async function install(stateDir: string, found: TestPackage): Promise<void> {
  await trustPublisher(stateDir, publisher.id);
  await installPackage(stateDir, encode(found), builtinPlugins);
}

/** What the operator asks of a plugin. Throws with the problem document of a refusal. */
export async function askPlugin<T = unknown>(
  node: LabNode,
  plugin: string,
  request: string,
  input: Readonly<Record<string, unknown>> = {},
): Promise<T> {
  const response = await node.api(`/plugins/${plugin}/requests`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ request, input }),
  });
  const answer = (await response.json()) as T;
  if (response.status >= 400) throw new Error(JSON.stringify(answer));
  return answer;
}

/** Until health calls all of these well, such as `engine.board`. */
export const untilRunning = (node: LabNode, names: readonly string[]): Promise<void> =>
  node.until(
    `${names.length} plugins to run`,
    async () => {
      const { checks } = (await (await node.api("/health")).json()) as {
        checks: { name: string; status: string }[];
      };
      return names.every((wanted) => checks.some(({ name, status }) => name === wanted && status === "ok"));
    },
    60_000,
  );
