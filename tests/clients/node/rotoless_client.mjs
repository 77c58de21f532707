// A client library as the ones in use behave: it knows the contract by its answers alone.
//
// Deliberately plain where they are plain: the file part carries the Blob's type or application/octet-stream,
// redirects are followed as fetch follows them, no Idempotency-Key, no retries, a JSON parse of every answer.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { openAsBlob } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export class ApiError extends Error {
  constructor(message, statusCode, code, requestId) {
    super(message);
    this.name = new.target.name;
    this.statusCode = statusCode;
    this.code = code;
    this.requestId = requestId;
  }
}
export class InvalidRequestError extends ApiError {}
export class AuthenticationError extends ApiError {}
export class InsufficientCreditsError extends ApiError {}
export class NotFoundError extends ApiError {}
export class RateLimitError extends ApiError {}

/** The job ended without an output. */
export class ProcessingError extends Error {
  constructor(message, job) {
    super(message);
    this.name = 'ProcessingError';
    this.job = job;
  }
}

const ERRORS = {
  invalid_request: InvalidRequestError,
  job_not_completed: InvalidRequestError,
  missing_api_key: AuthenticationError,
  invalid_api_key: AuthenticationError,
  invalid_admin_token: AuthenticationError,
  insufficient_credits: InsufficientCreditsError,
  not_found: NotFoundError,
  rate_limited: RateLimitError,
};

const OPTIONS = ['bg_color', 'bg_image_url', 'background', 'text_prompt', 'webhook_url', 'metadata', 'composition'];

export class Client {
  constructor({ api_key, base_url, timeout = 30, admin_token = null }) {
    this.apiKey = api_key;
    this.baseUrl = base_url.replace(/\/+$/, '');
    this.timeout = timeout;
    this.adminToken = admin_token;
  }

  async request(method, path, { admin = false, headers = {}, json, body } = {}) {
    const sent = { ...(admin ? { 'X-Admin-Token': this.adminToken } : { 'X-Api-Key': this.apiKey }), ...headers };
    if (json !== undefined) {
      sent['Content-Type'] = 'application/json';
      body = JSON.stringify(json);
    }
    const signal = AbortSignal.timeout(this.timeout * 1000);
    const response = await fetch(this.baseUrl + path, { method, headers: sent, body, signal });
    const data = await response.json();
    if (!response.ok) {
      const error = data.error ?? {};
      const ErrorClass = ERRORS[error.code] ?? ApiError;
      throw new ErrorClass(error.message ?? `HTTP ${response.status}`, response.status, error.code, error.request_id);
    }
    return data;
  }

  /** Sends a file; returns the URL to create a job with. */
  async upload({ path, name, content_type }) {
    const form = new FormData();
    form.append('file', await openAsBlob(path, { type: content_type ?? '' }), name ?? basename(path));
    return (await this.request('POST', '/v1/uploads', { body: form })).video_url;
  }

  async create_job({
    video_url, model = 'original', bg_type = 'green', output_format = 'webm', auto_start = true, ...options
  }) {
    const json = { video_url, model, bg_type, output_format, auto_start };
    for (const name of OPTIONS) if (options[name] != null) json[name] = options[name];
    const data = await this.request('POST', '/v1/jobs', { json });
    return [data.id, data];
  }

  async start_job({ job_id, ...overrides }) {
    const data = await this.request('POST', `/v1/jobs/${job_id}/start`, { json: overrides });
    return [data.id, data];
  }

  async get_job({ job_id }) {
    return this.request('GET', `/v1/jobs/${job_id}`);
  }

  async list_jobs(params) {
    return this.request('GET', `/v1/jobs?${new URLSearchParams(params)}`);
  }

  async wait_for_completion({ job_id, poll_interval = 0.1, deadline = 240 }) {
    const ends = Date.now() + deadline * 1000;
    while (Date.now() < ends) {
      const job = await this.get_job({ job_id });
      if (job.status === 'completed') return job;
      if (job.status === 'failed') throw new ProcessingError(job.error, job);
      await sleep(poll_interval * 1000);
    }
    throw new Error(`job ${job_id} did not end within ${deadline} s`);
  }

  async usage_summary(params) {
    const data = await this.request('GET', `/v1/usage/summary?${new URLSearchParams(params)}`);
    const { total_jobs, completed_jobs, credits_used } = data;
    return { total_jobs, completed_jobs, credits_used };
  }

  async create_key({ client_id, ...fields }) {
    const json = { client_id, ...fields };
    const { api_key, key_fingerprint } = await this.request('POST', '/v1/admin/keys', { admin: true, json });
    return { api_key, key_fingerprint };
  }

  async list_keys() {
    return (await this.request('GET', '/v1/admin/keys', { admin: true })).items;
  }

  /** Any request at all, judged as every other. */
  async raw({ method, path, headers, body }) {
    return this.request(method, path, { headers: headers ?? {}, body: body ?? undefined });
  }
}

/** The event in a webhook; throws where its signature does not hold. */
export function parseWebhook(body, headers, secret) {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const mac = createHmac('sha256', secret).update(`${lower['x-webhook-timestamp']}.`).update(body).digest('hex');
  // Throws a RangeError where the lengths differ.
  if (!timingSafeEqual(Buffer.from(lower['x-webhook-signature']), Buffer.from(`sha256=${mac}`))) {
    throw new Error('signature does not match');
  }
  const event = JSON.parse(body);
  const { id, status, output_url } = event.data;
  return { event: event.event, id, status, output_url };
}
