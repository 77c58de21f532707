"""Lets a test drive the client library: one JSON call a line on stdin, one JSON outcome a line on stdout.

An outcome is {"ok": value}, or {"raised": class, ...} with what the library's user would see of the error.
"""

import json
import sys

import rotoless_client


def call(client, name, args):
    if name == "parse_webhook":
        return rotoless_client.parse_webhook(args["body"].encode(), args["headers"], args["secret"])
    return getattr(client, name)(**args)


def outcome(client, name, args):
    try:
        return {"ok": call(client, name, args)}
    except rotoless_client.ApiError as error:
        seen = {"status": error.status_code, "code": error.code, "request_id": error.request_id}
        return {"raised": type(error).__name__, "message": error.message, **seen}
    except rotoless_client.ProcessingError as error:
        return {"raised": type(error).__name__, "message": error.message, "job": error.job}
    except Exception as error:  # whatever the library did not foresee
        return {"raised": type(error).__name__, "message": str(error)}


def main():
    client = rotoless_client.Client(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(outcome(client, request["call"], request["args"])), flush=True)


main()
