"""A run's state on disk, by Orbax, each with its SHA-256 sums: read back bit for bit, or not at all.

A folder holds two checkpoints, STEP/ as Orbax writes them (the interface of orbax.checkpoint 0.11 and later; its version 1 will
change this module alone), and beside each STEP.json, written last: what it is of, its leaves, and the sums of its files.
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import notice
from mutagrad.run import sums
from mutagrad.run.described import is_description
from mutagrad.run.files import aside, check_name, check_plain, shown
from mutagrad.run.identity import by_path, changed, kind_of, versions
from mutagrad.run.quiet import silence_orbax

__all__ = ["Checkpoints", "folder_of"]

_KEPT = 2


def folder_of(folder: str | PathLike) -> Path:
    """The folder of a run, "~" being the user's own.

    Raises
    ------
    ValueError : if it is a file, cannot be read back (`check_name`), or links stand where files of a run belong.
    """
    try:
        path = Path(folder).expanduser().resolve()
    except RuntimeError:  # ~ of somebody who has none, or a link that leads to itself
        raise ValueError(f"checkpoint: got {str(folder)!r}, which leads nowhere; pass another folder") from None
    if path.exists() and not path.is_dir():
        raise ValueError(f"checkpoint: got {str(folder)!r}, which is a file; pass a folder")
    check_name(path, "checkpoint")
    check_plain(path, "checkpoint", _is_own)
    return path


def _is_own(name: str) -> bool:
    return _is_step(name.removesuffix(".json")) or name.endswith(".journal")


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : as `folder_of` gives it. identity : as `identity_of` gives it.
    """

    def __init__(self, folder: Path, identity: dict[str, str]):
        self._folder, self._identity = folder, identity
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future | None = None

    def newest(self) -> dict[str, Any] | None:
        """What STEP.json of the newest whole checkpoint says; ``None`` if there is no checkpoint.

        Raises
        ------
        ValueError : if there are some and none is whole, or they are of another run.
        """
        found: list[str] = []
        is_altered = False
        names = {path.name.removesuffix(".json") for path in self._folder.glob("*")}
        steps = sorted((int(name) for name in names if _is_step(name)), reverse=True)
        for step in steps:
            described, why = self._described(step)
            if described is not None and not why:
                self._check_identity(described)
                if found:
                    self._say(f"{'; '.join(found)}; the run goes on from generation {step}")
                return described
            found.append(why)
            is_altered |= (self._folder / f"{step}.json").exists()
        if is_altered:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, in which no checkpoint is whole ({'; '.join(found)}); restore one, or "
                "pass another folder"
            )
        if found:
            self._say(f"{'; '.join(found)}; the run starts anew")
        return None

    def sealed(self) -> list[dict[str, Any]]:
        """What STEP.json says of the checkpoints that are there."""
        found = (sums.read_signed(path) for path in self._folder.glob("*.json") if _is_step(path.stem))
        return [one for one in found if one is not None]

    def _described(self, step: int) -> tuple[dict[str, Any] | None, str]:
        """What STEP.json says, and what is wrong with the checkpoint, in words."""
        path = self._folder / f"{step}.json"
        if not path.exists():
            return None, f"checkpoint {step} was not written to its end"
        described = sums.read_signed(path)
        if described is None or described.get("generation") != step:
            return None, f"{step}.json was altered"
        if not (is_description(described) and described["identity"].keys() == self._identity.keys()):
            return None, f"{step}.json is of another version of this library"
        why = sums.damaged(self._folder / str(step), described["files"])
        return described, f"{step}/{why[0]}" if why else ""

    def restore(self, described: dict[str, Any], state: Any) -> Any:
        """The saved state, in the structure of ``state``.

        Raises
        ------
        ValueError : if it is of another model or algorithm.
        """
        wanted = by_path(state)
        kinds = {name: kind_of(leaf) for name, leaf in wanted.items()}
        if kinds != (found := described["leaves"]):
            name = next(name for name in {**kinds, **found} if kinds.get(name) != found.get(name))
            has = shown(f"{name} {found.get(name, 'missing')}")
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r} with {has} where this run has "
                f"{kinds.get(name, 'none')}; continue with the model and algorithm that it was saved with"
            )
        if others := changed(described["versions"]):
            then, now = ([shown(f"{name} {pair[one]}") for name, pair in others.items()] for one in (0, 1))
            self._say(
                f"it was written with {', '.join(then)}, and this is {', '.join(now)}: the run goes on, but need not be the one "
                "that was never stopped, bit for bit"
            )
        ocp = _orbax()
        like = {name: np.empty_like(_plain(leaf)) for name, leaf in wanted.items() if leaf.size}
        with ocp.StandardCheckpointer() as checkpointer:
            place = self._folder / str(described["generation"]) / "default"
            saved = self._restored(checkpointer, place, like) if like else {}
        leaves = [_as_it_was(saved[name], leaf) if leaf.size else leaf for name, leaf in wanted.items()]
        restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
        if int(restored.generation) != described["generation"]:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, whose {described['generation']}.json and {described['generation']}/ "
                "are of different generations; restore them"
            )
        return restored

    def _restored(self, checkpointer: Any, place: Path, like: dict[str, Any]) -> dict[str, Any]:
        try:
            saved = checkpointer.restore(place, like)
            if any(kind_of(saved[name]) != kind_of(leaf) for name, leaf in like.items()):
                raise ValueError("its arrays are of other shapes or dtypes than it says")
        except MemoryError:
            raise
        except Exception as error:  # Orbax and TensorStore fail in ways of their own on files that no run wrote
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ValueError(
                f"checkpoint: got {str(place.parent)!r}, which has its sums and cannot be read ({reason}); restore it"
            ) from None
        return saved

    def save(self, state: Any, about: dict[str, Any]) -> None:
        """Begin to save a state; it is written while the run goes on.

        Parameters
        ----------
        state : the algorithm's. about : what to write of the run in STEP.json, as JSON holds it.
        """
        self.wait()
        step = int(state.generation)
        if self._described(step)[1] == "":
            return
        leaves = by_path(state)
        # Copied: the next chunk may consume the state. Orbax saves no arrays without entries.
        content = {name: np.array(_plain(leaf)) for name, leaf in leaves.items() if leaf.size}
        described = about | {
            "generation": step,
            "identity": self._identity,
            "leaves": {name: kind_of(leaf) for name, leaf in leaves.items()},
            "versions": versions(),
        }
        if self._thread is None:
            _orbax()
            self._clear()
            self._thread = ThreadPoolExecutor(1, "mutagrad-checkpoint")
        self._writing = self._thread.submit(self._write, content, described)

    def poll(self) -> None:
        """Raise what a state that was to be saved failed of."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until what is being saved is on the disk, with its sums; raise what it failed of."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait, and end the thread that writes."""
        try:
            self.wait()
        finally:
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.shutdown()

    def _write(self, content: dict[str, np.ndarray], described: dict[str, Any]) -> None:
        """Write a checkpoint, its sums last, and remove older ones; what cannot be written whole leaves nothing."""
        place, seal = (self._folder / f"{described['generation']}{ending}" for ending in ("", ".json"))
        try:
            shutil.rmtree(place, ignore_errors=True)
            with _orbax().StandardCheckpointer() as checkpointer:
                checkpointer.save(place / "default", content)
                checkpointer.wait_until_finished()
            sums.write_signed(seal, described | {"files": sums.sums_of(place, sync=True)})
        except BaseException:
            seal.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            raise
        sealed = (path.stem for path in self._folder.glob("*.json") if _is_step(path.stem))
        whole = sorted(int(step) for step in sealed if (self._folder / step).is_dir())
        for step in whole[:-_KEPT]:
            with suppress(OSError):
                # Under another name first: a checkpoint that lacks files would be taken for a damaged one.
                (self._folder / str(step)).rename(removed := self._folder / f"removed-{step}")
                (self._folder / f"{step}.json").unlink()
                shutil.rmtree(removed)

    def _clear(self) -> None:
        """Move away what is not whole, since a step is not written twice; remove what was being removed, and sums of nothing."""
        for path in list(self._folder.glob("*")):
            if path.name.startswith("removed-"):
                shutil.rmtree(path, ignore_errors=True)
            elif _is_step(path.stem) and path.suffix == ".json" and not path.with_suffix("").exists():
                path.unlink()
            elif _is_step(path.name) and path.is_dir() and self._described(int(path.name))[1]:
                (self._folder / f"{path.name}.json").unlink(missing_ok=True)
                path.rename(aside(path, "damaged"))

    def _check_identity(self, described: dict[str, Any]) -> None:
        then, now = described["identity"], self._identity
        if then["key"] != now["key"]:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, saved by a run with another key; pass that run's key"
            )
        if then["algorithm"] != now["algorithm"]:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, saved by a run of {shown(then['algorithm'])}, and this is "
                f"{now['algorithm']}; continue with the algorithm that it was saved with, or pass another folder"
            )
        if then["sigma"] != now["sigma"]:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, saved by a run that began with σ = {float(then['sigma']):g}, and this "
                f"algorithm with {float(now['sigma']):g}; continue with the algorithm that it was saved with, or pass another "
                "folder"
            )
        # Another version of JAX, or of this library, writes another program of the same algorithm.
        is_same = not changed(described["versions"]) and then["leaves"] == now["leaves"]
        if is_same and then["program"] != now["program"]:
            raise ValueError(
                f"checkpoint: got {str(self._folder)!r}, saved by an algorithm of other numbers or functions than this one has; "
                "continue with the algorithm that it was saved with, or pass another folder"
            )

    def _say(self, what: str) -> None:
        notice.warn(f"checkpoint: got {str(self._folder)!r}: {what}")


def _orbax() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise ImportError("checkpoint: needs orbax-checkpoint; pip install 'mutagrad[lab]'") from None
    silence_orbax()
    return ocp


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    """A leaf as numbers: keys by their data."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_it_was(saved: Any, leaf: Any) -> jax.Array:
    """A leaf from its numbers, of the kind of another one and on the devices that this was put on."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
    is_placed = isinstance(leaf, jax.Array) and leaf.committed
    return jax.device_put(saved, leaf.sharding) if is_placed else jnp.asarray(saved)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal()
