/**
 * mesh.yaml: what people of x0tta6bl4 type, from the host, against real podman, Yggdrasil and Prometheus; fresh, and with its
 * volumes. Grafana's image can be had from no package: its files are checked by form (monitoring.test.ts), and every query
 * in them is asked of the Prometheus that runs here.
 */
import { expect } from "bun:test";
import type { Engine } from "./engine.ts";
import { buildPrometheus, PROMETHEUS_IMAGE } from "./images.ts";
import { readDashboards } from "./monitoring.ts";
import { blockOf, readPage } from "../../scripts/pages.ts";
import { Topology, until } from "./topology.ts";

const PORTS = [8_000, 8_001, 8_002] as const;
/** Two rounds of asking, at 15 s each, and what there is before the first. */
const SCRAPED_MS = 60_000;
/** Of counters that show up with their first event: neither a loss nor an accusation has to happen here. */
const EVENTS = /godwit_(peers_lost|http_refused)_total/;

interface Peers {
  readonly peers: readonly {
    readonly callsign: string;
    readonly links: readonly { readonly transport: string }[];
  }[];
}
interface Row {
  readonly metric: Readonly<Record<string, string>>;
}
/** Rejects where Prometheus does not understand it. */
type Ask = (query: string) => Promise<readonly Row[]>;

interface Answer<Result> {
  readonly status: string;
  readonly data: Result;
}

export async function meshOfYggdrasil(engine: Engine): Promise<void> {
  await buildPrometheus(engine);
  const curl = async (url: string) => await engine.outside("curl", "-sS", "--fail", "--max-time", "5", url);
  const curlJson = async <T>(url: string) => JSON.parse(await curl(url)) as T;
  const codeOf = async (...words: string[]) =>
    await engine.outside("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", ...words);
  await using topology = await Topology.up(engine, "mesh", {
    files: ["mesh.yaml"],
    variables: { PROMETHEUS_IMAGE },
    without: ["grafana"],
  });

  const statusOf = async (port: number) =>
    await curlJson<{ address: string; subnet: string; node: { id: string } }>(
      `http://127.0.0.1:${port}/mesh/status`,
    );
  const isUp = async () => {
    await topology.allHealthy();
    await topology.isConfined();
    for (const port of PORTS) {
      const node = topology.nodes[PORTS.indexOf(port)]!;
      await topology.until("both neighbours, over TCP and over Yggdrasil", node, async () => {
        const { peers } = await curlJson<Peers>(`http://127.0.0.1:${port}/mesh/peers`);
        const transports = peers.map(({ links }) =>
          links
            .map(({ transport }) => transport)
            .sort()
            .join(),
        );
        return transports.join(" ") === "tcp,yggdrasil tcp,yggdrasil";
      });
      // The address of the overlay.
      const { address, subnet } = await statusOf(port);
      expect(address).toMatch(/^2[0-9a-f:]+$/);
      expect(subnet).toMatch(/^3[0-9a-f:]+\/64$/);
    }
  };
  const statuses = async () => {
    const rows = await Promise.all(PORTS.map(statusOf));
    return rows.map(({ address, node }) => `${node.id} ${address}`);
  };
  await isUp();

  // The documented calls, as the page has them, and one by one.
  const page = readPage("docs/containers.md");
  const printed = await engine.shell(blockOf(page, "curl http://localhost:8000/health"));
  expect(printed).toStartWith('{"status":"ok"');
  expect(printed).toContain("godwit_http_requests_total{");
  expect(await curlJson<object>("http://localhost:8000/health")).toMatchObject({ status: "ok" });
  expect(await curlJson<object>("http://localhost:8001/mesh/routes")).toMatchObject({
    routes: expect.anything(),
  });
  expect(await curl("http://localhost:8002/metrics")).toContain("godwit_http_requests_total{");
  // What is not reading, and what is not the mesh, is shut; a page in a browser that names the node otherwise is, too.
  expect(await codeOf("-X", "POST", "http://127.0.0.1:8000/reload")).toBe("401");
  expect(await codeOf("http://127.0.0.1:8000/messages")).toBe("401");
  expect(await codeOf("-H", "Host: node.example", "http://127.0.0.1:8000/mesh/status")).toBe("403");
  const { out, err } = await engine.podman("logs", topology.container("node-1"));
  expect(`${out}${err}`).toContain("mesh and metrics readable by whoever reaches the api");
  const checked = await topology.godwit("node-1", "config", "check");
  expect(checked.out).toContain("api.public_read lets whoever reaches 0.0.0.0:8000 read");

  const prometheus = "http://127.0.0.1:9093/api/v1";
  const isScraped = async () => {
    await until(engine, "three targets that are up", topology.container("prometheus"), async () => {
      const { data } = await curlJson<Answer<{ activeTargets: { health: string }[] }>>(
        `${prometheus}/targets`,
      );
      return data.activeTargets.map(({ health }) => health).join() === "up,up,up";
    });
  };
  const ask: Ask = async (query) => {
    const url = `${prometheus}/query?query=${encodeURIComponent(query)}`;
    return (await curlJson<Answer<{ result: Row[] }>>(url)).data.result;
  };
  const before = await statuses();
  await topology.again(async () => {
    await isUp();
    expect(await statuses()).toEqual(before);
    await isScraped();
    await answersDashboards(engine, topology, ask);
  });
}

/** Every query of every dashboard, as Grafana would ask it. */
async function answersDashboards(engine: Engine, topology: Topology, ask: Ask): Promise<void> {
  for (const { title, expr } of readDashboards().flatMap(({ queries }) => queries)) {
    const query = expr.replaceAll("$instance", ".*");
    const what = `an answer to "${title}": ${query}`;
    if (EVENTS.test(query)) await ask(query);
    else
      await until(
        engine,
        what,
        topology.container("prometheus"),
        async () => (await ask(query)).length > 0,
        SCRAPED_MS,
      );
  }
  for (const { variables } of readDashboards())
    for (const { metric, label } of variables) {
      const rows = await ask(`count by (${label}) (${metric})`);
      expect(rows.map((row) => row.metric[label]).sort()).toEqual([
        "node-1:8000",
        "node-2:8000",
        "node-3:8000",
      ]);
    }
}
