from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.module.net import Net, attached
from trainkit.errors import (
    CheckpointError,
    MetricError,
    ModuleError,
    UnknownNameError,
)
from trainkit.module import TrainModule
from trainkit.module.hparams import store_hparams
from trainkit.storage.files import write_checkpoint
from trainkit.strategies import SingleDevice


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# What the user has to define


@pytest.mark.parametrize(
    ("name", "entry_point"),
    [
        ("training_step", "fit"),
        ("validation_step", "validate"),
        ("test_step", "test"),
        ("configure_optimizers", "fit"),
    ],
)
def test_a_method_that_is_not_defined_is_an_error_that_says_who_needs_it(name, entry_point):
    module = Net()
    assert not module.overrides(name)
    with pytest.raises(ModuleError, match=rf"Net does not define {name}\(self.*trainer.{entry_point}\(\) needs"):
        getattr(module, name)()


def test_prediction_is_the_forward_by_default():
    module, x = Net(), torch.ones(4, 2)
    assert torch.equal(module.predict_step(x, 0), module(x))
    assert torch.equal(module.predict_step(batch=x, batch_idx=0), module(x))


def test_no_hook_is_defined_so_that_none_is_called_for_nothing():
    assert [name for name in dir(TrainModule) if name.startswith("on_")] == [
        "on_after_batch_transfer",
        "on_before_batch_transfer",
    ]


# Logging


def test_log_hands_everything_on_by_position():
    module = Net()
    sink = attached(module)
    module.log("a", 1.0)
    module.log("b", 2.0, True, False, True, False, "sum", False, True, None, False, 8, None, True)
    module.log("c", 3.0, metric_attribute="c", batch_size=4)
    assert sink.logged == [
        ("a", 1.0, False, None, None, None, "mean", None, True, None, False),
        ("b", 2.0, True, False, True, False, "sum", True, False, 8, True),
        ("c", 3.0, False, None, None, None, "mean", None, True, 4, False),
    ]


def test_log_dict_logs_every_item_with_the_same_options():
    module = Net()
    sink = attached(module)
    module.log_dict({"a": 1, "b": 2}, prog_bar=True, on_epoch=True, batch_size=5, rank_zero_only=True)
    common = (True, None, None, True, "mean", None, True, 5, True)
    assert sink.logged == [("a", 1, *common), ("b", 2, *common)]


@pytest.mark.parametrize("option", [{"enable_graph": True}, {"sync_dist_group": object()}], ids=["graph", "group"])
def test_options_that_mean_nothing_here_are_refused_by_name(option):
    module = Net()
    attached(module)
    with pytest.raises(MetricError, match=rf"'a'.*{next(iter(option))}"):
        module.log("a", 1.0, **option)


def test_log_by_hand_warns_once_and_records_nothing():
    module = Net()
    with pytest.warns(UserWarning, match="'a'.*outside a run") as caught:
        module.log("a", 1.0)
        module.log("b", 1.0)
    assert len(caught) == 1


# In a run and outside


def test_device_and_dtype_are_those_of_the_parameters():
    module = Net()
    assert (module.device, module.dtype) == (torch.device("cpu"), torch.float32)
    module.to("meta", torch.float64)
    assert (module.device, module.dtype) == (torch.device("meta"), torch.float64)


def test_without_parameters_the_device_is_that_of_the_run():
    module = TrainModule()
    assert (module.device, module.dtype) == (torch.device("cpu"), torch.get_default_dtype())
    attached(module, strategy=SimpleNamespace(device=torch.device("meta")))
    assert module.device == torch.device("meta")


def test_a_replica_of_data_parallel_knows_its_device():
    replica = Net()._replicate_for_data_parallel()
    replica._parameters = {}
    replica._former_parameters = {"weight": torch.zeros(1, device="meta")}
    replica._modules = {}
    assert replica.device == torch.device("meta")


def test_all_gather_reaches_tensors_at_any_depth():
    module = Net()
    attached(module, strategy=SimpleNamespace(all_gather=lambda tensor: torch.stack([tensor, tensor + 1])))
    gathered = module.all_gather({"a": [torch.zeros(2)], "b": "text"})
    assert gathered["a"][0].tolist() == [[0, 0], [1, 1]]
    assert gathered["b"] == "text"
    with pytest.raises(ModuleError, match="sync_grads"):
        module.all_gather(torch.zeros(1), sync_grads=True)


# Optimization


def two_optimizers(module):
    return [torch.optim.SGD(module.first.parameters(), 0.1), torch.optim.SGD(module.second.parameters(), 0.1)]


def test_optimizers_and_schedulers_are_given_alone_if_there_is_one():
    module = Net()
    configs = [SimpleNamespace(scheduler="s")]
    attached(module, optimizers=["bare"], optimizer_wrappers=["wrapped"], lr_scheduler_configs=configs)
    assert module.optimizers() == "wrapped"
    assert module.optimizers(use_wrapped=False) == "bare"
    assert module.lr_schedulers() == "s"
    attached(module, optimizers=[1, 2], optimizer_wrappers=[3, 4], lr_scheduler_configs=[])
    assert module.optimizers() == [3, 4]
    assert module.lr_schedulers() is None


def test_toggling_restricts_gradients_to_one_optimizer_and_undoing_it_restores_what_was():
    module = Net()
    module.second.bias.requires_grad = False
    first, second = two_optimizers(module)
    attached(module, optimizers=[first, second], strategy=SingleDevice("cpu"))

    def required():
        return [parameter.requires_grad for parameter in module.parameters()]

    module.toggle_optimizer(second)
    assert required() == [False, False, True, False]
    module.toggle_optimizer(first)
    assert required() == [True, True, False, False]
    module.untoggle_optimizer(first)
    assert required() == [True, True, True, False]
    module.untoggle_optimizer(first)
    assert required() == [True, True, True, False]


