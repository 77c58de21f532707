#!/usr/bin/env python3
"""A real clip through the whole service, as a client of it would do it.

Starts `rotoless up` on a fresh data directory, uploads the sample clip by presigned PUT, creates a job, waits for it,
downloads the result, shows the credits before, held and after, and writes a preview picture (input, matte, composite
on a checkerboard). Needs nothing but Python's own library and ffmpeg. The last line is `result: PATH`.
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "portrait.mp4"
OUT = ROOT / "demo" / "result"
PREVIEW_SECOND = 1.4


class Service:
    """`rotoless up` in a child process, drained at the end."""

    def __init__(self, rotoless, data_dir):
        command = [rotoless, "up", "--data-dir", str(data_dir), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = {}
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["url"]:
                said["url"] = words[1]
            if words[:2] == ["api", "key"]:
                said["key"] = words[2]
            if line.startswith("Try it"):
                break
        if len(said) != 2:
            raise SystemExit(f"rotoless up did not start (exit code {self.process.wait()})")
        self.url, self.key = said["url"], said["key"]
        # What else it says must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("X-Api-Key", self.key)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def credits(service, moment):
    balance = service.call("GET", "/v1/credits")
    print(f"credits {moment:<7} available {balance['available']:g}, held {balance['held']:g}, used {balance['used']:g}")


def upload(service, clip):
    size = clip.stat().st_size
    form = {"filename": clip.name, "content_type": "video/mp4", "size": size}
    presigned = service.call("POST", "/v1/uploads", form)
    with clip.open("rb") as body:
        request = urllib.request.Request(presigned["upload_url"], body, presigned["headers"], method="PUT")
        if not request.has_header("Content-length"):
            request.add_header("Content-Length", str(size))
        urllib.request.urlopen(request, timeout=60).close()
    print(f"uploaded {clip.name}, {size:,} bytes")
    return presigned["video_url"]


def wait(service, job_id):
    """Polls as clients do: until `completed` or `failed`."""
    shown = None
    while True:
        job = service.call("GET", f"/v1/jobs/{job_id}")
        now = (job["status"], job["stage"], job["progress"] // 10)
        if now != shown:
            print(f"job {job['status']:<10} {job['stage'] or '':<9} {job['progress']:>3} %")
            shown = now
        if job["status"] == "completed":
            return job
        if job["status"] == "failed":
            raise SystemExit(f"the job failed: {job['error']} ({job['error_code']})")
        time.sleep(0.5)


def preview(clip, result, job):
    """Input, matte and composite side by side, at one moment of the clip."""
    width, height = job["output"]["width"], job["output"]["height"]
    checker = "geq=lum='if(mod(floor(X/16)+floor(Y/16),2),170,230)':cb=128:cr=128"
    graph = (
        f"[0:v]setpts=PTS-STARTPTS,scale={width}:{height},format=rgb24[input];"
        "[1:v]setpts=PTS-STARTPTS,format=rgba,split[a][b];"
        "[a]alphaextract,format=rgb24[matte];"
        f"color=s={width}x{height}:d=1,{checker},format=rgb24[checker];"
        "[checker][b]overlay=format=rgb,format=rgb24[composite];"
        "[input][matte][composite]hstack=3"
    )
    picture = OUT / "preview.png"
    seek = ["-ss", str(PREVIEW_SECOND)]
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *seek, "-i", str(clip)]
    command += [*seek, "-c:v", "libvpx-vp9", "-i", str(result), "-filter_complex", graph]
    command += ["-frames:v", "1", "-update", "1", str(picture)]
    subprocess.run(command, check=True)
    return picture


def run(service):
    credits(service, "before")
    order = {"video_url": upload(service, CLIP), "model": "human", "bg_type": "transparent", "output_format": "webm"}
    job = service.call("POST", "/v1/jobs", order)
    credits(service, "held")
    job = wait(service, job["id"])
    credits(service, "after")
    result = OUT / "portrait.webm"
    with urllib.request.urlopen(job["output_url"], timeout=60) as source, result.open("wb") as target:
        shutil.copyfileobj(source, target)
    output = job["output"]
    sound = "sound" if output["has_audio"] else "no sound"
    print(
        f"{output['frames']} frames, {output['width']}x{output['height']}, {job['duration_seconds']:g} s, alpha, {sound}; "
        f"charged {job['credits_charged']:g} credits for {job['billed_seconds']} s"
    )
    print(f"preview: {preview(CLIP, result, job)}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rotoless", required=True, help="the program")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rotoless-demo-") as data_dir:
        service = Service(arguments.rotoless, data_dir)
        try:
            result = run(service)
        finally:
            service.stop()
    print(f"took {time.monotonic() - started:.0f} s")
    print(f"result: {result}")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
