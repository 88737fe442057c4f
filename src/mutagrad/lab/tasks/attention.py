"""Hard attention: a network that looks at a few places of an image and at nothing else, and what stands in for its gradient."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import linear

__all__ = ["MODES", "Attention"]

MODES = ("hard", "soft", "straight_through", "gumbel", "reinforce")
"""How places are weighed, and what their gradient is; see `Attention`."""


class _Looked(NamedTuple):
    """What came of looking: logits, the weight of every place in each glimpse, and the log-probability of what was drawn."""

    logits: jax.Array
    weights: jax.Array
    log_probability: jax.Array


class Attention(eqx.Module):
    r"""A network that reads an image by a few glimpses, each at a place that depends on what it has read before.

    Glimpse t scores all places by $c_t = A\,\mathrm{relu}(z_t) + a_t$, with $z_0 = 0$. It reads one of them,
    $z_{t+1} = z_t + W_tx_p + e_p$, where x_p are the pixels of a square at place p. After the last the logits are those of a
    linear layer on relu(z). No score depends on pixels that were not read. With $\pi = \mathrm{softmax}(c_t)$, the modes are

    - "hard": p is the place of the largest score, the first of several. The gradient with respect to A and a is zero everywhere.
    - "soft": softmax(c_t/τ) weighs x_p and e_p of all places, so that every glimpse sees the whole image, as a weighted mean.
    - "straight_through": reads as "hard", with the gradient of "soft".
    - "gumbel": reads the place of the largest c_t + g, g being Gumbel noise: a draw from π. It has the gradient of the weights
      softmax((c_t + g)/τ).
    - "reinforce": reads a draw from π. The gradient of `losses` has the score-function term (ℓ − b)∇ln π, where the baseline b
      is the mean loss of the other images of the batch.

    All have the same parameters. Without a key nothing is drawn, and the last three read as "hard".

    Parameters
    ----------
    key : a key for the initial weights.
    image_shape : (height, width) [pixel].
    glimpse : side of the square that is read [pixel].
    grid : number of places down, and as many across, spread evenly from one end of the image to the other; they may overlap.
    num_glimpses : how often the network looks.
    num_hidden : length of z.
    num_outputs : number of outputs.
    mode : one of `MODES`.
    temperature : τ > 0 [score], of the modes that have a softmax(·/τ).
    reread : whether a place may be read again. ``False`` leaves places that were read before out of the scores. In mode "soft",
        which reads all places, it changes nothing.

    Raises
    ------
    ValueError : for an argument outside its domain.

    Source: glimpses and REINFORCE, Mnih et al. 2014 (arXiv 1406.6247); straight-through, Bengio et al. 2013 (arXiv 1308.3432);
    straight-through Gumbel-softmax, Jang et al. 2017 (arXiv 1611.01144).

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.lab.tasks.attention import Attention
    >>> model = Attention(jax.random.key(0), (8, 8), glimpse=3, num_glimpses=4)
    >>> images = jax.random.normal(jax.random.key(1), (3, 8, 8))
    >>> model(images).shape, model.places(images).shape, mutagrad.tree.size(model) < 3000
    ((3, 10), (3, 4, 2), True)
    >>> bool(jnp.all(model.with_mode("soft", 1e-4)(images) == model(images)))
    True
    """

    what: jax.Array
    where: jax.Array
    look: jax.Array
    preference: jax.Array
    answer: eqx.nn.Linear
    image_shape: tuple[int, int] = eqx.field(static=True)
    glimpse: int = eqx.field(static=True)
    grid: int = eqx.field(static=True)
    mode: str = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    reread: bool = eqx.field(static=True)

    def __init__(
        self,
        key: jax.Array,
        image_shape: tuple[int, int] = (8, 8),
        glimpse: int = 3,
        grid: int = 4,
        num_glimpses: int = 4,
        num_hidden: int = 32,
        num_outputs: int = 10,
        mode: str = "hard",
        temperature: float = 1.0,
        reread: bool = True,
    ):
        if len(image_shape) != 2:
            raise ValueError(f"image_shape: got {tuple(image_shape)}; pass a height and a width")
        height, width = (check.count("image_shape", side) for side in image_shape)
        self.image_shape = (height, width)
        self.glimpse, self.grid = check.count("glimpse", glimpse), check.count("grid", grid)
        if glimpse > min(height, width):
            raise ValueError(
                f"glimpse: got {glimpse} for images of {height} × {width}; pass at most {min(height, width)}"
            )
        self.mode = check.choice("mode", mode, MODES)
        self.temperature = check.positive("temperature", temperature)
        number, hidden = check.count("num_glimpses", num_glimpses), check.count("num_hidden", num_hidden)
        self.reread = bool(reread)
        if not reread and number > grid**2:
            raise ValueError(
                f"num_glimpses: got {number} of {grid**2} places with reread=False; pass at most {grid**2}"
            )
        keys, places = jax.random.split(key, 5), grid**2
        self.what = _uniform(keys[0], (number, glimpse**2, hidden), glimpse**2)
        self.where = _uniform(keys[1], (places, hidden), places)
        self.look = _uniform(keys[2], (hidden, places), hidden)
        self.preference = _uniform(keys[3], (number, places), hidden)
        self.answer = eqx.nn.Linear(hidden, check.count("num_outputs", num_outputs), key=keys[4])

    def with_mode(self, mode: str, temperature: float | None = None) -> "Attention":
        """The network with the same parameters and another mode, and another temperature where one is given."""
        outputs, hidden = self.answer.weight.shape
        temperature = self.temperature if temperature is None else temperature
        shape = (self.image_shape, self.glimpse, self.grid, len(self.preference), hidden, outputs)
        other = Attention(jax.random.key(0), *shape, mode, temperature, self.reread)
        return jax.tree.unflatten(jax.tree.structure(other), jax.tree.leaves(self))

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Outputs (batch, num_outputs) of images (batch, height, width); with a key places are drawn, in modes that draw."""
        return self._looked(images, key).logits

    def weights(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The weight of every place in each glimpse, (batch, num_glimpses, down, across)."""
        return self._looked(images, key).weights.reshape(images.shape[0], -1, self.grid, self.grid)

    def places(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The upper left pixels of the attended places, (batch, num_glimpses, 2) rows and columns [pixel].

        In mode "soft" it is the place of the largest weight.
        """
        chosen = jnp.argmax(self._looked(images, key).weights, axis=2)
        return jnp.asarray(self._corners)[chosen]

    def losses(self, images: jax.Array, labels: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Cross-entropies (batch,) [nat] whose gradient is the one of the mode; a key as in a call."""
        looked = self._looked(images, key)
        losses = cross_entropy(looked.logits, labels)
        if self.mode != "reinforce" or key is None:
            return losses
        number = len(labels)
        advantage = (losses - jnp.mean(losses)) * (number / (number - 1)) if number > 1 else losses
        surrogate = jax.lax.stop_gradient(advantage) * looked.log_probability
        return losses + surrogate - jax.lax.stop_gradient(surrogate)

    @property
    def _corners(self) -> np.ndarray:
        """The upper left pixel of every place, (places, 2), place after place across."""
        down, across = (
            np.rint(np.linspace(0, side - self.glimpse, self.grid)).astype(int) for side in self.image_shape
        )
        return np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def _pixels(self) -> np.ndarray:
        """Which pixels of a flattened image every place has, (places, glimpse²)."""
        within = np.arange(self.glimpse)
        rows, columns = (corner[:, None] + within for corner in self._corners.T)
        return (rows[:, :, None] * self.image_shape[1] + columns[:, None, :]).reshape(len(rows), -1)

    def _looked(self, images: jax.Array, key: jax.Array | None) -> _Looked:
        if images.ndim != 3 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images: got shape {images.shape}; pass (batch, {self.image_shape[0]}, {self.image_shape[1]})"
            )
        flat = jnp.asarray(images).reshape(images.shape[0], -1)
        state = jnp.zeros((images.shape[0], len(self.look)), flat.dtype)
        seen, log_probability = [], jnp.zeros(images.shape[0], flat.dtype)
        was_read = jnp.zeros((images.shape[0], self.look.shape[1]), bool)
        for number, (what, preference) in enumerate(zip(self.what, self.preference, strict=True)):
            scores = jax.nn.relu(state) @ self.look + preference[None]
            if not self.reread and self.mode != "soft":
                scores = jnp.where(was_read, -jnp.inf, scores)
            noise = None
            if key is not None and self.mode in ("gumbel", "reinforce"):
                noise = jax.random.gumbel(jax.random.fold_in(key, number), scores.shape, scores.dtype)
            chosen = jnp.argmax(scores if noise is None else scores + noise, axis=1)
            was_read = was_read | jax.nn.one_hot(chosen, scores.shape[1], dtype=bool)
            weights = self._weights(scores, chosen, noise)
            seen.append(weights)
            if self.mode in ("hard", "reinforce"):  # the same, by looking up
                glance = jnp.take_along_axis(flat, jnp.asarray(self._pixels)[chosen], axis=1)
                state = state + glance @ what + self.where[chosen]
            else:
                glance = jnp.einsum("np,npi->ni", weights, flat[:, self._pixels])
                state = state + glance @ what + weights @ self.where
            own = jnp.take_along_axis(jax.nn.log_softmax(scores), chosen[:, None], axis=1)
            log_probability = log_probability + own[:, 0]
        return _Looked(linear(self.answer, jax.nn.relu(state)), jnp.stack(seen, axis=1), log_probability)

    def _weights(self, scores: jax.Array, chosen: jax.Array, noise: jax.Array | None) -> jax.Array:
        """Of the places in one glimpse (batch, places), as the mode has them, with its gradient."""
        one = jax.nn.one_hot(chosen, scores.shape[1], dtype=scores.dtype)
        if self.mode in ("hard", "reinforce"):
            return one
        soft = jax.nn.softmax((scores if noise is None else scores + noise) / self.temperature)
        # The difference is exactly zero: only its gradient is there.
        return soft if self.mode == "soft" else one + (soft - jax.lax.stop_gradient(soft))


def _uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """As PyTorch starts weights: uniform within ±1/√fan_in."""
    return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(fan_in)
