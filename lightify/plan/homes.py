"""Where each name lives: a local of a hook, an attribute, a global, or computed from the Trainer's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import libcst as cst

from lightify.analysis.computed import is_computed
from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.loops.surroundings import Surroundings
from lightify.plan.kinds import Kinds
from lightify.plan.types import Attribute, Computed, Global, Home, Hook, Local
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Binding, Field, Frame, Item, Usage, Variable
from lightify.syntax.names import bound_names, local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, children, dotted

#: Names of `nn.Module`, LightningModule and its hooks, those of 1.x too, that an attribute must not hide.
RESERVED = frozenset(
    """
    T_destination add_module all_gather allow_zero_length_dataloader_with_multiple_devices apply
    automatic_optimization backward bfloat16 buffers call_super_init children clip_gradients compile
    configure_callbacks configure_gradient_clipping configure_model configure_optimizers
    configure_sharded_model cpu cuda current_epoch device device_mesh double dtype dump_patches eval
    example_input_array extra_repr fabric float forward freeze from_datasets get_buffer get_extra_state
    get_parameter get_submodule global_rank global_step half hparams hparams_initial ipu load_from_checkpoint
    load_state_dict local_rank log log_dict logger loggers lr_scheduler_step lr_schedulers manual_backward
    modules mtia named_buffers named_children named_modules named_parameters on_after_backward
    on_after_batch_transfer on_before_backward on_before_batch_transfer on_before_optimizer_step
    on_before_zero_grad on_fit_end on_fit_start on_gpu on_load_checkpoint on_predict_batch_end
    on_predict_batch_start on_predict_end on_predict_epoch_end on_predict_epoch_start on_predict_model_eval
    on_predict_start on_save_checkpoint on_test_batch_end on_test_batch_start on_test_end on_test_epoch_end
    on_test_epoch_start on_test_model_eval on_test_model_train on_test_start on_train_batch_end
    on_train_batch_start on_train_end on_train_epoch_end on_train_epoch_start on_train_start
    on_validation_batch_end on_validation_batch_start on_validation_end on_validation_epoch_end
    on_validation_epoch_start on_validation_model_eval on_validation_model_train on_validation_model_zero_grad
    on_validation_start optimizer_step optimizer_zero_grad optimizers parameters predict_dataloader
    predict_step prepare_data prepare_data_per_node print register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook
    requires_grad_ save_hyperparameters set_extra_state set_submodule setup share_memory state_dict
    strict_loading teardown test_dataloader test_step to to_empty to_onnx to_tensorrt to_torchscript
    another_epoch contexts epochs_ended goes_on pass_ended pass_skipped returned train_batches
    on_batch_end on_batch_start on_epoch_end on_epoch_start on_pretrain_routine_end on_pretrain_routine_start
    test_end test_epoch_end test_step_end tng_dataloader training_end training_epoch_end training_step_end
    validation_end validation_epoch_end validation_step_end
    toggle_optimizer toggled_optimizer train train_dataloader trainer training training_step
    transfer_batch_to_device type unfreeze untoggle_optimizer val_dataloader validation_step xpu zero_grad
    """.split()  # noqa: SIM905, a list of words
)


@dataclass(frozen=True, eq=False)
class Homes:
    """The homes and what follows from them.

    Attributes:
        captured: variables handed to the module, with the parameter's name.
        unset: names that some paths of the host leave unbound, by the first statement that may bind them.
        results: variables that the host reads back.
    """

    of: Mapping[Variable, Home]
    captured: tuple[tuple[Variable, str], ...]
    unset: Mapping[cst.CSTNode, tuple[str, ...]]
    results: tuple[Variable, ...]
    written: frozenset[Variable]


def assign_homes(
    nest: Nest,
    hooks: Sequence[Hook],
    forced: Mapping[Variable, Home],
    around: Surroundings,
    kinds: Kinds,
    tree: Tree,
    extra: Usage,
) -> Homes:
    """Gives each variable of the moved code a home.

    Args:
        forced: decided before (loop counters, optimizers fetched in the hook, generated parameters).
        extra: what else is read in the module (the construction of optimizers).
    """
    per_hook = [hook_usage(hook) for hook in hooks]
    run = _run_usage(hooks)
    written = {v for use in per_hook for v in use.writes} - forced.keys()
    mentioned = {v for use in per_hook for v in use.reads | use.writes} | extra.reads
    across = {v for use in per_hook for v in use.exposed} | extra.exposed
    surely = {v for use in per_hook for v in use.must or ()}
    inner = {v: v.owner for v in mentioned if isinstance(v, Field) and v.owner in written}  # of objects made anew
    mentioned |= set(inner.values())
    across |= {owner for field, owner in inner.items() if field in across}
    hidden = {v for hook, use in zip(hooks, per_hook) for v in use.reads if v.name in hook.parameters}
    after = usage(around.after)
    before = around.set_before(nest.host)
    homes: dict[Variable, Home] = dict(forced)
    hyperparameters = _hyperparameters(nest, hooks, mentioned - written, kinds, tree)
    changed, owned = _changed_fields(tree) | tree.methods.keys(), set[Variable]()
    captured: list[Variable] = []
    results: list[Variable] = []
    taken = {home.name for home in homes.values() if isinstance(home, Attribute)}
    for variable in sorted(mentioned - forced.keys(), key=lambda v: (v.frame.name, v.order)):
        of_module = variable.frame.is_module
        around_host = encloses(variable.frame, nest.host)  # `nonlocal` here
        of_host = variable.frame is nest.host or around_host
        if variable in written:
            if isinstance(variable, Field):
                captured.extend([] if variable in inner else [variable.owner])
                continue
            if of_module and (variable.name in around.kept_reads or not nest.host.is_module):
                homes[variable] = Global(variable.name)
                continue
            read_after = around_host or ((of_host or of_module) and variable in after.exposed)
            if variable not in across and not read_after:
                homes[variable] = Local(variable.name)
                continue
            if read_after:
                results.append(variable)
            first = variable in run.exposed | extra.exposed or variable in inner.values()
            if (variable in before or around_host) and (first or variable not in surely):
                captured.append(variable)
        elif variable is hyperparameters and (of_host or nest.host.is_module):
            homes[variable] = Computed("self.hparams")
            captured.append(variable)
            continue
        elif of_module and not isinstance(variable, Field):
            if variable not in hidden and not _handed_over(variable, nest.host, around, kinds, tree):
                homes[variable] = Global(variable.name)
                continue
            captured.append(variable)
        elif isinstance(variable, Field) and (variable in inner or _is_asked(variable, changed, kinds, around)):
            captured.extend([] if variable in inner else [variable.owner])
            owned.add(variable)
            continue
        elif of_host or isinstance(variable, Field):
            captured.append(variable)
        else:
            homes[variable] = Local(variable.name)
            continue
        homes[variable] = Attribute(_free_name(variable, taken))
        taken.add(homes[variable].name)  # type: ignore[union-attr]
    for variable in sorted((mentioned & written) | owned, key=lambda v: v.order):
        if isinstance(variable, Field):
            owner = variable.owner
            if owner not in homes:
                homes[owner] = Attribute(_free_name(Variable("owner", owner.frame), taken))
                taken.add("owner")
            homes[variable] = Computed(f"{_text(homes[owner])}.{variable.name}")
    captured = [variable for variable in dict.fromkeys(captured) if not isinstance(homes[variable], (Global, Local))]
    _separate_locals(homes, per_hook)
    order = {v: n for n, v in enumerate(sorted(before, key=lambda v: v.order))}
    captured.sort(key=lambda v: (kinds.of(v) is not Kind.MODULE, order.get(v, -1)))
    names = [(v, home.name if isinstance(home := homes[v], Attribute) else v.name) for v in captured]
    return Homes(homes, tuple(names), _unset(captured, around, nest.host), tuple(results), frozenset(written))


def _text(home: Home) -> str:
    if isinstance(home, Computed):
        return home.text
    return f"self.{home.name}" if isinstance(home, Attribute) else home.name


def _is_asked(field: Field, changed: set[str], kinds: Kinds, around: Surroundings) -> bool:
    """True for a field that the object is asked for each time."""
    if f".{field.name}" in around.rebound or is_computed(field.name, kinds.tree):
        return True
    return kinds.of(field) not in _TRAINED and field.name in changed


def _handed_over(variable: Variable, host: Frame, around: Surroundings, kinds: Kinds, tree: Tree) -> bool:
    """True for a global that the module holds: what is trained, and what was made before the loop for good."""
    if kinds.of(variable) not in _TRAINED or variable.name in around.rebound:
        return False
    if variable.name in tree.functions or variable.name in tree.classes:
        return False
    if host.is_module:
        return variable in around.set_before(host)
    made = variable.name in bound_names(block(tree.scope))
    return kinds.of(variable) is Kind.MODULE and made and host.resolve(variable.name) is variable


def _unset(captured: Sequence[Variable], around: Surroundings, host: Frame) -> dict[cst.CSTNode, tuple[str, ...]]:
    """Names that are handed over although the host may not have bound them: the script reads them only when it did."""
    bound = around.surely_set(host)
    found: dict[cst.CSTNode, tuple[str, ...]] = {}
    for variable in captured:
        if variable in bound or variable.frame is not host or isinstance(variable, Field):
            continue
        first = next((item.node for item in around.before if variable in usage([item]).writes), None)
        if first is not None:
            found[first] = (*found.get(first, ()), variable.name)
    return found


_TRAINED = (Kind.MODULE, Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER)


def _changed_fields(tree: Tree) -> set[str]:
    """Fields that code outside `__init__` or only some of its paths assign: the object is asked for them each time."""
    found: set[str] = set()
    for start in (function for function in tree.nodes(cst.FunctionDef) if function.name.value == "__init__"):
        frame = Frame("__init__", start, Frame(""))
        made = usage([Item(statement, frame) for statement in block(start.body)])
        found |= {v.name for v in made.writes - (made.must or set()) if isinstance(v, Field)}
    for node in tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign):
        path, _, name = (dotted(node.target) or "").rpartition(".")  # type: ignore[attr-defined]
        around = tree.around(node, cst.FunctionDef) if path else None
        if path and (around is None or around.name.value != "__init__"):
            found.add(name)
    return found


def _hyperparameters(
    nest: Nest, hooks: Sequence[Hook], mentioned: set[Variable], kinds: Kinds, tree: Tree
) -> Variable | None:
    """The parsed arguments, when the module only reads their fields."""
    spaces = [v for v in mentioned if kinds.of(v) is Kind.NAMESPACE and not isinstance(v, Field)]
    if len(spaces) != 1 or _is_edited(spaces[0], nest, tree):
        return None
    for hook in hooks:
        for step in hook.steps:
            if isinstance(step, Item) and not _reads_fields_only(step.node, step.frame, spaces[0]):
                return None
            if isinstance(step, Binding) and not _reads_fields_only(step.value, step.value_frame, spaces[0]):
                return None
    return spaces[0]


def _is_edited(space: Variable, nest: Nest, tree: Tree) -> bool:
    """True when a function that stays, or one in the loop, assigns a field: the module's copy would not follow."""
    for node in tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del):
        head, _, field = (dotted(node.target) or "").partition(".")  # type: ignore[attr-defined]
        around = list(tree.ancestors(node)) if field and head == space.name else []
        if nest.host_loop in around:
            return True
        inside = next((a for a in around if isinstance(a, cst.FunctionDef)), None)
        if inside is not None and inside is not nest.host.function and head not in local_names(inside):
            return True
    return False


