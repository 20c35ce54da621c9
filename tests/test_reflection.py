from __future__ import annotations

from trainkit.module import TrainModule
from trainkit.reflection import overrides


class Module(TrainModule):
    def validation_step(self, batch, batch_idx):
        pass


class Child(Module):
    pass


def test_a_method_of_the_class_or_of_a_parent_counts_and_the_base_does_not():
    for module in (Module(), Child()):
        assert overrides(module, "validation_step", TrainModule)
        assert not overrides(module, "training_step", TrainModule)
        assert not overrides(module, "no_such_method", TrainModule)


def test_a_function_set_on_the_instance_counts():
    module = TrainModule()
    module.training_step = lambda batch, batch_idx: None
    assert module.overrides("training_step")
    assert not module.overrides("test_step")
