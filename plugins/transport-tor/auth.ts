/**
 * Proves to a control port that we may command it (control-spec, sections 3.5, 3.21 and 3.24): SAFECOOKIE, where tor proves
 * itself first, else COOKIE, a password, or nothing where tor asks for nothing. The cookie is read anew each time: it changes when
 * tor restarts.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { open } from "node:fs/promises";
import type { Random } from "@godwit/sdk";
import { type ControlConnection, ControlError } from "./control.ts";
import { parseWords, quote, type Reply } from "./control-reply.ts";
import type { Secret } from "@godwit/sdk/secret";

const COOKIE_BYTES = 32;
const NONCE_BYTES = 32;
const SERVER_KEY = "Tor safe cookie authentication server-to-controller hash";
const CONTROLLER_KEY = "Tor safe cookie authentication controller-to-server hash";

export interface Credentials {
  readonly password: Secret | undefined;
  /** Instead of where tor says that it is. */
  readonly cookieFile: string | undefined;
  readonly random: Random;
}

/** The cookie is that of another tor, or of none: on this connection nothing else can be tried. */
export class CookieRefused extends ControlError {}

/** Rejects with ControlError, in words that say what to do; CookieRefused only `withCookie`. */
export async function authenticate(
  control: ControlConnection,
  { password, cookieFile, random }: Credentials,
  withCookie: boolean,
): Promise<void> {
  const { methods, cookiePath } = readProtocolInfo(await control.command("PROTOCOLINFO 1"));
  const path = cookieFile ?? cookiePath;
  const problems: string[] = [];
  const hasCookie = methods.has("SAFECOOKIE") || methods.has("COOKIE");
  if (withCookie && hasCookie && path !== undefined) {
    try {
      const cookie = await readCookie(path);
      if (methods.has("SAFECOOKIE")) return await safeCookie(control, cookie, random);
      await control.command(`AUTHENTICATE ${cookie.toString("hex")}`).catch((error: unknown) => {
        throw new CookieRefused(`tor refuses the cookie ${path.toString()}: ${reasonOf(error)}`);
      });
      return;
    } catch (error) {
      // After a wrong answer tor closes the connection.
      if (control.isClosed || error instanceof CookieRefused) throw error;
      problems.push(reasonOf(error));
    }
  }
  if (methods.has("NULL")) return void (await control.command("AUTHENTICATE"));
  if (methods.has("HASHEDPASSWORD") && password !== undefined)
    return void (await control.command(`AUTHENTICATE ${quote(password.revealText())}`));
  if (methods.has("HASHEDPASSWORD") && password === undefined)
    problems.push('tor wants a password: set control_password = "file:/path"');
  if (problems.length === 0) problems.push(`tor offers only ${[...methods].join(", ") || "nothing"}`);
  throw new ControlError(problems.join("; "));
}

export function readProtocolInfo(reply: Reply): {
  readonly methods: ReadonlySet<string>;
  /** Its bytes as tor said them: a path need be neither ASCII nor UTF-8. */
  readonly cookiePath: Buffer | undefined;
} {
  const line = reply.lines.find(({ text }) => text.startsWith("AUTH "))?.text ?? "";
  const { values } = parseWords(line);
  const cookiePath = values.get("COOKIEFILE");
  return {
    methods: new Set((values.get("METHODS") ?? "").split(",").filter((method) => method !== "")),
    cookiePath: cookiePath?.startsWith("/") === true ? Buffer.from(cookiePath, "latin1") : undefined,
  };
}

/** Exactly 32 bytes of a plain file: whoever answers on that port must not learn what another file holds. */
async function readCookie(path: string | Buffer): Promise<Buffer> {
  let file;
  try {
    file = await open(path, "r");
    const stat = await file.stat();
    if (!stat.isFile() || stat.size !== COOKIE_BYTES)
      throw new ControlError(`${path.toString()} is no cookie of ${COOKIE_BYTES} bytes`);
    const bytes = Buffer.alloc(COOKIE_BYTES);
    const { bytesRead } = await file.read(bytes, 0, COOKIE_BYTES, 0);
    if (bytesRead !== COOKIE_BYTES)
      throw new ControlError(`${path.toString()} is no cookie of ${COOKIE_BYTES} bytes`);
    return bytes;
  } catch (error) {
    if (error instanceof ControlError) throw error;
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new ControlError(
      code === "EACCES"
        ? `the cookie ${path.toString()} may not be read: add the node's user to the group of tor (CookieAuthFileGroupReadable 1)`
        : `the cookie ${path.toString()} cannot be read: ${code}`,
    );
  } finally {
    await file?.close();
  }
}

export const safeCookieHash = (
  key: "server" | "controller",
  { cookie, clientNonce, serverNonce }: Record<"cookie" | "clientNonce" | "serverNonce", Uint8Array>,
): Buffer =>
  createHmac("sha256", key === "server" ? SERVER_KEY : CONTROLLER_KEY)
    .update(cookie)
    .update(clientNonce)
    .update(serverNonce)
    .digest();

async function safeCookie(control: ControlConnection, cookie: Buffer, random: Random): Promise<void> {
  const clientNonce = random.bytes(NONCE_BYTES);
  const challenge = await control.command(
    `AUTHCHALLENGE SAFECOOKIE ${Buffer.from(clientNonce).toString("hex")}`,
  );
  const { values } = parseWords(challenge.lines[0]?.text ?? "");
  const serverNonce = Buffer.from(values.get("SERVERNONCE") ?? "", "hex");
  const serverHash = Buffer.from(values.get("SERVERHASH") ?? "", "hex");
  const parts = { cookie, clientNonce, serverNonce };
  const expected = safeCookieHash("server", parts);
  if (serverHash.length !== expected.length || !timingSafeEqual(serverHash, expected)) {
    // It does not know the cookie, so it is no tor of ours: not a word more.
    control.close();
    throw new CookieRefused("whoever answers on the control port does not know the cookie");
  }
  await control.command(`AUTHENTICATE ${safeCookieHash("controller", parts).toString("hex")}`);
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
