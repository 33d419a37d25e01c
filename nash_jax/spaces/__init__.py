"""What may be searched."""

from nash_jax.spaces.bounded import Bounded
from nash_jax.spaces.morphs import Growth, Morphs, check_sizes
from nash_jax.spaces.space import Space, Stage

__all__ = ["Bounded", "Growth", "Morphs", "Space", "Stage", "check_sizes"]
