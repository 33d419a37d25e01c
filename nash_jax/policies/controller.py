"""A recurrent controller that writes genotypes, number by number (ENAS; Pham et al., ICML 2018).

An LSTM reads the number that it wrote last and gives logits for the next place, of which those of
choices that the place has not are left out. It learns by REINFORCE with a moving average of the
rewards as baseline, and is paid for the entropy of what it may write.

ENAS points at earlier nodes of a cell by attention, and has biases for some ops. Here each place
has an output layer of its own, so that any space of small whole numbers can be written.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nash_jax.architecture import EdgeWeights
from nash_jax.policies.policy import Judge, generator, seed_of


@dataclasses.dataclass(frozen=True)
class Controller:
    """The sizes of a controller; its parameters are a pytree.

    Attributes:
      sizes: how many choices each place of a genotype has.
      hidden: units of the LSTM, and of the embeddings.
      tanh: logits are this times a tanh, so that none becomes certain; 0: as they are.
      temperature: what logits are divided by before.
    """

    sizes: tuple[int, ...]
    hidden: int = 64
    tanh: float = 1.1
    temperature: float = 2.5

    @property
    def masks(self) -> np.ndarray:
        """Which choices each place has, `[places, most choices]`."""
        return np.arange(max(self.sizes)) < np.array(self.sizes)[:, None]

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Parameters, uniform between -0.1 and 0.1."""
        places, most = self.masks.shape
        shapes = {
            "embedding": (places, most + 1, self.hidden),  # the last: nothing was written
            "lstm": (2 * self.hidden, 4 * self.hidden),
            "output": (places, self.hidden, most),
        }
        keys = jax.random.split(key, len(shapes))
        return {
            name: jax.random.uniform(k, shape, minval=-0.1, maxval=0.1)
            for k, (name, shape) in zip(keys, shapes.items())
        }

    def _run(
        self, params: Any, choose: Callable[[jax.Array, Any], jax.Array], extra: Any
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Numbers, log probability and entropy, where `choose(logits, extra)` chooses a number."""
        places, most = self.masks.shape

        def step(carry: Any, of_place: Any) -> tuple[Any, Any]:
            cell, state, last = carry
            embedding, output, mask, more = of_place
            gates = jnp.concatenate([embedding[last], state]) @ params["lstm"]
            into, forget, out, new = jnp.split(gates, 4)
            cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(into) * jnp.tanh(new)
            state = jax.nn.sigmoid(out) * jnp.tanh(cell)
            logits = state @ output / self.temperature
            if self.tanh:
                logits = self.tanh * jnp.tanh(logits)
            logits = jnp.where(mask, logits, -jnp.inf)
            chosen = choose(logits, more)
            logs = jnp.where(mask, jax.nn.log_softmax(logits), 0.0)
            entropy = -(jnp.where(mask, jnp.exp(logs), 0.0) * logs).sum()
            return (cell, state, chosen), (chosen, logs[chosen], entropy)

        zeros = jnp.zeros(self.hidden)
        of_places = params["embedding"], params["output"], jnp.asarray(self.masks), extra
        _, (numbers, logs, entropies) = jax.lax.scan(
            step, (zeros, zeros, jnp.int32(most)), of_places, length=places
        )
        return numbers, logs.sum(), entropies.sum()

    def sample(self, params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """A genotype `[places]`, the logarithm of its probability, and the entropy on its way.

        The expectation of the latter over genotypes is the entropy of their distribution.
        """

        def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
            return jax.random.categorical(key, logits).astype(jnp.int32)

        return self._run(params, choose, jax.random.split(key, len(self.sizes)))

    def log_prob(self, params: Any, numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The logarithm of a genotype's probability, and the entropy on its way."""

        def choose(logits: jax.Array, number: jax.Array) -> jax.Array:
            del logits
            return number

        _, log, entropy = self._run(params, choose, jnp.asarray(numbers, jnp.int32))
        return log, entropy


def loss(
    controller: Controller,
    params: Any,
    genotypes: jax.Array,
    advantages: jax.Array,
    entropy_weight: float,
) -> jax.Array:
    """What descends to more reward (Williams 1992): its gradient is minus the policy gradient.

    Args:
      controller: what wrote.
      params: its parameters.
      genotypes: that it wrote, `[genotypes, places]`.
      advantages: their rewards minus a baseline, `[genotypes]`.
      entropy_weight: what a nat of entropy is worth.
    """
    logs, entropies = jax.vmap(controller.log_prob, (None, 0))(params, genotypes)
    return -(advantages * logs + entropy_weight * entropies).mean()


@functools.partial(jax.jit, static_argnums=0)
def _samples(controller: Controller, params: Any, keys: jax.Array) -> jax.Array:
    return jax.vmap(controller.sample, (None, 0))(params, keys)[0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(
    controller: Controller,
    settings: ControllerSettings,
    params: Any,
    adam: Any,
    genotypes: jax.Array,
    advantages: jax.Array,
) -> tuple[Any, Any]:
    gradient = jax.grad(loss, argnums=1)(
        controller, params, genotypes, advantages, settings.entropy_weight
    )
    steps, adam = optax.adam(settings.lr).update(gradient, adam, params)
    return optax.apply_updates(params, steps), adam


@dataclasses.dataclass(frozen=True)
class ControllerSettings:
    """How a controller learns; the defaults are those of Yang, Esperança and Carlucci 2020.

    Attributes:
      lr: learning rate of Adam.
      entropy_weight: what a nat of entropy is worth.
      decay: of the moving average of rewards.
      steps: updates of the controller after each epoch.
      samples: genotypes for each, judged on a batch of their own.
      share: see `Policy`.
    """

    lr: float = 3.5e-4
    entropy_weight: float = 0.1
    decay: float = 0.99
    steps: int = 30
    samples: int = 10
    share: float = 0.1


@dataclasses.dataclass(frozen=True)
class Written:
    """The policy of ENAS: a controller writes the path of each update, and learns after an epoch.

    Attributes:
      controller: its sizes.
      settings: how it learns.
      one_hot: the path of a genotype.
    """

    controller: Controller
    settings: ControllerSettings
    one_hot: Callable[[tuple[int, ...]], EdgeWeights]

    @property
    def share(self) -> float:
        return self.settings.share

    def start(self, key: jax.Array) -> Any:
        params_key, seed_key = jax.random.split(key)
        params = self.controller.init(params_key)
        state = {"params": params, "adam": optax.adam(self.settings.lr).init(params)}
        numbers = {
            "seed": seed_of(seed_key),
            "baseline": np.zeros(()),
            "judged": np.zeros((), np.int64),
        }
        return {**jax.tree.map(np.asarray, state), **numbers}

    def genotypes(self, state: Any, number: int, num: int) -> list[tuple[int, ...]]:
        """Genotypes that it writes, the same for the same state and number."""
        seed = generator(state["seed"], number).integers(2**32, size=2, dtype=np.uint32)
        keys = jax.random.split(jax.random.wrap_key_data(jnp.asarray(seed)), num)
        found = _samples(self.controller, state["params"], keys)
        return [tuple(map(int, genotype)) for genotype in np.asarray(found)]

    def draw(self, state: Any, number: int) -> EdgeWeights:
        return self.one_hot(self.genotypes(state, number, 1)[0])

    def after_update(
        self, state: Any, number: int, path: EdgeWeights, judge: Judge, progress: float
    ) -> Any:
        return state

    def after_epoch(self, state: Any, epoch: int, judge: Judge) -> Any:
        params, adam, baseline = state["params"], state["adam"], float(state["baseline"])
        judged = int(state["judged"])
        for _ in range(self.settings.steps):
            judged += 1
            now = {**state, "params": params}
            genotypes = self.genotypes(now, -judged % 2**32, self.settings.samples)
            rewards = np.array([judge(self.one_hot(each)).accuracy for each in genotypes])
            if judged == 1:
                baseline = float(rewards.mean())
            advantages = (rewards - baseline).astype(np.float32)
            numbers = np.array(genotypes, np.int32)
            params, adam = _step(self.controller, self.settings, params, adam, numbers, advantages)
            baseline = self.settings.decay * baseline + (1 - self.settings.decay) * rewards.mean()
        learnt = jax.tree.map(np.asarray, {"params": params, "adam": adam})
        return {**state, **learnt, "baseline": np.asarray(baseline), "judged": np.asarray(judged)}

    def favoured(self, state: Any) -> EdgeWeights:
        """How often each choice is in 32 genotypes that it writes."""
        paths = [self.one_hot(each) for each in self.genotypes(state, 2**32 - 1, 32)]
        return {edge: np.mean([path[edge] for path in paths], axis=0) for edge in paths[0]}
