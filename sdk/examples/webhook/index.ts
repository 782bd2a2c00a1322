/**
 * webhook: the mesh for programs that speak HTTP. Each message of the inbox is posted to `url`, signed; what is posted to
 * `listen` is sent. A hook that fails gets the message again, so it may see one twice: the id says so.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import {
  definePlugin,
  GodwitError,
  type IncomingMessage,
  parseHostPort,
  type ServiceContext,
  z,
} from "@godwit/sdk";

const HOOK_TIMEOUT_MS = 30_000;
const BODY_BYTES_MAX = 1_048_576;

const config = z.strictObject({
  /** Where messages go; none: nothing is posted. */
  url: z.url({ protocol: /^https?$/ }).optional(),
  /** Where requests to send come in; none: nobody can send. */
  listen: z
    .string()
    .regex(/:\d{1,5}$/)
    .optional(),
  /** Signs what is posted (HMAC-SHA256 in `x-godwit-signature`), and is the bearer token of requests. */
  secret: z.string().min(16).max(256),
  /** Messages stay in the inbox when the hook has them. */
  keep: z.boolean().default(false),
});
type Config = z.output<typeof config>;

/** What may be posted to `listen`. */
const request = z.strictObject({
  to: z.string().min(1).max(64),
  subject: z.string().max(256).optional(),
  body: z.string().max(BODY_BYTES_MAX),
});

export default definePlugin({
  id: "webhook",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: ["net.tcp"],
  config,
  start(ctx, options) {
    const posted = ctx.counter("posted", "messages posted to the hook, by outcome", ["outcome"]);
    const { url } = options;
    if (url !== undefined)
      ctx.mesh.onMessage(async (message) => {
        const outcome = await post(ctx, url, options, message);
        posted.add(1, { outcome });
        if (outcome === "refused") ctx.log.warn("the hook refused a message", { id: message.id });
      });
    if (options.listen !== undefined) serve(ctx, options.listen, options);
  },
});

/** Rejects where it is worth another try: then the mesh brings the message again later. */
async function post(
  ctx: ServiceContext,
  url: string,
  { secret, keep }: Config,
  message: IncomingMessage,
): Promise<"taken" | "refused"> {
  const text = JSON.stringify({
    id: message.id,
    from: message.from,
    from_callsign: message.fromCallsign ?? null,
    to: message.to,
    subject: message.subject,
    content_type: message.contentType,
    body_base64: Buffer.from(await ctx.mesh.inbox.body(message.id)).toString("base64"),
  });
  ctx.signal.throwIfAborted();
  // Time comes from the clock of the context, so that a test decides when a hook has hung.
  const controller = new AbortController();
  const timer = ctx.clock.after(HOOK_TIMEOUT_MS, () =>
    controller.abort(new Error("the hook did not answer")),
  );
  // At once: the request itself takes its time to end.
  const onStop = () => {
    timer.cancel();
    controller.abort(ctx.signal.reason);
  };
  ctx.signal.addEventListener("abort", onStop, { once: true });
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-godwit-signature": createHmac("sha256", secret).update(text).digest("hex"),
        connection: "close",
      },
      body: text,
      redirect: "error",
      keepalive: false,
      signal: controller.signal,
    });
    await response.body?.cancel();
    const isOurFault = response.status >= 400 && response.status < 500;
    const isTemporary = response.status === 408 || response.status === 429;
    if (!response.ok && (!isOurFault || isTemporary))
      throw new GodwitError("GODWIT_TIMEOUT", `the hook answered ${response.status}`, {
        kind: "transport",
        retry: "later",
      });
    if (response.ok && !keep) await ctx.mesh.inbox.remove(message.id).catch(() => {});
    return response.ok ? "taken" : "refused";
  } finally {
    timer.cancel();
    ctx.signal.removeEventListener("abort", onStop);
  }
}

function serve(ctx: ServiceContext, listen: string, { secret }: Config): void {
  const { host, port } = parseHostPort(listen);
  const server = Bun.serve({
    hostname: host,
    port,
    maxRequestBodySize: BODY_BYTES_MAX * 2,
    async fetch(incoming) {
      if (incoming.method !== "POST") return new Response("POST only\n", { status: 405 });
      if (!isToken(incoming.headers.get("authorization") ?? "", secret))
        return new Response("a bearer token is needed\n", { status: 401 });
      const parsed = request.safeParse(await incoming.json().catch(() => undefined));
      if (!parsed.success) return Response.json({ error: z.prettifyError(parsed.error) }, { status: 400 });
      const { to, subject, body } = parsed.data;
      const key = incoming.headers.get("idempotency-key");
      try {
        const sent = await ctx.mesh.send({
          to,
          body: new TextEncoder().encode(body),
          ...(subject === undefined ? {} : { subject }),
          ...(key === null ? {} : { idempotencyKey: `webhook:${key}` }),
        });
        return Response.json(sent, { status: 202 });
      } catch (error) {
        const { code, message, retry } = error as GodwitError;
        return Response.json({ code, error: message }, { status: retry === "never" ? 400 : 503 });
      }
    },
  });
  ctx.own(() => server.stop(true));
  ctx.health({ state: "running", reason: `listens on ${host}:${server.port}` });
}

function isToken(header: string, secret: string): boolean {
  const digest = (text: string) => createHmac("sha256", "webhook").update(text).digest();
  return timingSafeEqual(digest(header), digest(`Bearer ${secret}`));
}
