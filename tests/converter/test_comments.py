"""Comments of code that moves go where it goes; headings of sections stay in their place."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import SETUP, STEP, converted, script

DEVICE = "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\n"
STARTED = SETUP.replace("optimizer =", "# the optimizer\noptimizer =").replace("0.9)", "0.9)  # as in the paper")
HEADING = "# -------\n# Train\n# -------\n\n"

MOVED = {
    "above an optimizer": (
        script(setup=STARTED),
        "        # the optimizer\n        return torch.optim.SGD(",
    ),
    "behind an optimizer": (script(setup=STARTED), "momentum=0.9)  # as in the paper\n"),
    "above a first value": (
        script(f"{STEP}\nseen += 1", before="# batches so far\nseen = 0  # none", after="print(seen)"),
        "        # batches so far\n        self.seen = 0  # none\n",
    ),
    "a heading above a first value stays": (
        script(f"{STEP}\nseen += 1", before=f"{HEADING}seen = 0", after="print(seen)"),
        "# -------\n# Train\n# -------\n\nmodule =",
    ),
    "above a print that is logged": (
        script(f"{STEP}\n# show it\nprint('loss', loss.item())"),
        '        # show it\n        self.log("loss"',
    ),
    "above a guarded print": (
        script(
            f"{STEP}\n{HEADING}# now and then\nif i % 2 == 0:\n    print('loss', loss.item())",
            batches="for i, (x, y) in enumerate(train_loader):",
        ),
        "        # -------\n        # Train\n        # -------\n\n        # now and then\n",
    ),
    "above a value that only a print has read, at the head of more": (
        script(
            f"{STEP}\nprint(i, total, loss.item())",
            before="# the training\ntotal = len(train_loader)",
            batches="for i, (x, y) in enumerate(train_loader):",
        ),
        "# the training\nmodule =",
    ),
    "of a function that returns from its middle": (
        script(
            "train(x, y)",
            define=f"def train(x, y):\n    if len(x) < 8:\n        # too few\n        return  # wait\n{indent(STEP, '    ')}\n\n",
        ),
        "        if len(x) < 8:\n            # too few\n            return None  # wait\n",
    ),
    "at the end of a batch": (
        script(f"{STEP}\nx.sum()\n# x = 3"),
        "        x.sum()\n        # x = 3\n",
    ),
    "at the end of an epoch": (
        script(end="print('done')\n# next one"),
        "        # next one\n",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MOVED.values(), ids=MOVED)
def test_comments_move_along(text: str, expected: str) -> None:
    assert expected in (converted(text).text or "")


def test_a_comment_of_code_that_is_gone_goes() -> None:
    text = converted(script(STEP.replace("optimizer.zero_grad", "# clear\noptimizer.zero_grad"))).text
    assert text is not None and "# clear" not in text


def test_a_comment_that_ended_what_is_gone_goes_with_it() -> None:
    text = script(before=f"{DEVICE}# moves\nmodel.to(device)\n# moves\n\nprint(criterion)\n# ready\n")
    done = converted(text)
    assert "# moves" not in str(done.text) and "# ready" in str(done.text)


def test_a_comment_that_ended_what_stays_heads_nothing_else() -> None:
    text = script(before=f"{DEVICE}# the loss\nprint(criterion)\n# the loss\n\nmodel.to(device)\nprint(1)\n")
    assert str(converted(text).text).count("# the loss") == 1


def test_the_mark_of_a_notebooks_cell_does_not_go_with_a_statement() -> None:
    cells = SETUP.replace("optimizer = ", "# %% [cell 2]\n# how it learns\noptimizer = ")
    text = str(converted(script(setup=cells, before="# %% [cell 3]\nshown = 1")).text)
    made = text.partition("def configure_optimizers(self):\n")[2]
    assert made.startswith("        # how it learns\n") and "# %% [cell 3]\nshown = 1" in text
