/** `SENDPORT RECEIVEPORT PASSWORD DESTINATION BODY`: a telex from one published port to another; prints what arrived. */
import { Caller } from "../telex/caller.ts";

const [sendPort, receivePort, password, destination, body] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];

async function logIn(port: string): Promise<Caller> {
  const caller = await Caller.call(Number(port));
  caller.sayJson({ password });
  await caller.hear(/"status":"welcome"/);
  return caller;
}

const stranger = await Caller.call(Number(sendPort));
stranger.sayJson({ password: "not the password" });
await stranger.hear(/GODWIT_UNAUTHORIZED/);

const receiver = await logIn(receivePort);
receiver.sayJson({ receive: true });
await receiver.hear(/"status":"receiving"/);
const sender = await logIn(sendPort);
sender.sayJson({
  message_id: crypto.randomUUID(),
  timestamp_created: new Date().toISOString(),
  routing: { source: "DUN-A", destination, priority: 5 },
  content: { subject: "LINE", body },
  trace: [],
});
await sender.hear(/"status":"accepted"/);
const [, line] = await receiver.hear(/(\{"message_id".*)\r?\n/);
console.log(line);
process.exit(0);
