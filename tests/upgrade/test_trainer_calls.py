from __future__ import annotations

import pytest

from tests.upgrade.scripts import HEAD, check, check_refused, check_same, script

SAME = {
    "today's names": "trainer = pl.Trainer()\ntrainer.fit(m, train_dataloaders=a, val_dataloaders=b)\ntrainer.test(dataloaders=c)",
    "another object's model": "forest.get_model()",
    "another library's fit": "forest.fit(train_dataloader=a)",
    "a tuner of today": "from lightify.runtime.tuner import Tuner\ntrainer = pl.Trainer()\nTuner(trainer).lr_find(m)",
}
ROWS = {
    "loaders": (
        "t = pl.Trainer()\nt.fit(m, train_dataloader=a, val_dataloaders=b)\nt.test(test_dataloaders=c)\nt.validate(val_dataloaders=d)",
        "t = pl.Trainer()\nt.fit(m, train_dataloaders=a, val_dataloaders=b)\nt.test(dataloaders=c)\nt.validate(dataloaders=d)",
    ),
    "the module": ("t = pl.Trainer()\nt.get_model().eval()", "t = pl.Trainer()\nt.lightning_module.eval()"),
    "resuming": (
        "t = pl.Trainer(max_epochs=2, resume_from_checkpoint=args.path)\nt.fit(m)",
        "t = pl.Trainer(max_epochs=2)\nt.fit(m, ckpt_path=args.path)",
    ),
    "resuming on the spot": (
        "pl.Trainer(resume_from_checkpoint='a.ckpt').fit(m, train_dataloader=a)",
        "pl.Trainer().fit(m, train_dataloaders=a, ckpt_path='a.ckpt')",
    ),
}
TUNED = {
    "what the Trainer asked for": (
        "t = pl.Trainer(auto_lr_find='lr', auto_scale_batch_size=True)\nt.tune(m, datamodule=d)  # first",
        "t = pl.Trainer()\nTuner(t).scale_batch_size(m, datamodule=d)  # first\nTuner(t).lr_find(m, datamodule=d, attr_name='lr')  # first",
    ),
    "1.x left the rate alone": (
        "t = pl.Trainer()\nfound = t.tuner.lr_find(m, train_dataloader=a)",
        "t = pl.Trainer()\nfound = Tuner(t).lr_find(m, train_dataloaders=a, update_attr=False)",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(script(body))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(script(before), script(after), "trainer_calls")


@pytest.mark.parametrize(("before", "after"), TUNED.values(), ids=TUNED)
def test_tunes(before: str, after: str) -> None:
    imported = HEAD.rstrip() + "\nfrom lightify.runtime.tuner import Tuner\n\n\n"
    check(script(before), script(after).replace(HEAD, imported), "trainer_calls")


def test_nothing_to_tune() -> None:
    check(script("t = pl.Trainer()\nt.tune(m)\nt.fit(m)"), script("t = pl.Trainer()\nt.fit(m)"), "trainer_calls")


def test_is_refused() -> None:
    check_refused(script("t = pl.Trainer(resume_from_checkpoint=newest())\nt.fit(m)"), "is computed here", "newest()")
    check_refused(script("def f(trainer):\n    trainer.tune(m)"), "made in another place", "trainer.tune")
