"""Routers as files that cannot run anything when opened.

A router is written with skops: a zip of arrays and a plain description of types, beside it `<file>.sha256`. Opening one checks
the hash, then the types named in it, against the explicit list below, before one object is made. Pickle and joblib files are
never opened: opening one runs whatever its writer wished (scikit-learn, "Model persistence").
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from skops import io as skops

from pipelines.errors import StopTheLine
from pipelines.learn import features, routers

# What a file may be made of, beside the types of scikit-learn and NumPy that skops itself holds for safe.
_ROUTERS = (
    routers.ArmMeanRouter, routers.BoostingRouter, routers.CombinedRouter, routers.CostModel, routers.ForestRouter, routers.KNNRouter,
    routers.LengthRouter, routers.LogisticRouter, routers.RandomRouter, routers.RidgeRouter, routers.TaskMeanRouter,
)
TRUSTED = [
    *(f"{kind.__module__}.{kind.__name__}" for kind in (features.PromptFeatures, features.UniversalSentenceEncoder, *_ROUTERS)),
    # As files name them that were written when all routers were one module.
    *(f"{routers.__name__}.{kind.__name__}" for kind in _ROUTERS),
    "scipy.sparse._csr.csr_matrix",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]


def save(router: routers.Router, path: Path) -> str:
    """Writes the router and its hash beside it; returns the hash. Each file appears whole or not at all.

    Raises StopTheLine where the router holds what `load` would refuse (a user's embedder, say, unless its type is trusted there).
    """
    packed = skops.dumps(router)
    digest = hashlib.sha256(packed).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((path, packed), (_hash_of(path), f"{digest}  {path.name}\n".encode())):
        part = target.with_name(target.name + ".part")
        part.write_bytes(content)
        os.replace(part, target)
    return digest


def load(path: Path, trusted: Sequence[str] = ()) -> routers.Router:
    """The router of a file written by `save`. `trusted`: full names of further types, such as a user's own embedder.

    Raises StopTheLine, with nothing of the file executed, where it is no such file, was changed since, or names a type not trusted.
    """
    try:
        packed, promised = path.read_bytes(), _hash_of(path).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError) as missing:
        raise StopTheLine(f"No router to be read at {path} with its hash {_hash_of(path).name} beside it: train and save it again.") from missing
    if hashlib.sha256(packed).hexdigest() != promised:
        raise StopTheLine(f"{path} is not the file whose hash stands in {_hash_of(path).name}: it was changed or cut. Train and save it again.")
    # A file made to do harm can make skops raise anything.
    try:
        foreign = set(skops.get_untrusted_types(data=packed)) - set(TRUSTED) - set(trusted)
    except Exception as broken:
        raise StopTheLine(f"{path} is no skops file. Pickle and joblib files are never opened. Save the router with pipelines.learn.model_file.") from broken
    if foreign:
        raise StopTheLine(f"{path} asks for types that are not trusted: {', '.join(sorted(foreign))}. Only if you wrote it: load(path, trusted=[...]).")
    try:
        found = skops.loads(packed, trusted=[*TRUSTED, *trusted])
    except Exception as broken:
        raise StopTheLine(f"{path} holds parts that no router is made of ({type(broken).__name__}). Train and save it again.") from broken
    if not isinstance(found, routers.Router):
        raise StopTheLine(f"{path} holds no router, but something of type {type(found).__name__}. Save the router with pipelines.learn.model_file.")
    return found


def _hash_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
