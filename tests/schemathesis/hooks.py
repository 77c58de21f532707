"""What a schema cannot say: valid requests are made to agree with rules between their fields, and to name things that
exist. Invalid ones are sent as they are."""

import copy
import os

import schemathesis
from schemathesis import GenerationMode

VIDEO_URL = os.environ["ROTOLESS_VIDEO_URL"]
# A file's type is what its bytes say: the beginning of an AVI, as text, because Schemathesis takes a request into which
# a hook put bytes for an invalid one.
AVI = "RIFF0000AVI LIST0000hdrlavih" + "0" * 64
NEEDS = {"custom": "color", "color": "color", "image": "image_url", "video": "video_url"}
VALUES = {"color": "#09A246", "image_url": "https://example.com/a.png", "video_url": "https://example.com/a.mp4"}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    operation = case.operation.definition.raw.get("operationId")
    if operation == "listJobs" and "cursor" in (case.query or {}):
        # A place in a list that nobody was shown.
        case.query = {name: value for name, value in case.query.items() if name != "cursor"}
    if not isinstance(case.body, dict):
        return
    # Other cases are made from the same object.
    body = case.body = copy.deepcopy(case.body)
    if operation in ("createJob", "startJob", "estimateJob", "legacyProcess"):
        if operation != "startJob":
            body["video_url"] = VIDEO_URL
        agree(body)
    elif operation in ("createUpload", "legacyUpload"):
        if "file" in body:
            # Names of further fields may be such that they make no form.
            case.body = {"file": AVI}
        else:
            body["size"] = min(body["size"], 1000)
            body["filename"] = "clip.mp4"


def agree(order):
    """An order that keeps the rules between its fields."""
    # The one model that the tests install.
    order["model"] = "light"
    # The address is judged when it is used, but its form already here: a host, no credentials, https.
    if order.get("webhook_url") is not None:
        order["webhook_url"] = "https://example.com/hook"
    if len(str(order.get("metadata"))) > 1000:
        order["metadata"] = {"replaced": True}
    background = order.get("background")
    kind = background["type"] if background else order.get("bg_type")
    if kind == "transparent" and order.get("output_format") == "mp4":
        order["output_format"] = "webm"
    if kind in NEEDS:
        target, prefix = (background, "") if background else (order, "bg_")
        name = NEEDS[kind]
        if not target.get(prefix + name):
            target[prefix + name] = VALUES[name]
