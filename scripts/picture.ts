/**
 * The picture of README: `scripts/demo --json | bun scripts/picture.ts > docs/demo.svg` draws the mesh that ran, the
 * one that was killed, and how each telex went, from what the demo measured. Nothing in it is made up.
 */
interface Demo {
  readonly nodes: readonly { readonly callsign: string; readonly id: string }[];
  readonly telex: readonly { readonly trace: readonly string[]; readonly seconds: number }[];
  readonly killed: string;
}

const WIDTH = 720;
const HEIGHT = 236;
const NODE_Y = 70;
const RADIUS = 30;
const [INK, PALE, LIVE, DEAD] = ["#24292f", "#8c959f", "#1a7f37", "#cf222e"];

export function picture({ nodes, telex, killed }: Demo): string {
  const step = WIDTH / (nodes.length + 1);
  const at = new Map(nodes.map(({ callsign }, index) => [callsign, Math.round(step * (index + 1))]));
  const x = (callsign: string): number => {
    const found = at.get(callsign);
    if (found === undefined) throw new Error(`a telex went over ${callsign}, which is none of the nodes`);
    return found;
  };
  const lines = nodes.slice(1).map((node, index) => {
    const [from, to] = [x(nodes[index]!.callsign) + RADIUS, x(node.callsign) - RADIUS];
    return `<line x1="${from}" y1="${NODE_Y}" x2="${to}" y2="${NODE_Y}" stroke="${PALE}" stroke-width="2"/>`;
  });
  const circles = nodes.map(({ callsign, id }) => {
    const isKilled = callsign === killed;
    const note = isKilled ? `${id.slice(0, 10)}, killed and started again` : id.slice(0, 10);
    return [
      `<circle cx="${x(callsign)}" cy="${NODE_Y}" r="${RADIUS}" fill="#fff" stroke="${isKilled ? DEAD : LIVE}" stroke-width="3"/>`,
      `<text x="${x(callsign)}" y="${NODE_Y + 5}" fill="${INK}">${callsign}</text>`,
      `<text x="${x(callsign)}" y="${NODE_Y - 42}" fill="${PALE}" font-size="12">${note}</text>`,
    ].join("\n");
  });
  const ways = telex.map(({ trace, seconds }, index) => {
    const y = NODE_Y + 66 + index * 52;
    const points = trace.map((callsign) => `${x(callsign)},${y}`).join(" ");
    const when = index === 0 ? "all are up" : `accepted while ${killed} was dead`;
    return [
      `<polyline points="${points}" fill="none" stroke="${LIVE}" stroke-width="2" marker-end="url(#arrow)"/>`,
      `<text x="${WIDTH / 2}" y="${y + 20}" fill="${INK}" font-size="13">telex ${index + 1}, ${when}: receipt signed by ${trace.at(-1)} after ${seconds} s</text>`,
    ].join("\n");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="ui-monospace, monospace" font-size="14" text-anchor="middle" role="img">
<title>${nodes.map(({ callsign }) => callsign).join(", ")} in a line: how two telexes went</title>
<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="${LIVE}"/></marker></defs>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${[...lines, ...circles, ...ways].join("\n")}
</svg>
`;
}

if (import.meta.main) {
  const demo = JSON.parse(await Bun.stdin.text()) as Demo & { readonly ok: boolean };
  if (!demo.ok) throw new Error("the demo failed: there is nothing to draw");
  process.stdout.write(picture(demo));
}