def _reads_fields_only(node: cst.CSTNode, frame: Frame, space: Variable) -> bool:
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del)):
        target = node.target
        if isinstance(target, cst.Attribute) and not _reads_fields_only(target.value, frame, space):
            return False
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        return meaning is not space
    if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
        return True
    return all(_reads_fields_only(child, frame, space) for child in children(node))


def hook_usage(hook: Hook) -> Usage:
    """What a hook reads and writes, its result included."""
    total = usage(hook.steps)
    if hook.result is not None:
        total += expression_usage(*hook.result)
    if hook.leaves:
        total.must = set()
    return total


def _run_usage(hooks: Sequence[Hook]) -> Usage:
    """What the hooks read and write in the order of a run."""
    run = Usage()
    for in_batch, group in groupby(hooks, _in_batch):
        part = Usage()
        for hook in group:
            use = hook_usage(hook)
            part += replace(use, must=use.must or set())
        run += replace(part, must=set()) if in_batch else part  # there may be no batch
    return run


def _in_batch(hook: Hook) -> bool:
    return hook.name.endswith("_step") or "batch" in hook.parameters or hook.name in ("optimizer_zero_grad", "backward")


def encloses(frame: Frame, host: Frame) -> bool:
    """True for the frame of a function that the host is defined in."""
    current = host.outer
    while current is not None:
        if current is frame:
            return not current.is_module
        current = current.outer
    return False


