from __future__ import annotations

import torch

from trainkit.testing import TinyData, TinyModule, assert_same_state, assert_same_weights, quiet_trainer


def test_module_and_data_are_always_the_same_and_draw_no_random_numbers():
    before = torch.get_rng_state()
    one, other = TinyModule(), TinyModule()
    assert_same_weights(one, other)
    assert_same_state(TinyData(3), TinyData(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(TinyModule(seed=1).layer.weight, one.layer.weight)
    assert not torch.equal(TinyData(1, seed=1)[0][0], TinyData(1)[0][0])


def test_last_batch_may_be_smaller():
    assert [len(x) for x, _ in TinyData(num_batches=3, batch_size=4, last_batch_size=1)] == [4, 4, 1]


def test_every_entry_point_runs_and_training_lowers_the_loss():
    module, data = TinyModule(), TinyData(4)
    trainer = quiet_trainer(max_epochs=20)
    (before,) = trainer.validate(module, data)
    trainer.fit(module, data, data)
    (after,) = trainer.validate(module, data)
    assert after["val/loss"] < before["val/loss"]
    assert list(trainer.test(module, data)[0]) == ["test/loss"]
    assert [output.shape for output in trainer.predict(module, data)] == [(3, 2)] * 4


def test_quiet_trainer_writes_and_prints_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    quiet_trainer(max_epochs=2, default_root_dir=tmp_path).fit(TinyModule(), TinyData(2), TinyData(2))
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
