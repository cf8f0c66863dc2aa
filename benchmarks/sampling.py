"""Times every sampler against jax.random in one process: python benchmarks/sampling.py

Runs alternate; a table gives the median and the ratio to jax.random.normal of the same size and
dtype with its 95 % interval. On a GPU it also gives the share of the memory-write limit, which is
measured by filling an array. Sizes that are not asked for keep their rows of an earlier run on the
same hardware and versions.
"""

import argparse
import statistics

import common
import jax
import jax.numpy as jnp
import numpy as np

from initjax import distributions

EMPIRICAL = distributions.Empirical.fit(np.random.default_rng(0).standard_t(5, 100_000))
LAWS = {
    "Normal": distributions.Normal(),
    "TruncatedNormal": distributions.TruncatedNormal(),
    "Uniform": distributions.Uniform(),
    "Laplace": distributions.Laplace(),
    "SymmetricPowerLaw (nspl)": distributions.SymmetricPowerLaw(),
    "SymmetricPowerLaw(1.5, 30)": distributions.SymmetricPowerLaw(1.5, 30.0),
    "StudentT": distributions.StudentT(),
    "GeneralizedNormal": distributions.GeneralizedNormal(),
    "CutoffPowerLaw": distributions.CutoffPowerLaw(),
    "Empirical": EMPIRICAL,
}


def samplers(size, dtype):
    """Name -> a call that draws `size` samples; names with a dot are JAX's own."""
    key = jax.random.key(0)
    calls = {
        "jax.random.uniform": lambda: jax.random.uniform(key, (size,), dtype),
        "jax.random.normal": lambda: jax.random.normal(key, (size,), dtype),
        "jax.random.truncated_normal": lambda: jax.random.truncated_normal(
            key, -2, 2, (size,), dtype
        ),
    }
    for name, law in LAWS.items():
        calls[name] = lambda law=law: law.sample_scaled(key, (size,), dtype, 0.1)
    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1e4,1e5,1e6,1e7,1e8", help="numbers of samples")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=21, help="timed calls of each, >= 20")
    args = parser.parse_args()
    name = f"sampling-{jax.default_backend()}-jax{jax.__version__}"
    sizes = [int(float(text)) for text in args.sizes.split(",")]
    rows = [row for row in common.earlier_rows(name) if row["samples"] not in sizes]
    for size in sizes:
        for dtype in args.dtypes.split(","):
            calls = samplers(size, dtype)
            fill = jax.jit(lambda x, size=size, dtype=dtype: jnp.full((size,), x, dtype))
            calls["fill"] = lambda fill=fill: fill(1.0)
            seconds = common.time_alternating(calls, args.repeats)
            limit = statistics.median(seconds.pop("fill"))
            for sampler, times in seconds.items():
                median = statistics.median(times)
                ratio, low, high = common.ratio_interval(times, seconds["jax.random.normal"])
                rows.append(
                    {
                        "samples": size,
                        "dtype": dtype,
                        "sampler": sampler,
                        "median_seconds": median,
                        "to_normal": ratio,
                        "interval": [low, high],
                        "repeats": args.repeats,
                        "share_of_write_limit": limit / median,
                    }
                )
            print(f"{size:.0e} {dtype} measured", flush=True)
    rows.sort(key=lambda row: row["samples"])
    common.save(name, {"rows": rows}, table(rows))


def table(rows) -> str:
    """The rows as a table; the share of the write limit only where it says something, on a GPU."""
    on_gpu = jax.default_backend() == "gpu"
    lines = ["| samples | dtype | sampler | ns a sample | / normal | 95 % |", "|---" * 6 + "|"]
    if on_gpu:
        lines = [lines[0] + " of write limit |", lines[1] + "---|"]
    for row in rows:
        low, high = row["interval"]
        line = (
            f"| {row['samples']:.0e} | {row['dtype']} | {row['sampler']}"
            f" | {row['median_seconds'] / row['samples'] * 1e9:.2f}"
            f" | {row['to_normal']:.2f} | {low:.2f}-{high:.2f} |"
        )
        lines.append(line + (f" {row['share_of_write_limit']:.0%} |" if on_gpu else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