def test_a_parameter_of_two_optimizers_stays_trainable():
    module = Net()
    everything = torch.optim.SGD(module.parameters(), 0.1)
    first, _ = two_optimizers(module)
    attached(module, optimizers=[everything, first], strategy=SingleDevice("cpu"))
    module.toggle_optimizer(first)
    assert [parameter.requires_grad for parameter in module.parameters()] == [True, True, False, False]


def test_manual_backward_needs_manual_optimization():
    module = Net()
    with pytest.raises(ModuleError, match=r"automatic_optimization = False in Net.__init__"):
        module.manual_backward(torch.zeros(1))
    module.automatic_optimization = False
    calls = []
    attached(module, manual_backward=lambda *args, **kwargs: calls.append((args, kwargs)))
    module.manual_backward(1, 2, retain_graph=True)
    assert calls == [((1, 2), {"retain_graph": True})]


def gradients(module, optimizer, *arguments):
    """The gradients of a large loss after clipping."""
    module.zero_grad()
    (module(torch.full((4, 2), 100.0)).sum()).backward()
    module.clip_gradients(optimizer, *arguments)
    return [parameter.grad.clone() for parameter in module.parameters()]


def test_gradients_are_clipped_by_norm_or_value():
    module = Net()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    untouched = gradients(module, optimizer)
    assert gradients(module, optimizer, 0.0, "norm")[0].tolist() == untouched[0].tolist()
    by_norm = gradients(module, optimizer, 1.0)
    assert torch.cat([g.flatten() for g in by_norm]).norm() == pytest.approx(1.0, rel=1e-4)
    by_value = gradients(module, optimizer, 0.5, "value")
    assert max(g.abs().max() for g in by_value) == 0.5
    with pytest.raises(UnknownNameError, match="did you mean 'norm'"):
        module.clip_gradients(optimizer, 1.0, "nrom")


def test_only_parameters_of_the_optimizer_are_clipped():
    module = Net()
    first, _ = two_optimizers(module)
    clipped = gradients(module, first, 0.5, "value")
    assert max(g.abs().max() for g in clipped[:2]) == 0.5
    assert clipped[2].abs().max() > 0.5


def test_the_default_clipping_hook_clips():
    module = Net()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    gradients(module, optimizer)
    module.configure_gradient_clipping(optimizer, 0.5, "value")
    assert module.first.weight.grad.abs().max() == 0.5


def test_the_default_optimizer_step_steps_with_the_closure():
    module = Net()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    before = module.first.weight.detach().clone()

    def closure():
        loss = module(torch.ones(1, 2)).sum()
        module.backward(loss)
        return loss

    module.optimizer_step(0, 0, optimizer, closure)
    assert not torch.equal(module.first.weight, before)
    module.optimizer_zero_grad(0, 0, optimizer)
    assert module.first.weight.grad is None


def test_the_default_scheduler_step_passes_the_metric_on_if_there_is_one():
    calls = []
    scheduler = SimpleNamespace(step=lambda *args: calls.append(args))
    Net().lr_scheduler_step(scheduler, None)
    Net().lr_scheduler_step(scheduler, 0.5)
    assert calls == [(), (0.5,)]


def test_freeze_and_unfreeze():
    module = Net()
    module.freeze()
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    module.unfreeze()
    assert module.training and all(p.requires_grad for p in module.parameters())


# From a checkpoint


@pytest.fixture
def saved(tmp_path):
    module = Net(width=5)
    checkpoint = {"state_dict": module.state_dict()}
    store_hparams(module, checkpoint)
    write_checkpoint(checkpoint, tmp_path / "a.ckpt")
    return module, tmp_path / "a.ckpt"


def test_a_module_is_built_from_saved_hyperparameters_and_weights(saved):
    module, path = saved
    again = Net.load_from_checkpoint(path)
    assert again.hparams == {"width": 5, "lr": 0.1}
    assert same_weights(again, module)
    assert Net.load_from_checkpoint(str(path), lr=1.0).hparams == {"width": 5, "lr": 1.0}
    assert Net.load_from_checkpoint(path, map_location="cpu", strict=True).device == torch.device("cpu")


def test_weights_of_another_size_are_an_error_that_names_them(saved):
    _, path = saved
    with pytest.raises(CheckpointError, match=r"(?s)a\.ckpt.*Net.*first.weight \(5, 2\) instead of \(4, 2\)"):
        Net.load_from_checkpoint(path, width=4)


def test_strict_loading_of_the_module_decides_unless_told(saved):
    class Wider(Net):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.head = nn.Linear(1, 1)
            self.strict_loading = False

    module, path = saved
    assert torch.equal(Wider.load_from_checkpoint(path).first.weight, module.first.weight)
    with pytest.raises(CheckpointError, match=r"(?s)missing\s+head.weight, head.bias.*strict=False"):
        Wider.load_from_checkpoint(path, strict=True)


def test_late_layers_and_loading_hooks_come_before_the_weights(saved):
    class Late(TrainModule):
        def __init__(self, width, lr):
            super().__init__()
            self.width = width

        def configure_model(self):
            self.first, self.second = nn.Linear(2, self.width), nn.Linear(self.width, 1)

        def on_load_checkpoint(self, checkpoint):
            checkpoint["state_dict"]["second.bias"] = torch.full((1,), 9.0)

    assert Late.load_from_checkpoint(saved[1]).second.bias.item() == 9.0


def test_code_in_a_checkpoint_is_never_run(saved):
    with pytest.raises(CheckpointError, match="weights_only=False"):
        Net.load_from_checkpoint(saved[1], weights_only=False)
