"""Types that signatures of several wings name."""

import jax

# What `out_sharding` may be, as in `jax.random.normal`.
Sharding = jax.sharding.NamedSharding | jax.sharding.PartitionSpec | None
