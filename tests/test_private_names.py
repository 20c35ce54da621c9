"""What a file marks as private with a leading underscore is touched by no other file of trainkit, `compat` excepted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import trainkit

ROOT = Path(trainkit.__file__).parent

FOREIGN = {
    # what torch's FSDP notes of forwards until the next backward, and which module activation checkpointing is around
    "_checkpoint_wrapped_module",
    "_reset_parameters",  # of attention, which has no other name for it
    "_fsdp_param_group",
    "_fsdp_param_groups",
    "_post_forward_indices",
    "_non_persistent_buffers_set",
    # torch has no public way: modules, of which a copy is made or which are walked through without their children
    "_buffers",
    "_modules",
    "_parameters",
    "_replicate_for_data_parallel",
    # nor for converting complex tensors: `Module.to` drops their imaginary part, and `Module.double` passes them over
    "_apply",
    # whether a layer or an optimizer has a way of loading of its own, and a schedule calls a function of the user's
    "_load_from_state_dict",
    "_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_scale_fn_custom",
    # torch's operations on many tensors at once, which its optimizers are made of
    "_foreach_copy_",
    "_foreach_mul_",
    "_foreach_norm",
    "_trilinear",
    # torchmetrics: where an object exchanges its states, whether it may, how they are reduced, how many updates it had
    "_reductions",
    "_sync_dist",
    "_to_sync",
    "_update_count",
    # torch's compiler, what it and schedulers note on others, and what tells whether a tensor was changed
    "_compiled_call_impl",
    "_dynamo",
    "_dynamo_source",
    "_opt_called",
    "_optimizer_step_post_hooks",
    "_optimizer_step_pre_hooks",
    "_schedulers",
    "_milestones",
    "_version",
    # a DataLoader's workers outlive a pass only there
    "_iterator",
    "_shutdown_workers",
    # what a pickled tensor names in every file of torch, for the two things that nothing else does
    "_rebuild_qtensor",
    "_utils",
    # torchmetrics: the value of the newest batch
    "_forward_cache",
    # TensorBoard's writer does not tell where it writes
    "_file_name",
    # Python's stack, in which save_hyperparameters finds the arguments, and that of a thread that waits
    "_getframe",
    "_current_frames",
    # the folder of a package's metadata, which Python tells nowhere else
    "_path",
    # a named tuple as a dict, its names, and with another value: these names are public ones of Python
    "_asdict",
    "_fields",
    "_replace",
    # ends a process in which torch waits for ranks that never come, where no exception reaches it
    "_exit",
    # the store in which ranks have found each other, which a user's process group has too
    "_get_default_store",
}
"""Private names of other projects. Each is here because nothing public does it."""


def own_names(tree: ast.Module) -> set[str]:
    """Return the names that a file defines: its functions, and the attributes of its classes."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in [inner for each in targets for inner in ast.walk(each)]:
                if isinstance(target, ast.Name):
                    names.add(target.id)
                elif isinstance(target, ast.Attribute) and is_self(target.value):
                    names.add(target.attr)
    return names


def is_self(node: ast.expr) -> bool:
    is_super = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    return is_super or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def private_uses(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not is_self(node.value) and node.attr not in own:
                yield node.attr, node.lineno
        # The same by another way: vars(module)["_log"], getattr(trainer, "_call").
        elif isinstance(node, ast.Subscript | ast.Call):
            is_lookup = isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr")
            of_vars = isinstance(node, ast.Subscript) and "vars(" in ast.unparse(node.value)
            keys = node.args[1:2] if isinstance(node, ast.Call) else [node.slice]
            for key in keys if is_lookup or of_vars else ():
                name = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""
                if name.startswith("_") and not name.startswith("__") and name not in own:
                    yield name, node.lineno


def test_no_file_touches_what_is_private_to_another() -> None:
    used = {
        f"{path.relative_to(ROOT.parent)}:{line}: {name}": name
        for path in sorted(ROOT.rglob("*.py"))
        if "compat" not in path.parts
        for name, line in private_uses(path)
    }

    assert [place for place, name in used.items() if name not in FOREIGN] == []
    assert FOREIGN - set(used.values()) == set(), "no longer used, so no longer needed here"
