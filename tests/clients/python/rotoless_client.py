"""A client library as the ones in use behave: it knows the contract by its answers alone.

Deliberately plain where they are plain: no Content-Type on the file part, no Idempotency-Key, no retries, a
JSON parse of every answer, `data.get("error", {}).get("message")` from 400 on.
"""

import hashlib
import hmac
import json
import os
import time

import requests


class ApiError(Exception):
    def __init__(self, message, status_code, code=None, request_id=None):
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.request_id = request_id


class InvalidRequestError(ApiError):
    pass


class AuthenticationError(ApiError):
    pass


class InsufficientCreditsError(ApiError):
    pass


class NotFoundError(ApiError):
    pass


class RateLimitError(ApiError):
    pass


class ProcessingError(Exception):
    """The job ended without an output."""

    def __init__(self, message, job):
        super().__init__(message)
        self.message = message
        self.job = job


ERRORS = {
    "invalid_request": InvalidRequestError,
    "job_not_completed": InvalidRequestError,
    "missing_api_key": AuthenticationError,
    "invalid_api_key": AuthenticationError,
    "invalid_admin_token": AuthenticationError,
    "insufficient_credits": InsufficientCreditsError,
    "not_found": NotFoundError,
    "rate_limited": RateLimitError,
}


class Client:
    def __init__(self, api_key, base_url, timeout=30, admin_token=None):
        self.api_key = api_key
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.admin_token = admin_token
        self.session = requests.Session()
        # The environment's proxies are not for a service on this machine.
        self.session.trust_env = False

    def _request(self, method, path, admin=False, **kwargs):
        headers = {"X-Admin-Token": self.admin_token} if admin else {"X-Api-Key": self.api_key}
        headers.update(kwargs.pop("headers", {}))
        response = self.session.request(
            method, self.base_url + path, headers=headers, timeout=self.timeout, **kwargs
        )
        data = response.json()
        if response.status_code >= 400:
            error = data.get("error", {})
            message = error.get("message") or f"HTTP {response.status_code}"
            error_class = ERRORS.get(error.get("code"), ApiError)
            raise error_class(message, response.status_code, error.get("code"), error.get("request_id"))
        return data

    def upload(self, path, name=None, content_type=None):
        """Sends a file; returns the URL to create a job with."""
        with open(path, "rb") as fh:
            name = name or os.path.basename(path)
            part = (name, fh) if content_type is None else (name, fh, content_type)
            return self._request("POST", "/v1/uploads", files={"file": part})["video_url"]

    def create_job(
        self, video_url, model="original", bg_type="green", output_format="webm", auto_start=True, **options
    ):
        known = ("bg_color", "bg_image_url", "background", "text_prompt", "webhook_url", "metadata", "composition")
        body = {
            "video_url": video_url,
            "model": model,
            "bg_type": bg_type,
            "output_format": output_format,
            "auto_start": auto_start,
        }
        body.update({name: options[name] for name in known if options.get(name) is not None})
        data = self._request("POST", "/v1/jobs", json=body)
        return data["id"], data

    def start_job(self, job_id, **overrides):
        data = self._request("POST", f"/v1/jobs/{job_id}/start", json=overrides)
        return data["id"], data

    def get_job(self, job_id):
        return self._request("GET", f"/v1/jobs/{job_id}")

    def list_jobs(self, **params):
        return self._request("GET", "/v1/jobs", params=params)

    def wait_for_completion(self, job_id, poll_interval=0.1, deadline=240):
        ends = time.monotonic() + deadline
        while time.monotonic() < ends:
            job = self.get_job(job_id)
            if job["status"] == "completed":
                return job
            if job["status"] == "failed":
                raise ProcessingError(job["error"], job)
            time.sleep(poll_interval)
        raise TimeoutError(f"job {job_id} did not end within {deadline} s")

    def usage_summary(self, **params):
        data = self._request("GET", "/v1/usage/summary", params=params)
        return {name: data[name] for name in ("total_jobs", "completed_jobs", "credits_used")}

    def create_key(self, client_id, **fields):
        data = self._request("POST", "/v1/admin/keys", admin=True, json={"client_id": client_id, **fields})
        return {name: data[name] for name in ("api_key", "key_fingerprint")}

    def list_keys(self):
        return self._request("GET", "/v1/admin/keys", admin=True)["items"]

    def raw(self, method, path, headers=None, body=None):
        """Any request at all, judged as every other."""
        return self._request(method, path, headers=headers or {}, data=body)


def parse_webhook(body, headers, secret):
    """The event in a webhook; ValueError where its signature does not hold."""
    headers = {name.lower(): value for name, value in headers.items()}
    expected = hmac.new(
        secret.encode(), headers["x-webhook-timestamp"].encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    given = headers["x-webhook-signature"]
    if not given.startswith("sha256=") or not hmac.compare_digest(given[len("sha256="):], expected):
        raise ValueError("signature does not match")
    event = json.loads(body)
    data = event["data"]
    return {"event": event["event"], "id": data["id"], "status": data["status"], "output_url": data["output_url"]}
