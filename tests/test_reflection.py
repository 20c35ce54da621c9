from __future__ import annotations

import sys

import pytest

from trainkit.module import TrainModule
from trainkit.reflection import describe_arguments, hide_secrets, is_ours, method_of, names_secret, overrides


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


def test_a_method_that_is_set_to_none_is_not_there():
    class Without(Child):
        configure_model = None

    module = Without()
    module.validation_step = None
    for name in ("configure_model", "validation_step"):
        assert not module.overrides(name)
    assert method_of(module, "configure_model", TrainModule)() is None
    assert method_of(Child(), "validation_step", TrainModule).__name__ == "validation_step"


def test_arguments_are_described_alike_in_every_process():
    class Made:
        def __init__(self, size, name="a", *, rate=0.5, call=None, many=(), gone=1, **options):
            self._size, self.name, self.rate, self.call, self.many = size, name, rate, call, many
            self.options, self.other = options, "no argument"

    assert describe_arguments(Made(1, call=len, x=2)) == (
        "size=1, name='a', rate=0.5, call=<built-in function len>, many=(), options={'x': 2}"
    )
    assert describe_arguments(Made(1, call=lambda: 0)) == describe_arguments(Made(1, call=lambda: 0))
    assert describe_arguments(Made("x" * 500)) != describe_arguments(Made("x" * 249 + "y" + "x" * 250))
    assert len(describe_arguments(Made(1, many=[0.5] * 10**6))) < 200
    assert describe_arguments(object()) == ""


def test_the_private_one_is_what_was_given():
    class Chooses:
        def __init__(self, folder=None):
            self._folder, self.folder = folder, folder or "chosen"

    assert describe_arguments(Chooses()) == "folder=None"


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "Password",
        "api_key",
        "apikey",
        "hf_token",
        "smtp_password",
        "access_key",
        "secret",
        "aws_token",
        "github_token",
        "hfToken",
        "HFToken",
        "hf-token",
        "pwd",
        "passphrase",
        "tokens",
        "api_tokens",
        "apiKeys",
        "token2",
        "my_service_token",
        "id_token",
        "_token",
        "accessToken",
        "db_pwd",
        "Authorization",
    ],
)
def test_names_of_passwords_are_known(name):
    assert names_secret(name)


def test_passwords_are_left_out_of_the_description():
    class Sends:
        def __init__(self, token, to):
            self._token, self.to = token, to

    assert describe_arguments(Sends("hf_0123", to="me")) == "to='me'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter2@host/a?b=c", "https://host/a?b=c"),
        ("x" * 240 + " s3://k:" + "y" * 900 + "@b", "x" * 240 + " s3://b"),
        ("postgres://:pw@db and amqp://u:p@q", "postgres://db and amqp://q"),
        ("https://host:80/me@home:1", "https://host:80/me@home:1"),
        ("ssh://git@host/a", "ssh://git@host/a"),
        ("https://ghp_0123@github.com/a and http://t@b", "https://github.com/a and http://b"),
        ("a:b@c", "a:b@c"),
    ],
)
def test_passwords_in_urls_are_left_out(text, shown):
    class Sends:
        def __init__(self, url, more):
            self.url, self.more = url, more

    assert describe_arguments(Sends(text, [text[:40]])).startswith(f"url={shown!r}, more=")
    assert "hunter2" not in describe_arguments(Sends(text, {"a": [text[:40]]}))
    assert hide_secrets({"a": [text]}) == {"a": [shown]}
    assert hide_secrets(3) == 3


@pytest.mark.parametrize(
    "name",
    [
        "num_tokens",
        "pad_token",
        "tokenizer",
        "token_dim",
        "key",
        "monkey",
        "max_tokens",
        "eos_token",
        "special_tokens",
        "additional_special_tokens",
        "eosToken",
        "token_id",
        "warmup_tokens",
        "pad_token_id",
        "num_image_token",
        "token_ids",
        "keys",
        "mask_token",
        "key_padding",
        "secretary",
        "batch_tokens",
        "use_token",
    ],
)
def test_a_name_that_only_sounds_so_is_described(name):
    assert not names_secret(name)


def test_a_frame_is_ours_if_its_code_is_of_trainkit():
    assert not is_ours(sys._getframe())
    ours = {"__name__": "trainkit.somewhere", "sys": sys}
    exec("def frame(): return sys._getframe()", ours)
    assert is_ours(ours["frame"]())
