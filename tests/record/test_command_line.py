from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainkit.record.command_line import command_line, own_command


@pytest.mark.parametrize(
    "words",
    [
        ["--api-key", "s3cret"],
        ["--token=s3cret"],
        ["-password", "s3cret"],
        ["module.api_key=s3cret"],
        ["data={user: me, password: s3cret}"],
        ['{"hf_token": "s3cret"}'],
        ["-c", "token = 's3cret'"],
        ["url=https://me:s3cret@example.com/x"],
        ["https://s3cret@github.com/a/b"],
        ["git+HTTPS://s3cret@github.com/a/b"],
        ["data.token+=s3cret"],
        ["+data.token=s3cret"],
        ["--token", "-s3cret"],
        ["--data.token.value", "s3cret"],
        ["tokens=[s3cret]"],
        ["a.tokens={x: s3cret}"],
        ["token.value=s3cret"],
        ["data={token.value: s3cret}"],
        ["data={token+=s3cret}"],
        ["passphrase=s3cret"],
        ["pwd=s3cret"],
        ["--aws-token", "s3cret"],
        ["--hfToken=s3cret"],
        ["Authorization: Bearer s3cret"],
    ],
)
def test_a_password_is_not_shown(words: list[str]) -> None:
    line = command_line(["python", "train.py", *words, "lr=0.1"])
    assert "s3cret" not in line
    assert line.startswith("python train.py ") and line.endswith(" lr=0.1")


def test_all_else_is_as_it_was_typed() -> None:
    words = ["python", "train.py", "--lr", "-0.1", "note=two words", "--num-tokens", "5", "--token", "--fast"]
    words += ["model.pad_token=[PAD]", "data.special_tokens=[a]", "ssh://git@host/a"]
    assert command_line(words) == (
        "python train.py --lr -0.1 'note=two words' --num-tokens 5 --token --fast "
        "'model.pad_token=[PAD]' 'data.special_tokens=[a]' ssh://git@host/a"
    )


PROGRAM = """
import json, multiprocessing, sys
from trainkit.record.command_line import own_command

def tell(path):
    with open(path, "w") as file:
        json.dump(own_command(), file)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=tell, args=(sys.argv[2],))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_python_has_made_tells_the_program_that_made_it(tmp_path: Path, method: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [str(tmp_path / "program.py"), method, str(tmp_path / "told.json")]
    subprocess.run([sys.executable, *words], check=True)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told[1:] == words
    assert own_command() == sys.orig_argv
