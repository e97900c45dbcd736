"""What a loop prints is logged: in the place of the print where that tells all, beside it where the print stays."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import EVALUATE, PROLOGUE, SETUP, STEP, converted, methods, script

SUMS = {"start": "total = 0.0", "batches": "for i, (x, y) in enumerate(train_loader):"}
ADD = f"{STEP}\ntotal += loss.item()"
SHOW = "if i % 2 == 1:\n    print({})\n    total = 0.0"

#: Name: the script, what stays of its print, what is logged.
KEPT = {
    "it tells the time": (
        script(f"{STEP}\nprint('loss %.3f, %.1f s' % (loss.item(), time.time()))", define="import time"),
        "time.time()",
        {"self.log('loss', loss, prog_bar=True)"},
    ),
    "it tells counts": (
        script(f"{STEP}\nseen += len(y)\nprint(seen, loss.item())", before="seen = 0\n"),
        "print(",
        {"self.log('loss', loss, prog_bar=True)"},
    ),
    "a value that is computed in it": (
        script(
            f"{STEP}\nprint(f'acc {{accuracy(x, y).item():.3f}}')",
            define="def accuracy(a, b):\n    return (a.argmax(1) == b).float().mean()\n",
        ),
        "print(",
        {"self.log('acc', accuracy(x, y), prog_bar=True)"},
    ),
    "two sums of one word": (
        script(
            f"{STEP}\nscale = loss * 2\nn = len(y)\nprint('[D loss: %f] [G loss: %f] %d' % ((loss + scale).item(), (scale - loss).item(), n))"
        ),
        "print(",
        {"self.log('d_loss', loss + scale, prog_bar=True)", "self.log('g_loss', scale - loss, prog_bar=True)"},
    ),
}
#: Name: the script; the logs are all that is left of its print.
REPLACED = {
    "the mean of the last batches": (
        script(f"{ADD}\n{SHOW.format(repr('loss: %.3f') + ' % (total / 2)')}", **SUMS),
        {"self.log('loss', self.total / 2, prog_bar=True)"},
    ),
    "an f-string": (
        script(f"{ADD}\n{SHOW.format('f{!r}'.format('[{epoch + 1}, {i + 1:5d}] loss: {total / 2:.3f}'))}", **SUMS),
        {"self.log('loss', self.total / 2, prog_bar=True)"},
    ),
}


@pytest.mark.parametrize("size", ["len(images)", "images.size(0)", "images.shape[0]", "images.numel()"])
def test_how_many_samples_a_batch_has_is_progress(size: str) -> None:
    lines = f"images = x.view(-1, 4)\n{STEP}\nprint(f'[{{i * {size}}}/30] loss: {{loss.item() / {size}:.3f}}')"
    done = methods(converted(script(lines, batches="for i, (x, y) in enumerate(train_loader):")).text)
    assert "print" not in done["training_step"] and _logs(done["training_step"]) == {
        "self.log('loss', loss, prog_bar=True)"
    }


def _logs(body: str) -> set[str]:
    return {line.strip() for line in body.splitlines() if line.strip().startswith("self.log(")}


@pytest.mark.parametrize(("text", "rest", "logs"), KEPT.values(), ids=KEPT)
def test_a_print_that_tells_more_stays_and_is_logged(text: str, rest: str, logs: set[str]) -> None:
    done = converted(text)
    assert done.text is not None
    step = methods(done.text)["training_step"]
    assert rest in step and _logs(step) == logs


@pytest.mark.parametrize(("text", "logs"), REPLACED.values(), ids=REPLACED)
def test_a_print_of_numbers_is_a_log_in_its_place(text: str, logs: set[str]) -> None:
    done = converted(text)
    assert done.text is not None
    step = methods(done.text)["training_step"]
    assert "print" not in step and _logs(step) == logs
    assert step.index("if ") < step.index("self.log(") < step.index("self.total = 0.0")


def test_an_array_of_one_number_is_logged_as_the_number() -> None:
    step = f"{STEP}\nn = loss.detach().numpy()\nprint('loss %.3f %.3f' % (loss.data.numpy(), n))"
    logs = _logs(methods(converted(script(step)).text)["training_step"])
    assert logs == {"self.log('loss', loss, prog_bar=True)", "self.log('n', float(n), prog_bar=True)"}


def test_a_number_that_each_batch_has_is_logged_in_each() -> None:
    text = script(f"{STEP}\nseen += len(y)\nif i % 2 == 1:\n    print(seen, loss.item())", before="seen = 0\n", **SUMS)
    done = converted(text)
    assert done.text is not None
    step = methods(done.text)["training_step"]
    assert step.index("self.log('loss', loss, prog_bar=True)") < step.index("if ") < step.index("print(")


def test_a_number_that_the_step_does_not_change_is_logged_before_it() -> None:
    ema = "for slow, fast in zip(ema.parameters(), model.parameters()):\n    slow.data.mul_(0.9).add_(fast.data, alpha=0.1)"
    batch = f"{STEP}\n{ema}\nscale = ema[0].weight.norm()\nprint(f'loss {{loss.item():.3f}}')\nprint(f'scale {{scale.item():.3f}}')"
    hooks = methods(converted(script(batch, before="ema = copy.deepcopy(model)\n")).text)
    assert hooks["training_step"].endswith("self.log('loss', loss, prog_bar=True)\nreturn loss")
    assert _logs(hooks["on_train_batch_end"]) == {"self.log('scale', scale, prog_bar=True)"}


def test_what_an_if_guards_stays_under_it() -> None:
    right = "right = (loss > 0).sum().item()\nkept = (y > 0).sum().item()\n"
    text = script(f"{STEP}\n{right}if kept > 0:\n    print('accuracy %.2f' % (right / kept))")
    done = converted(text)
    assert done.text is not None
    step = methods(done.text)["training_step"]
    assert step.index("if kept > 0") < step.index("self.log('accuracy', right / kept, prog_bar=True)")


@pytest.mark.parametrize(
    ("shown", "log"),
    [
        ("print(f'loss {total / len(train_loader):.4f}')", "self.log('loss', self.total / len("),
        ("print(f'took {total / len(train_loader):.4f}')", None),
    ],
)
def test_a_summary_stays_and_is_logged(shown: str, log: str | None) -> None:
    done = converted(script(ADD, **SUMS, end=shown))
    assert done.text is not None
    end = methods(done.text)["on_train_epoch_end"]
    assert "self.print(" in end
    assert (log in end) if log is not None else "self.log(" not in end


def test_a_summary_has_a_name_of_its_own() -> None:
    text = script(f"{ADD}\nprint('%.3f' % loss.item())", **SUMS, end="print('loss %.3f' % (total / len(train_loader)))")
    done = converted(text)
    assert done.text is not None
    hooks = methods(done.text)
    assert "self.log('loss', loss" in hooks["training_step"]
    assert "self.log('epoch_loss', " in hooks["on_train_epoch_end"]


LOGGERS = {
    "the module's": ("import logging\nlogger = logging.getLogger(__name__)\n", "logger.info"),
    "the library's own": ("import logging\n", "logging.info"),
    "of a function": (
        "import logging\ndef make():\n    one = logging.getLogger()\n    return one\nlog = make()\n",
        "log.debug",
    ),
}


@pytest.mark.parametrize(("before", "call"), LOGGERS.values(), ids=LOGGERS)
@pytest.mark.parametrize("text", ["f'loss {loss.item():.3f}'", "'%d: loss %.3f', epoch, loss.item()"])
def test_a_record_is_logged_and_stays_in_the_faithful_style(text: str, before: str, call: str) -> None:
    source = script(before=before, end=f"{call}({text})")
    hooks = methods(converted(source).text)
    assert "self.log('loss', self.loss, prog_bar=True)" in hooks["on_train_epoch_end"]
    assert call in hooks["on_train_epoch_end"]
    hooks = methods(converted(source, style="idiomatic").text)
    assert "self.log('loss', loss, prog_bar=True)" in hooks["training_step"] and "on_train_epoch_end" not in hooks


def test_what_is_no_record_stays() -> None:
    before = "class Teller:\n    def info(self, text):\n        print(text)\nlogger = Teller()\n"
    hooks = methods(converted(script(before=before, end="logger.info(f'{loss.item():.3f}')"), style="idiomatic").text)
    assert "logger.info" in hooks["on_train_epoch_end"]


NAMED = {
    "Train loss: {:.3f}": "train_loss",
    "epoch | Validation accuracy {:.3f}": "val_accuracy",
    "val_acc={:.3f}": "val_acc",
    "[testing] Loss {:.3f}": "loss",
    "interval loss {:.3f}": "loss",
}


@pytest.mark.parametrize(("text", "name"), NAMED.items(), ids=NAMED)
def test_a_number_is_named_after_its_pass(text: str, name: str) -> None:
    source = script(f"{STEP}\ntotal += loss.item()", start="total = 0", end=f"print('{text}'.format(total / 4))")
    assert f"self.log('{name}', self.total / 4, prog_bar=True)" in methods(converted(source).text)["on_train_epoch_end"]


PLAIN = {
    "in an f-string": "print(f'step {i} loss {loss}')",
    "beside words": "print('step', i, 'loss', loss)",
    "by format": "print('step {} loss {}'.format(i, loss.data))",
    "with %s": "print('step %d loss %s' % (i, loss))",
    "within a with": "with torch.no_grad():\n    if i % 2 == 0:\n        print(i, loss)",
}
OTHER = {
    "no measure": "n = len(x)\nprint(n)",
    "many numbers": "losses = [loss.item()]\nprint(losses)",
    "a share of each class": "total = torch.ones(2)\nscore = loss.item() / total\nprint('score', score)",
    "a sum for each class": "score = torch.zeros(2)\nscore += loss.item()\nprint('score', score / 2)",
    "one for each sample": "scores = model(x)\nprint(scores)",
    "a text": "score = f'{loss.item()}'\nprint(score)",
}


@pytest.mark.parametrize("show", PLAIN.values(), ids=PLAIN)
def test_a_loss_is_logged_however_it_is_printed(show: str) -> None:
    done = converted(script(f"{STEP}\n{show}", batches="for i, (x, y) in enumerate(train_loader):"))
    assert _logs(methods(done.text)["training_step"]) == {"self.log('loss', loss, prog_bar=True)"}


@pytest.mark.parametrize("show", ["cost", "cost.data.numpy()", "f'{cost}'"])
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_what_is_trained_on_is_a_loss_by_any_name(show: str, style: str) -> None:
    done = converted(script(f"{STEP}\nprint(i, {show})".replace("loss", "cost"), **SUMS), style=style)
    logs = _logs(methods(done.text)["training_step"])
    assert logs == {"self.log('cost', cost, prog_bar=True)"}


@pytest.mark.parametrize("show", OTHER.values(), ids=OTHER)
def test_what_may_be_no_number_is_not_logged(show: str) -> None:
    done = converted(script(f"{STEP}\n{show}"))
    assert "self.log('score" not in str(done.text) and "self.log('n'" not in str(done.text)
    assert "self.log('losses" not in str(done.text)


SHOWN_LAST = "print(f'loss: {loss.item():.3f}')"
#: The script, and whether its epochs log the last loss in each batch.
LAST = {
    "shown at the end": (script(end=SHOWN_LAST), True),
    "shown before an evaluation": (script(end=f"{SHOWN_LAST}\nmodel.eval()\nmodel.train()"), True),
    "kept for later": (script(end=f"{SHOWN_LAST}\nlosses.append(loss.item())", before="losses = []\n"), False),
    "read after the run": (script(end=SHOWN_LAST, after="print(loss)"), False),
    "of batches that may be left": (script(f"if len(x) < 8:\n    break\n{STEP}", end=SHOWN_LAST), False),
    "changed after the batches": (script(end=f"loss = loss * 2\n{SHOWN_LAST}"), False),
}


@pytest.mark.parametrize(("text", "early"), LAST.values(), ids=LAST)
def test_the_last_batch_of_an_epoch_is_logged_as_each_is(text: str, early: bool) -> None:
    log = "self.log('loss', loss, prog_bar=True)\nreturn loss"
    assert (log in methods(converted(text, style="idiomatic").text)["training_step"]) is early
    assert "self.log(" not in methods(converted(text).text)["training_step"]


RULES = {
    "around it": ("print('-' * 9)\nprint(f'loss {total:.3f}')\nprint()", False),
    "before what stays": ("print(f'loss {total:.3f}')\nprint('saved')\nprint('-' * 9)", True),
    "a text": ("print('epoch over')\nprint(f'loss {total:.3f}')", True),
}


@pytest.mark.parametrize(("end", "stays"), RULES.values(), ids=RULES)
def test_a_line_that_sets_off_a_summary_goes_with_it(end: str, stays: bool) -> None:
    text = script(f"{STEP}\ntotal += loss.item() ** 2", start="total = 0.0", end=end)
    assert "print(" in methods(converted(text).text)["on_train_epoch_end"]
    assert ("print(" in methods(converted(text, style="idiomatic").text)["on_train_epoch_end"]) is stays


RUNNING = "for i, (a, b) in enumerate(val_loader):"
SHOWS = "        print(f'loss {one.item():.3f} mean {total / (i + 1):.3f}')\n"
PASS = EVALUATE.replace("for a, b in val_loader:", RUNNING).replace(
    "        total += criterion(model(a), b).item() * len(b)\n",
    f"        one = criterion(model(a), b)\n        total += one.item()\n{SHOWS}",
)


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_sum_so_far_is_no_log_of_a_validation_step(style: str) -> None:
    end = f"{PASS}if val_loss < 1 and total < 9:\n    print('low')"
    logs = _logs(methods(converted(script(start="model.train()", end=end), style=style).text)["validation_step"])
    assert len(logs) == 1 and "total" not in logs.pop()


def test_a_number_is_logged_once_beside_its_mean() -> None:
    show = "print(f'train_loss {loss.item():.3f} mean {total / (i + 1):.3f}')"
    text = script(f"{STEP}\ntotal += loss.item()\n{show}", **SUMS)
    logs = _logs(methods(converted(text, style="idiomatic").text)["training_step"])
    assert len(logs) == 1 and "on_epoch=True" in logs.pop()


RETURNED = {
    "a share": ("return sum([1 if a == b else 0 for a, b in pairs]) / len(pairs)", True),
    "a sum that starts as a number": (
        "total = 0.0\n    for a, b in pairs:\n        total += float(a)\n    return total",
        True,
    ),
    "one of two": ("seen = len(pairs)\n    best = max(seen, 1)\n    return 'x', best / 2", True),
    "a list": ("return [a for a, b in pairs]", False),
    "a parameter": ("return pairs", False),
    "a number, if any": ("for a, b in pairs:\n        return 1.0", False),
    "without gradients": ("with torch.no_grad():\n        acc = float(len(pairs))\n        return acc", True),
    "in a context that may end early": ("with context(pairs):\n        return 1.0", False),
    "numbers one by one": ("for a, b in pairs:\n        yield 1.0\n    return 2.0", False),
    "a number either way": ("if pairs:\n        return 1.0\n    else:\n        return 2", True),
    "a number or nothing": ("if not pairs:\n        return None\n    return 1.0", False),
}


@pytest.mark.parametrize(("body", "is_logged"), RETURNED.values(), ids=RETURNED)
def test_a_number_that_a_function_returns_is_logged_without_a_format(body: str, is_logged: bool) -> None:
    to = "name, acc" if "'x', " in body else "acc"
    define = f"def measure(pairs):\n    {body}\n"
    done = converted(script(define=define, end=f"{to} = measure([(1, 1)])\nprint('epoch', epoch, 'acc', acc)"))
    assert ("self.log('acc', acc, prog_bar=True)" in methods(done.text)["on_train_epoch_end"]) is is_logged


GUARDED = {
    "an option": ("verbose = True\n", "if verbose:\n    print(f'loss {total / 4:.3f}')"),
    "the number of the epoch": ("", "if (epoch + 1) % 2 == 0:\n    print(f'loss {total / 4:.3f}')"),
}
ASKING = {
    "a result": "if total > 1:\n    print(f'loss {total / 4:.3f}')",
    "one of two": "if epoch:\n    print(f'loss {total / 4:.3f}')\nelse:\n    print('first')",
}


@pytest.mark.parametrize(("before", "end"), GUARDED.values(), ids=GUARDED)
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_summary_that_is_not_always_shown_is_logged_where_it_is(before: str, end: str, style: str) -> None:
    done = converted(script(f"{ADD}\nkept.append(total)", **SUMS, before=f"kept = []\n{before}", end=end), style=style)
    found = methods(done.text)["on_train_epoch_end"]
    assert "\n    self.log('loss', self.total / 4, prog_bar=True)" in found
    assert ("print(" in found) is (style == "faithful")


@pytest.mark.parametrize("end", ASKING.values(), ids=ASKING)
def test_what_is_told_of_a_result_alone_is_not_logged(end: str) -> None:
    assert "self.log(" not in str(converted(script(ADD, **SUMS, end=end)).text)


UNFORMATTED = {
    "a sum": ("print('sum of loss', total_loss)", "'total_loss', self.total_loss"),
    "a ratio": (
        "print('Train loss', total_loss / len(train_loader))",
        "'train_loss', self.total_loss / len(train_loader)",
    ),
    "the mean of a list": ("loss_avg = sum(kept) / len(kept)\nprint('loss', loss_avg)", "'loss_avg', loss_avg"),
    "a ratio in a text": ("print('test acc: {}'.format(total_loss / 4))", "'test_acc', self.total_loss / 4"),
}


@pytest.mark.parametrize(("end", "log"), UNFORMATTED.values(), ids=UNFORMATTED)
def test_a_number_needs_no_format(end: str, log: str) -> None:
    batch = f"{STEP}\ntotal_loss += loss.item()\nkept.append(loss.item())"
    text = script(batch, start="total_loss, kept = 0.0, []", end=end)
    assert f"self.log({log}, prog_bar=True)" in methods(converted(text).text)["on_train_epoch_end"]


def test_the_end_of_a_line_that_is_gone_goes_too() -> None:
    text = script(f"{STEP}\nprint('loss: %.3f' % loss.item(), end='')\nprint()")
    assert "print(" not in methods(converted(text, style="idiomatic").text)["training_step"]


def test_a_summary_with_a_measure_that_no_log_tells_stays() -> None:
    end = "print('loss %.3f, val loss %s' % (total / 4, [total]))".replace("[total]", "other()")
    text = script(ADD, **SUMS, define="def other():\n    return [1.0]\n", end=end)
    found = methods(converted(text, style="idiomatic").text)["on_train_epoch_end"]
    assert "self.log('loss', self.total / 4" in found and "print(" in found


def test_a_ratio_that_a_validation_prints_is_logged_at_its_end() -> None:
    end = f"{EVALUATE}print('val loss', total / n)\nkept.append(total)"
    hooks = methods(converted(script(start="model.train()", before="kept = []\n", end=end)).text)
    assert "self.log('val_loss', " in "".join(hooks.values())


WHOLE = f"for epoch in range(9):\n{{head}}\n{indent(STEP.replace('model(x), y', 'model(a), b'), '    ')}\n{{end}}\n"
SHOWN = "    if epoch % 2 == 0:\n        print('epoch', epoch, 'loss: %.3f' % loss.item())"


@pytest.mark.parametrize("word", ["epoch", "number"])
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_what_a_step_on_all_data_prints_of_its_epoch_stays(word: str, style: str) -> None:
    loop = WHOLE.format(head="    pass", end=SHOWN).replace("epoch", word)
    data = "a, b = torch.randn(9, 4), torch.randint(2, (9,))\n"
    step = methods(converted(f"{PROLOGUE}{SETUP}{data}{loop}", style=style).text)["training_step"]
    assert _logs(step) == {"self.log('loss', loss, prog_bar=True)"}
    assert ("self.print('epoch', epoch, 'loss: %.3f' % loss.item())" in step) is (
        word == "epoch" and style == "faithful"
    )
    assert ("if " in step) is ("self.print" in step)


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_number_is_logged_under_two_conditions(style: str) -> None:
    text = script(
        f"{ADD}\nif talks:\n    if i % 2 == 0:\n        print('loss %.3f' % loss.item())",
        before="talks = len(data) > 3\n",
        end="if talks:\n    if epoch % 2 == 0:\n        print('total loss %.3f' % total)",
        **SUMS,
    )
    done = methods(converted(text, style=style).text)
    assert "if talks:\n    self.log('loss', loss, prog_bar=True)" in done["training_step"]
    assert len(_logs(done["on_train_epoch_end"])) == 1
    assert ("self.print" in done["on_train_epoch_end"]) is (style == "faithful")


def test_two_prints_of_a_number_log_it_once() -> None:
    text = script(f"{STEP}\nif i == 2:\n    print('loss %f' % loss.item())\nprint('loss: %.2f' % loss.item())", **SUMS)
    assert methods(converted(text).text)["training_step"].count("self.log") == 1


PRECISION = {
    "at k": ("'Prec@1 %.3f Prec@5 %.3f' % (a.val, b.val)", {"prec1": "self.a.val", "prec5": "self.b.val"}),
    "its average beside it": ("'loss %.3f (%.3f)' % (a.val, a.avg)", {"loss": "self.a.val", "loss_avg": "self.a.avg"}),
    "of a pass": ("'Val Acc@1 %.3f' % a.val", {"val_acc1": "self.a.val"}),
    "top k": ("'top-5: %.3f' % a.val", {"top5": "self.a.val"}),
}  # fmt: skip


@pytest.mark.parametrize(("shown", "logged"), PRECISION.values(), ids=PRECISION)
def test_a_measure_at_k_and_the_average_beside_a_number_have_names(shown: str, logged: dict[str, str]) -> None:
    define = "class Meter:\n    def __init__(self):\n        self.val = self.avg = 0.0\n"
    define += "    def add(self, value):\n        self.val, self.avg = value, value / 2\n\n\n"
    text = script(
        f"{STEP}\na.add(loss.item())\nb.add(loss.item())\nprint({shown})",
        define=define,
        start="a, b = Meter(), Meter()",
    )
    step = methods(converted(text).text)["training_step"]
    assert _logs(step) == {f"self.log('{name}', {value}, prog_bar=True)" for name, value in logged.items()}


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("'val, loss={:.4f} acc={:.4f}'.format(vl, va)", ["val_loss", "acc"]),
        ("f'epoch {epoch}: loss {vl.item():.3f}'", ["loss"]),
        ("'loss %.3f, %.3f' % (vl, va)", ["va", "vl"]),
        ("'test: accuracy %.3f' % va", ["test_accuracy"]),
        ("'accuracy %.3f' % loss", ["loss"]),
    ],
)
def test_a_number_whose_name_says_nothing_is_called_as_the_text_calls_it(shown: str, names: list[str]) -> None:
    text = script(end=f"vl, va = loss.detach(), loss.item()\nprint({shown})")
    logged = methods(converted(text).text)["on_train_epoch_end"]
    assert sorted(line.split("'")[1] for line in _logs(logged)) == sorted(names)
