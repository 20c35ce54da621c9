from __future__ import annotations

import copy
import pickle

import pytest

from trainkit.module.attribute_dict import AttributeDict


def test_a_missing_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"'widht'.*width, lr.*Did you mean 'width'"):
        AttributeDict(width=3, lr=0.1).widht  # noqa: B018


def test_it_is_a_dict_that_survives_copy_and_pickle():
    original = AttributeDict(width=3, nested=AttributeDict(lr=0.1))
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert twin == original == {"width": 3, "nested": {"lr": 0.1}}
        assert twin.nested.lr == 0.1
    original.depth = 2
    del original.width
    assert repr(original) == "AttributeDict({'nested': AttributeDict({'lr': 0.1}), 'depth': 2})"
    assert not hasattr(original, "width")
