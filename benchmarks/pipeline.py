"""Times streamed batches against a plain loop: python benchmarks/pipeline.py --data_dir=DIR

Both read the images of one random order from the array_record shards of a tensorflow-datasets set
and decode random-resized crops of them, as in the recipe for ImageNet. The plain loop does it one
by one in this process; the pipeline is that of `launch.py --stream`, with a worker a core. They
take turns, after batches that are not counted: the time in which workers begin, and what they have
read while it was not their turn, are none of the figures.
"""

import argparse
import importlib.metadata
import itertools
import os
import statistics
import time

import common
import jax
import numpy as np

from initjax import data
from initjax.data.rows import TrainingRows
from initjax.data.stream import count_workers, read_batches

_UNCOUNTED = 4  # batches a worker


def plain_batches(records, rows):
    """The batches of `rows`, by a loop over images."""
    for i in itertools.count():
        indices, crops = rows[i]
        examples = [next(records.read([j], [c])) for j, c in zip(indices, crops, strict=True)]
        images, labels = zip(*examples, strict=True)
        yield np.stack(images), np.array(labels, np.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", help="folder of prepared sets; default: that of TFDS")
    parser.add_argument("--dataset", default="tiny_imagenet")
    parser.add_argument("--image_size", type=int, help="default: that of the set")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=24, help="a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    args = parser.parse_args()
    records = data.load(args.dataset, args.data_dir, args.image_size, stream=True).train
    rows = TrainingRows(
        key=tuple(jax.random.key_data(jax.random.key(0)).tolist()),
        kind="threefry2x32",
        number=len(records),
        batch_size=args.batch_size,
        part=slice(args.batch_size),
        first=0,
        last=2**20,
        random_crops=True,
    )
    sources = {
        "plain loop": (plain_batches(records, rows), 1),
        "pipeline": (read_batches(records, rows), _UNCOUNTED * count_workers()),
    }
    seconds = {name: [] for name in sources}
    for _ in range(args.repeats):
        for name, (batches, uncounted) in sources.items():
            for _ in itertools.islice(batches, uncounted):
                pass
            start = time.perf_counter()
            for _ in itertools.islice(batches, args.batches):
                pass
            seconds[name].append(time.perf_counter() - start)
    sources["pipeline"][0].close()
    ratio, low, high = common.ratio_interval(seconds["plain loop"], seconds["pipeline"])
    images = args.batches * args.batch_size
    result = {
        "dataset": args.dataset,
        "image_shape": records.shape,
        "batch_size": args.batch_size,
        "workers": count_workers(),
        "turns": args.repeats,
        "images_a_turn": images,
        "grain": importlib.metadata.version("grain"),
        "load": os.getloadavg()[0],
        "images_per_second": {
            name: images / statistics.median(times) for name, times in seconds.items()
        },
        "seconds": seconds,
        "times_as_fast": ratio,
        "interval": [low, high],
    }
    common.save("pipeline", result, table(result))


def table(result) -> str:
    """The images a second of both, and the ratio with its 95 % interval."""
    shape = "x".join(map(str, result["image_shape"]))
    lines = [
        f"{result['dataset']}, random-resized crops of {shape}: {result['turns']} turns of"
        f" {result['images_a_turn']} images in batches of {result['batch_size']}, with Grain"
        f" {result['grain']}; the machine's load was {result['load']:.0f}.",
        "",
        "| | images/s |",
        "|---|---|",
    ]
    for name, speed in result["images_per_second"].items():
        workers = f", {result['workers']} workers" if name == "pipeline" else ""
        lines.append(f"| {name}{workers} | {speed:,.0f} |")
    low, high = result["interval"]
    lines += ["", f"{result['times_as_fast']:.2f} times as fast ({low:.2f} to {high:.2f})."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
