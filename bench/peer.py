"""The loop that an able engineer would write in an afternoon, for `make bench` to compare with.

OpenCV reads, ONNX Runtime makes the matte with the same weights at the same size on as many threads, NumPy puts it into
a fourth channel, ffmpeg encodes from a pipe with the same settings. One frame after another; ffmpeg works beside it.
Prints one line of JSON. The model is loaded before the clock starts, as it is for the pipeline.
"""

import argparse
import json
import resource
import subprocess
import time

import cv2
import numpy as np
import onnxruntime

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Recurrent:
    """RVM: states go round."""

    def __init__(self, session):
        self.session = session
        self.states = [np.zeros((1, 1, 1, 1), np.float32)] * 4

    def matte(self, rgb, size):
        picture = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        feeds = {"src": (picture.astype(np.float32) / 255).transpose(2, 0, 1)[None]}
        feeds.update({f"r{n + 1}i": state for n, state in enumerate(self.states)})
        matte, *self.states = self.session.run(["pha", "r1o", "r2o", "r3o", "r4o"], feeds)
        return matte[0, 0]


class Still:
    """U2-Net: each frame by itself."""

    def __init__(self, session):
        self.session = session
        self.name = session.get_inputs()[0].name
        self.output = session.get_outputs()[0].name

    def matte(self, rgb, size):
        picture = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return self.session.run([self.output], {self.name: ((picture - MEAN) / STD).transpose(2, 0, 1)[None]})[0][0, 0]


def cpu_seconds():
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--family", choices=["recurrent", "still"], required=True)
    parser.add_argument("--picture", required=True, help="WIDTHxHEIGHT that the model is fed")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--encoder", required=True, help="ffmpeg's arguments between the inputs and the output, as JSON")
    order = parser.parse_args()
    size = tuple(map(int, order.picture.split("x")))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = order.threads
    session = onnxruntime.InferenceSession(order.weights, options, providers=["CPUExecutionProvider"])
    model = {"recurrent": Recurrent, "still": Still}[order.family](session)

    started, cpu_started = time.perf_counter(), cpu_seconds()
    video = cv2.VideoCapture(order.clip)
    width, height = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"]
    command += ["-s", f"{width}x{height}", "-r", str(video.get(cv2.CAP_PROP_FPS)), "-i", "pipe:0", "-i", order.clip]
    command += ["-map", "0:v:0", "-map", "1:a:0?", *json.loads(order.encoder), "-f", "webm", order.output]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    frames = 0
    while True:
        found, bgr = video.read()
        if not found:
            break
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        matte = cv2.resize(model.matte(rgb, size), (width, height), interpolation=cv2.INTER_CUBIC)
        alpha = (np.clip(matte, 0, 1) * 255 + 0.5).astype(np.uint8)
        encoder.stdin.write(np.dstack([rgb, alpha]).tobytes())
        frames += 1
    encoder.stdin.close()
    if encoder.wait() != 0:
        raise SystemExit("the encoder failed")
    wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu_started
    print(json.dumps({"frames": frames, "cpu_seconds": cpu, "wall_seconds": wall}))


main()
