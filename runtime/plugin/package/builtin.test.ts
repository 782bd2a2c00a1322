import { expect, test } from "bun:test";
import { builtinPlugins } from "../../registry.ts";
import { loadNamed } from "./builtin.ts";

test("what the list says of a plugin is what its code says", async () => {
  for (const { id, namespace, load } of builtinPlugins) expect(await load()).toMatchObject({ id, namespace });
});

test("only what is named is loaded, once, whatever names it", async () => {
  const loaded: string[] = [];
  const spied = builtinPlugins.map(({ id, namespace, load }) => ({
    id,
    namespace,
    load: () => {
      loaded.push(id);
      return load();
    },
  }));
  const named = await loadNamed(spied, [
    { namespace: "discovery", type: "static" },
    { namespace: "transport", type: "tcp" },
    { namespace: "transport", type: "tcp" },
    { namespace: "transport", type: "static" },
    { namespace: "service", type: "nobody's" },
  ]);
  expect(named.map(({ id }) => id)).toEqual(["tcp", "static"]);
  expect(loaded).toEqual(["tcp", "static"]);
});
