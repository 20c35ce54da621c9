"""Where the loaders of a run come from, and what counts as one loader or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainkit.data.combined import CombinedLoader, holds_loader, is_loader, is_nest, loaders_in
from trainkit.data.module import DataModule
from trainkit.errors import DataError, nearest_name
from trainkit.module import TrainModule
from trainkit.reflection import overrides

LoaderName = Literal["train", "val", "test", "predict"]

_METHODS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
_ENTRY_POINT = {"train": "fit", "val": "validate", "test": "test", "predict": "predict"}


class LoaderSource:
    """Gives the loaders of a run: those that were passed, else the data module's, else the module's own.

    Args:
        module: May have methods ``train_dataloader``, ``val_dataloader``, ``test_dataloader``, ``predict_dataloader``.
        given: What was passed to the Trainer. A `DataModule` among them is taken as one.
        datamodule: The data module, if one was passed.

    Attributes:
        datamodule: The data module, or None.

    Raises:
        DataError: If both loaders and a data module were passed, or the data module is none.
    """

    def __init__(
        self, module: TrainModule, given: Mapping[LoaderName, Any], datamodule: DataModule | None = None
    ) -> None:
        self._module = module
        self._given = {name: loaders for name, loaders in given.items() if loaders is not None}
        # trainer.fit(module, datamodule): in the place of the training loader, as Lightning allows.
        for name, loaders in list(self._given.items()):
            if isinstance(loaders, DataModule) and datamodule is None:
                datamodule = self._given.pop(name)
        if datamodule is not None:
            _check_datamodule(datamodule, [_argument(name, given) for name in self._given])
        self.datamodule = datamodule

    def has(self, name: LoaderName) -> bool:
        """Return whether there is a source for these loaders; whether it gives any is not known yet."""
        return name in self._given or self._method(name) is not None

    def train(self) -> Any:
        """Return the training loader: an iterable of batches or a `CombinedLoader`. Asks anew at every call.

        Raises:
            DataError: If there is none, or what there is cannot be used.
        """
        loaders = self._ask("train")
        if loaders is None:
            raise self._lacks("train")
        return as_one(loaders, "train_dataloader")

    def evaluation(self, name: LoaderName) -> list[Any]:
        """Return the loaders to validate, test or predict with, one after the other. Asks anew at every call.

        Validation within a fit may have none: an empty list.

        Raises:
            DataError: If what there is cannot be used.
        """
        loaders = self._ask(name)
        return [] if loaders is None else as_several(loaders, f"{name}_dataloader")

    def demand(self, name: LoaderName) -> None:
        """Raise `DataError`, saying what can be done, if there is no source for these loaders."""
        if not self.has(name):
            raise self._lacks(name)

    def _ask(self, name: LoaderName) -> Any:
        # What was passed wins over what a method gives: it was said for this call.
        if name in self._given:
            return self._given[name]
        method = self._method(name)
        return None if method is None else method()

    def _method(self, name: LoaderName) -> Callable[[], Any] | None:
        method = f"{name}_dataloader"
        if self.datamodule is not None and overrides(self.datamodule, method, DataModule):
            found: Callable[[], Any] = getattr(self.datamodule, method)
            return found
        # TrainModule defines none of these, so whatever is there is the user's.
        own = getattr(self._module, method, None)
        return own if callable(own) else None

    def _lacks(self, name: LoaderName) -> DataError:
        method, entry_point = f"{name}_dataloader", _ENTRY_POINT[name]
        owners = [owner for owner in (self.datamodule, self._module) if owner is not None]
        message = (
            f"there is no data to {entry_point} with.\n"
            f"    to do        trainer.{entry_point}(module, loader), trainer.{entry_point}(module, datamodule=...), "
            f"or a method {method}(self) in {' or '.join(type(owner).__name__ for owner in owners)}"
        )
        for owner in owners:
            own = [attribute for attribute in vars(type(owner)) if attribute not in _METHODS]
            misspelt = nearest_name(method, own, cutoff=0.85)
            if misspelt is not None:
                message += f"\n    did you mean {method!r}, where {type(owner).__name__} has {misspelt!r}?"
        return DataError(message)


def as_one(given: Any, name: str) -> Any:
    """Return what was passed for training as one loader; several are cycled until the longest ends."""
    return CombinedLoader(given, "max_size_cycle") if _is_several(given, name) else _checked(given, name)


def as_several(given: Any, name: str) -> list[Any]:
    """Return what was passed for evaluation as a list of loaders, to be taken one after the other."""
    if isinstance(given, CombinedLoader) and given.mode == "sequential":
        return [_checked(loader, name) for loader in given.flattened]
    return list(loaders_in(given)) if _is_several(given, name) else [_checked(given, name)]


def _is_several(given: Any, name: str) -> bool:
    """Whether a list, tuple or dict holds loaders; otherwise it is an iterable of batches.

    Raises:
        DataError: If some of what it holds are loaders, and some not.
    """
    if not is_nest(given):
        return False
    strangers = [each for each in loaders_in(given) if not (is_loader(each) or _gives_batches(each))]
    # A list of tensors is a list of batches, and a list of DataLoaders several loaders: what is in it decides. A dict
    # cannot be a series of batches, so there lists of batches will do.
    if not holds_loader(given) and (strangers or not isinstance(given, dict)):
        return False
    if strangers:
        raise DataError(
            f"{name} mixes loaders with a {type(strangers[0]).__name__}.\n"
            "    allowed      loaders only (iterables such as a DataLoader, lists of batches), or batches\n"
            "    to do        make a DataLoader of the data, or name the loaders in a CombinedLoader"
        )
    return True


def _gives_batches(given: Any) -> bool:
    """Whether ``given`` can be iterated over by index, and is neither a value nor a data set of samples."""
    if isinstance(given, list | tuple):
        # A number or a text is a value of a column, and no batch.
        return bool(given) and not isinstance(given[0], str | bytes | Number)
    is_indexed = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    is_value = isinstance(given, Mapping | str | bytes | type | Dataset) or is_nest(given)
    return is_indexed and not (is_value or hasattr(given, "__array__") or hasattr(given, "to"))


def _checked(loader: Any, name: str) -> Any:
    # The common mistakes by name; each would fail later, in the middle of the loop, with somebody else's message.
    wrong = None
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        wrong = "a dataset gives samples, not batches: wrap it in torch.utils.data.DataLoader(dataset, batch_size=...)"
    elif isinstance(getattr(loader, "dataset", None), DataLoader):
        raise DataError(
            f"{name} is a DataLoader whose data set is another DataLoader.\n"
            "    to do        pass the inner one, or make one DataLoader of the data set itself"
        )
    elif isinstance(loader, dict) and is_nest(loader):
        wrong = "a dict must hold loaders; for batches pass a list of them or a DataLoader"
    elif hasattr(loader, "__array__"):
        wrong = "pass trainkit.data.TensorLoader(x, y, batch_size=...), a DataLoader, or a list of batches"
    elif isinstance(loader, type):
        wrong = f"this is the class; make an instance: {loader.__name__}(...)"
    elif isinstance(loader, str | bytes) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        wrong = "pass any iterable of batches: a DataLoader, a list, an object with __iter__"
    if wrong is not None:
        kind = loader.__name__ if isinstance(loader, type) else type(loader).__name__
        raise DataError(f"{name} cannot be {'an' if kind[0] in 'aeiou' else 'a'} {kind}.\n    to do        {wrong}")
    return loader


def _argument(name: LoaderName, given: Mapping[LoaderName, Any]) -> str:
    """What the entry point calls these loaders; only ``fit`` takes training loaders too."""
    return f"{name}_dataloaders" if "train" in given else "dataloaders"


def _check_datamodule(datamodule: Any, given: list[str]) -> None:
    if not isinstance(datamodule, DataModule):
        kind = f"the class {datamodule.__name__}" if isinstance(datamodule, type) else f"a {type(datamodule).__name__}"
        raise DataError(f"datamodule must be an instance of trainkit.DataModule; got {kind}.")
    if given:
        raise DataError(
            f"{' and '.join(given)} and datamodule ({type(datamodule).__name__}) were both passed.\n"
            "    to do        pass either loaders or a data module"
        )