def _free_name(variable: Variable, taken: set[str]) -> str:
    name = variable.name
    if name.startswith("__"):
        name = name.strip("_") or "value"
    if name == "self":
        name = "owner"
    if name in RESERVED:
        name = f"{name}_"
    if name in taken:
        name = f"{variable.frame.name or 'script'}_{variable.name}"
    number = 2
    while name in taken or name in RESERVED:
        name, number = f"{variable.name}_{number}", number + 1
    return name


def _separate_locals(homes: dict[Variable, Home], per_hook: Sequence[Usage]) -> None:
    """Renames locals of opened calls that would meet another variable of the same name in a hook."""
    for use in per_hook:
        # what a batch without a step is told by stays readable in all of its hook
        names: dict[str, Variable] = {v.name: v for v in use.reads if v.frame.name == "hook" and v.name == "outputs"}
        globals_first = sorted(
            use.reads | use.writes, key=lambda v: (not isinstance(homes.get(v), Global), len(v.frame.name))
        )
        for variable in globals_first:
            home = homes.get(variable)
            if not isinstance(home, (Local, Global)) or variable.frame.name == "hook":
                continue
            holder = names.setdefault(home.name, variable)
            if holder is not variable and isinstance(home, Local):
                homes[variable] = Local(f"{variable.frame.name or 'script'}_{variable.name}")
