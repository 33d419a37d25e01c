"""How a network grows: edits that change an architecture and keep its function."""

from nash_jax.morphisms.branches import Blend, Branch, SkipAdd, SkipConcat
from nash_jax.morphisms.change import Change
from nash_jax.morphisms.convolutions import Bottleneck, GrowKernel
from nash_jax.morphisms.deepen import Deepen, DeepenDense, Duplicate, Insert, InsertSeparable
from nash_jax.morphisms.edits import (
    EDITS,
    Edit,
    calibrate,
    edit_from_dict,
    edit_to_dict,
    register,
)
from nash_jax.morphisms.functions import deepen, skip_add, skip_concat, widen
from nash_jax.morphisms.inheritance import inherit_by_name
from nash_jax.morphisms.primitives import (
    batch_norm_identity,
    blend,
    copy_out,
    fold_line,
    grow_kernel,
    identity_kernel,
    rearrange,
    rebase_batch_norm,
    split_in,
    widen_in,
    widen_out,
    window_kernel,
)
from nash_jax.morphisms.sampling import (
    KERNEL_SIZES,
    WIDENING_FACTORS,
    apply_random,
    rising_bounds,
    sample,
    sample_edits,
)
from nash_jax.morphisms.sequence import Sequence, distance
from nash_jax.morphisms.simplify import (
    FoldBatchNorm,
    Remove,
    RemoveBranch,
    RemoveInput,
    RemoveUnits,
    fold_batch_norm,
    simplify,
)
from nash_jax.morphisms.training_state import transfer_state
from nash_jax.morphisms.widen import Widen, WidenByCopies

__all__ = [
    "Blend",
    "Bottleneck",
    "Branch",
    "Change",
    "Deepen",
    "DeepenDense",
    "Duplicate",
    "EDITS",
    "Edit",
    "FoldBatchNorm",
    "GrowKernel",
    "Insert",
    "InsertSeparable",
    "KERNEL_SIZES",
    "Remove",
    "RemoveBranch",
    "RemoveInput",
    "RemoveUnits",
    "Sequence",
    "SkipAdd",
    "SkipConcat",
    "WIDENING_FACTORS",
    "Widen",
    "WidenByCopies",
    "apply_random",
    "batch_norm_identity",
    "blend",
    "calibrate",
    "copy_out",
    "deepen",
    "distance",
    "edit_from_dict",
    "edit_to_dict",
    "fold_batch_norm",
    "fold_line",
    "grow_kernel",
    "identity_kernel",
    "inherit_by_name",
    "rearrange",
    "rebase_batch_norm",
    "register",
    "rising_bounds",
    "sample",
    "sample_edits",
    "simplify",
    "skip_add",
    "skip_concat",
    "split_in",
    "transfer_state",
    "widen",
    "widen_in",
    "widen_out",
    "window_kernel",
]
