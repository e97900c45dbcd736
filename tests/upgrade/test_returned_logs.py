from __future__ import annotations

import pytest

from tests.upgrade.scripts import check, check_refused, check_same, of_module

STEP = "def training_step(self, batch, i):\n    loss = self(batch)\n"
END = "def validation_epoch_end(self, outputs):\n    avg = mean(outputs)\n"
NEW_END = """\
def on_validation_epoch_start(self):
    self.validation_step_outputs = []

def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
    self.validation_step_outputs.append(outputs)

def on_validation_epoch_end(self):
    outputs, self.validation_step_outputs = self.validation_step_outputs, []
    avg = mean(outputs)
"""
FORE = "def mean(x): ...\n\n"
SAME = {
    "a loss": STEP + "    return loss",
    "a dict with nothing to log": STEP + "    return {'loss': loss, 'hiddens': batch}",
    "what a validation step returns": "def validation_step(self, b, i):\n    return {'log': {'a': b}}",
}
ROWS = {
    "both dicts, written out": (
        STEP + "    # said\n    return {'loss': loss, 'log': {'a': loss, 'b': 1}, 'progress_bar': {'a': loss, 'c': 2}}",
        STEP + "    # said\n    self.log('a', loss, prog_bar=True)\n    self.log('c', 2, prog_bar=True, logger=False)\n"
        "    self.log('b', 1)\n    return loss",
    ),
    "a dict that the step fills": (
        STEP + "    logs = {}\n    logs['x'] = loss\n    return {'loss': loss, 'n': 1, 'log': logs}",
        STEP + "    logs = {}\n    logs['x'] = loss\n    self.log_dict(logs)\n    return {'loss': loss, 'n': 1}",
    ),
    "entries that are set later, and others": (
        STEP
        + "    log = {'lr': 1}\n    log['loss'] = loss\n    return {'loss': loss, 'log': log, 'progress_bar': {'p': 2}}",
        STEP + "    log = {'lr': 1}\n    log['loss'] = loss\n    self.log_dict(log)\n"
        "    self.log('p', 2, prog_bar=True, logger=False)\n    return loss",
    ),
    "one name in other quotes": (
        STEP + "    return {'loss': loss, 'log': {'a': loss}, 'progress_bar': {\"a\": loss}}",
        STEP + "    self.log('a', loss, prog_bar=True)\n    return loss",
    ),
    "one dict for both, under two names": (
        STEP + "    logs = make()\n    return {'loss': loss, 'log': logs, 'progress_bar': logs}",
        STEP + "    logs = make()\n    self.log_dict(logs, prog_bar=True)\n    return loss",
    ),
    "a returned name": (
        STEP + "    out = {\n        'loss': loss,\n        'log': {'a': loss},\n    }\n    return out",
        STEP + "    self.log('a', loss)\n    out = {\n        'loss': loss,\n    }\n    return out",
    ),
    "within a block": (
        STEP + "    if i:\n        return {'loss': loss, 'log': {'a': loss}}\n    return None",
        STEP + "    if i:\n        self.log('a', loss)\n        return loss\n    return None",
    ),
}
ENDS = {
    "numbers to monitor": (
        "    return {'val_loss': avg, 'log': {'val_loss': avg}, 'n': 1}",
        "    self.log('val_loss', avg)\n    self.log('n', 1, logger=False)",
    ),
    "logs by name": (
        "    logs = {'l': avg}\n    return {'val_loss': avg, 'log': logs, 'progress_bar': logs}",
        "    logs = {'l': avg}\n    self.log('l', logs['l'], prog_bar=True)\n    self.log('val_loss', avg, logger=False)",
    ),
    "a number that is surely logged": (
        "    logs = {'val_loss': avg}\n    if avg:\n        logs['n'] = 1\n    return {'val_loss': avg, 'log': logs}",
        "    logs = {'val_loss': avg}\n    if avg:\n        logs['n'] = 1\n    self.log_dict(logs)",
    ),
    "in the midst": (
        "    if not outputs:\n        return {'n': 0}\n    print(avg)",
        "    if not outputs:\n        self.log('n', 0, logger=False)\n        return\n    print(avg)",
    ),
}
REFUSED = {
    "a dict that is filled": (
        STEP + "    out = {'loss': loss}\n    out['log'] = {'a': 1}\n    return out",
        "cannot be read",
        "return out",
    ),
    "two dicts that may share a name": (
        STEP + "    return {'loss': loss, 'log': f(), 'progress_bar': g()}",
        "a name in both",
        "return",
    ),
    "a name that may be in both": (
        STEP
        + "    log = {}\n    if i:\n        log['a'] = 1\n    return {'loss': loss, 'log': log, 'progress_bar': {'a': 2}}",
        "a name in both",
        "return",
    ),
    "a step end follows": (
        STEP + "    return {'loss': loss, 'log': {'a': 1}}\n\ndef training_step_end(self, o):\n    return o",
        "`training_step_end` follows",
        "def training_step(",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "returned_logs")


@pytest.mark.parametrize(("before", "after"), ENDS.values(), ids=ENDS)
def test_what_an_epoch_end_returns(before: str, after: str) -> None:
    step = "def validation_step(self, b, i): ...\n\n"
    check(of_module(step + END + before), of_module(step + NEW_END + after), "returned_logs")


@pytest.mark.parametrize(("body", "reason", "line"), REFUSED.values(), ids=REFUSED)
def test_is_refused(body: str, reason: str, line: str) -> None:
    check_refused(of_module(body), reason, line)
