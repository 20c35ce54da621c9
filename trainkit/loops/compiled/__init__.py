"""A whole training step as one compiled graph. Read ``step.py`` first, then ``graph.py``.

Forward, loss, backward, clipping and update become one function that ``torch.compile`` turns into machine code, or on
CUDA into a CUDA graph. It does what ``loops/optimize.py`` does, and is compared with it while it runs
(``reference_step.py``). Why it is done so is told in ``docs/design/0002-compiled-step.md``.
"""
