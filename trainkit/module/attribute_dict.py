"""`AttributeDict`: what ``hparams`` is."""

from __future__ import annotations

from typing import Any

from trainkit.errors import nearest_name


class AttributeDict(dict[str, Any]):
    """A dict whose string keys can also be read and written as attributes."""

    # Called only for names that dict itself does not have: an entry named "items" is read as ``hparams["items"]``.
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            nearest = nearest_name(name, map(str, self))
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise AttributeError(f"no hyperparameter {name!r}; there are: {', '.join(map(str, self))}.{hint}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"no hyperparameter {name!r}")
        del self[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"
