"""Reads the picture formats with Pillow and Python's own zipfile: readers that share no code with the engine's tools.

Prints one JSON object a file: its frames' size, times and mode, and what stands in two places of each frame.
"""

import io
import json
import sys
import zipfile

from PIL import Image, ImageSequence


def frames(path):
    """Every frame as RGBA, with its time in ms when the format tells."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise SystemExit(f"{path}: a checksum is wrong")
            manifest = json.loads(archive.read("manifest.json"))
            names = sorted(name for name in archive.namelist() if name.endswith(".png"))
            for name in names:
                picture = Image.open(io.BytesIO(archive.read(name)))
                picture.load()
                yield picture.mode, picture.convert("RGBA"), 1000 / manifest["fps"]
        return
    with Image.open(path) as picture:
        for frame in ImageSequence.Iterator(picture):
            yield frame.mode, frame.convert("RGBA"), frame.info.get("duration")


def busy(picture):
    """How much neighbours in the right half differ, whatever their alpha: there is no subject."""
    width, height = picture.size
    right = picture.convert("RGB").crop((width // 2, 0, width, height)).convert("L")
    row, total, count = right.width, 0, 0
    values = list(right.tobytes())
    for at in range(len(values) - 1):
        if (at + 1) % row:
            total += abs(values[at] - values[at + 1])
            count += 1
    return total / count


def main():
    for path in sys.argv[1:]:
        found = {"frames": 0, "ms": [], "sizes": set(), "subject": [], "ground": [], "busy": 0.0}
        for _mode, picture, ms in frames(path):
            width, height = picture.size
            found["frames"] += 1
            found["ms"].append(ms)
            found["sizes"].add((width, height))
            found["subject"].append(picture.getpixel((width // 4, height // 2)))
            found["ground"].append(picture.getpixel((width * 7 // 8, height // 2)))
            # A GIF has no colour under its transparency, only the number of one.
            found["busy"] = max(found["busy"], 0.0 if path.endswith(".gif") else busy(picture))
        found["sizes"] = sorted(found["sizes"])
        print(json.dumps(found))


main()
