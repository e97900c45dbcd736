from __future__ import annotations

import pytest

from lightify.findings.clipping import RULES
from tests.findings.scripts import check, script

CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"
SCALER = "scaler = torch.amp.GradScaler()"

NOOP = {
    "between backward and step": {
        "batch": f"optimizer.zero_grad()\nloss = criterion(model(x), y)\nloss.backward()\n{CLIP}\noptimizer.step()"
    },
    "unscaled first": {
        "setup": SCALER,
        "batch": f"""
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            {CLIP}
            scaler.step(optimizer)
            scaler.update()
        """,
    },
    "clipped on a condition": {
        "batch": f"""
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if i > 3:
                {CLIP}
            loss.backward()
            optimizer.step()
        """
    },
    "a list of parameters read twice": {
        "optimizer": "params = list(model.parameters())\noptimizer = torch.optim.SGD(params, lr=0.1)",
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
        """,
    },
    "a generator read once": {"optimizer": "params = model.parameters()\noptimizer = torch.optim.SGD(params, lr=0.1)"},
}

FOUND = {
    "clipped while scaled": {
        "setup": SCALER,
        "batch": f"""
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            {CLIP}  # <- LF405
            scaler.step(optimizer)
            scaler.update()
        """,
    },
    "clipped before backward": {
        "batch": f"""
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            {CLIP}  # <- LF406
            loss.backward()
            optimizer.step()
        """
    },
    "clipped after the step": {
        "batch": f"""
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            {CLIP}  # <- LF406
        """
    },
    "a generator of parameters read twice": {
        "optimizer": "params = model.parameters()\noptimizer = torch.optim.SGD(params, lr=0.1)",
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)  # <- LF407
            optimizer.step()
        """,
    },
    "filtered parameters read twice": {
        "optimizer": """
            params = filter(lambda p: p.requires_grad, model.parameters())
            optimizer = torch.optim.SGD(params, lr=0.1)
        """,
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)  # <- LF407
            optimizer.step()
        """,
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
