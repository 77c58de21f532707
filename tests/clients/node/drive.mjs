// Lets a test drive the client library: one JSON call a line on stdin, one JSON outcome a line on stdout.
//
// An outcome is {"ok": value}, or {"raised": class, ...} with what the library's user would see of the error.

import { createInterface } from 'node:readline';

import { ApiError, Client, ProcessingError, parseWebhook } from './rotoless_client.mjs';

async function outcome(client, name, args) {
  try {
    if (name === 'parse_webhook') return { ok: parseWebhook(args.body, args.headers, args.secret) };
    return { ok: (await client[name](args)) ?? null };
  } catch (error) {
    const seen = { raised: error.name, message: error.message };
    if (error instanceof ApiError) {
      return { ...seen, status: error.statusCode, code: error.code ?? null, request_id: error.requestId ?? null };
    }
    return error instanceof ProcessingError ? { ...seen, job: error.job } : seen;
  }
}

let client;
for await (const line of createInterface({ input: process.stdin })) {
  if (client === undefined) {
    client = new Client(JSON.parse(line));
    continue;
  }
  const { call, args } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await outcome(client, call, args))}\n`);
}
