/** What @types/node leaves out; `parser.ts` narrows what it uses. */
declare module "node:_http_common" {
  /** Names by the numbers of llhttp. */
  export const methods: readonly string[];

  /** The binding of llhttp. Its callbacks are properties by the numbers of the constants. */
  export class HTTPParser {
    static readonly REQUEST: number;
    static readonly kOnHeaders: number;
    static readonly kOnHeadersComplete: number;
    static readonly kOnBody: number;
    static readonly kOnMessageComplete: number;
    [callback: number]: (...words: never[]) => number | void;
    initialize(type: number, resource: object, headBytesMax: number, lenientFlags: number): void;
    /** Bytes that were parsed, or what is wrong with them. */
    execute(bytes: Uint8Array): number | Error;
    /** Nothing more comes. */
    finish(): Error | undefined;
    close(): void;
  }
}
