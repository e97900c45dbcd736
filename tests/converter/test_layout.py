"""Lines that the conversion does not touch stay as they are written."""

from __future__ import annotations

import pytest

from tests.converter.scripts import converted, script

KEPT = [
    "if len(data) > 100: print('many')",
    "for part in (1, 2): print(part); print(data[part])",
    "n = 1; m = 2  # two of them",
    "if n: print(n)\nelse: print(m)",
    "def shown(x): return x.sum().item()",
    "class Empty: pass",
    "with torch.no_grad(): print(model(data[:2][0]))",
    "try: print(n)\nexcept NameError: pass",
]
CHANGED = [
    ("n = len(train_loader); model.train()", "n = len(train_loader); model.train()"),
    ("if True: criterion = nn.CrossEntropyLoss(); n = 3", "if True: criterion = nn.CrossEntropyLoss(); n = 3"),
    ("n = 3; optimizer = torch.optim.Adam(model.parameters()); m = 4", "n = 3\nm = 4"),
]


@pytest.mark.parametrize("lines", KEPT)
@pytest.mark.parametrize("place", ["before", "after"])
def test_statements_that_share_a_line_share_it_still(lines: str, place: str) -> None:
    around = f"n, m = 1, 2\n{lines}\nprint(n, m)\n"
    done = converted(script(**{place: around}))
    assert done.text is not None and f"\n{lines}\n" in done.text


@pytest.mark.parametrize(("lines", "expected"), CHANGED)
def test_what_is_left_of_a_line_that_changes(lines: str, expected: str) -> None:
    done = converted(script(before=f"{lines}\n", after="print(n)\nprint(m)" if "m =" in lines else "print(n)"))
    assert done.text is not None and f"\n{expected}\n" in done.text
