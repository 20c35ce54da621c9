from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from trainkit.callbacks.progress_bar.bar import Bar

pytest.importorskip("IPython", reason="needs IPython")


def bar_at(done, label="Epoch 1/2", total=40):
    bar = Bar(label, total, now=0.0)
    bar.update(done, 2.0)
    return bar


@pytest.fixture
def shown(monkeypatch):
    """What was handed to ``IPython.display.display``, and by what it was replaced."""
    import IPython.display

    shown = []

    class Handle:
        def __init__(self, place):
            self.place = place

        def update(self, bundle, raw):
            shown[self.place] = bundle

    def display(widget, display_id):
        shown.append(widget)
        return Handle(len(shown) - 1)

    monkeypatch.setattr(IPython.display, "display", display)
    return shown


@pytest.fixture
def widgets(shown):
    pytest.importorskip("ipywidgets", reason="needs ipywidgets")
    from trainkit.callbacks.progress_bar.notebook import WidgetDisplay

    return WidgetDisplay


def contents(box):
    *rows, metrics = box.children
    return [(row.children[0].value, row.children[1].value, row.children[2].value) for row in rows], metrics.value


def test_there_is_a_widget_for_each_bar_and_one_for_the_metrics(widgets, shown):
    display = widgets(leave=False)
    display.show([bar_at(20), bar_at(1, "Validation", None)], {"loss <1>": 0.5})
    (box,) = shown
    rows, metrics = contents(box)
    assert [(label, value) for label, value, _ in rows] == [("<b>Epoch 1/2</b>", 0.5), ("<b>Validation</b>", 1.0)]
    assert "20/40  0:02 &lt; 0:02  10.0 it/s" in rows[0][2]
    assert "loss &lt;1&gt; 0.5" in metrics


def test_the_same_widgets_are_used_again(widgets, shown):
    display = widgets(leave=False)
    display.show([bar_at(20)], {})
    display.show([bar_at(20), bar_at(1, "Validation")], {})
    nested = shown[0].children
    display.show([bar_at(30)], {})
    assert shown[0].children == (nested[0], nested[2])
    display.show([bar_at(30), bar_at(1, "Validation")], {})
    assert shown[0].children == nested
    assert len(shown) == 1


def test_text_remains_and_no_widget(widgets, shown, capsys):
    display = widgets(leave=False)
    display.show([bar_at(1)], {})
    display.finish([bar_at(40)], {"loss": 0.1})
    display.show([bar_at(7, "Epoch 2/2")], {"loss": 0.1})  # and is interrupted there
    display.close()
    assert shown == [{"text/plain": ""}]
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Epoch 1/2: 40/40  0:02  20.0 it/s  loss 0.1"
    assert second.startswith("Epoch 2/2: 7/40")


def test_leave_begins_new_widgets(widgets, shown):
    display = widgets(leave=True)
    for epoch in ("Epoch 1/2", "Epoch 2/2"):
        display.show([bar_at(1, epoch)], {})
        display.finish([bar_at(40, epoch)], {})
    display.close()
    assert [contents(box)[0][0][:2] for box in shown] == [("<b>Epoch 1/2</b>", 1.0), ("<b>Epoch 2/2</b>", 1.0)]


def test_what_was_never_shown_is_told_in_a_line(widgets, shown, capsys):
    display = widgets(leave=False)
    display.finish([bar_at(40)], {})
    display.close()
    assert shown == []
    assert capsys.readouterr().out.startswith("Epoch 1/2: 40/40")


def test_without_widgets_text_is_replaced_in_place():
    # In a process of its own: an IPython shell is one per process, and hard to get rid of.
    code = """
        import sys
        sys.modules["ipywidgets"] = None
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.utils.capture import capture_output
        InteractiveShell.instance()
        from trainkit.callbacks.progress_bar.bar import Bar
        from trainkit.callbacks.progress_bar.notebook import TextDisplay, open_notebook_display
        display = open_notebook_display(leave=False)
        assert isinstance(display, TextDisplay)
        bar = Bar("Epoch 1/2", 40, now=0.0)
        with capture_output() as captured:
            display.show([bar], {})
            bar.update(20, 2.0)
            display.show([bar], {"loss": 0.5})
            bar.update(40, 4.0)
            display.finish([bar], {"loss": 0.25})
            display.close()
        outputs = [(output.update, output.data["text/plain"]) for output in captured.outputs]
        assert outputs == [
            (False, "Epoch 1/2  0/40  0:00"),
            (True, "Epoch 1/2  20/40  0:02 < 0:02  10.0 it/s\\nloss 0.5"),
            (True, ""),
        ], outputs
        assert captured.stdout == "Epoch 1/2: 40/40  0:04  10.0 it/s  loss 0.25\\n", captured.stdout
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
