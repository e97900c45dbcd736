"""What is logged has a name of its own, the one that the script has for it."""

from __future__ import annotations

from textwrap import indent

import pytest

from lightify.plan.logs.texts import label
from tests.converter.scripts import STEP, converted, methods, script

BATCHES = """\
for x, y in loaders[phase]:
    with torch.set_grad_enabled(phase == 'train'):
        loss = criterion(model(x), y)
        if phase == 'train':
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    total += loss.item()
epoch_loss = total / len(loaders[phase])
"""
PHASES = "for phase in ['train', 'val']:\n    model.train(phase == 'train')\n    total = 0.0\n" + indent(
    BATCHES, "    "
)
LOADERS = "loaders = {'train': train_loader, 'val': val_loader}\n"
EVALUATE = "model.eval()\ntotal = 0.0\nwith torch.no_grad():\n    for x, y in val_loader:\n        total += criterion(model(x), y).item()\n"
PERCENT = """\
def evaluate():
    epoch_acc = 0.0
    model.eval()
    with torch.no_grad():
        for x, y in val_loader:
            epoch_acc += (model(x).argmax(1) == y).float().mean().item()
    return epoch_acc / len(val_loader)
"""


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("show", ["f'{phase} Loss: {epoch_loss:.4f}'", "'{} Loss: {:.4f}'.format(phase, epoch_loss)"])
def test_a_phase_is_part_of_the_name(show: str, style: str) -> None:
    text = script("pass", before=LOADERS, batches="for _ in ():", end=f"{PHASES}    print({show})")
    text = text.replace("    for _ in ():\n        pass\n", "")
    hooks = methods(converted(text, style=style).text)
    assert "self.log('train_loss', " in hooks["on_validation_epoch_start"]
    assert "self.log('val_loss', " in hooks["on_train_epoch_end"]


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_passes_of_one_name_are_told_apart(style: str) -> None:
    show = "print(f'{total / 2:.3f} loss')\nloss = total / 4\nprint(f'loss {loss:.3f}')"
    end = f"{show}\n{EVALUATE}{show}"
    hooks = methods(
        converted(
            script(f"{STEP}\ntotal += loss.item()", start="model.train()\ntotal = 0.0", end=end), style=style
        ).text
    )
    assert "self.log('loss', " in hooks["on_validation_epoch_start"]
    assert "self.log('val_loss', " in hooks["on_train_epoch_end"]


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_who_calls_a_pass_names_its_share_in_percent(style: str) -> None:
    end = "valid_acc = evaluate()\nprint(f'{valid_acc * 100:.2f}%')"
    done = converted(script(define=PERCENT, end=end), style=style)
    assert "self.log('valid_acc', " in "".join(methods(done.text).values()) and "epoch_acc'" not in str(done.text)


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_sum_of_the_pass_bears_its_own_name_where_the_first_is_taken(style: str) -> None:
    batch = f"{STEP}\ntrain_loss += loss.item() ** 2\nif i % 2 == 0:\n    print(f'Loss: {{loss.item():.3f}}')"
    batches = "for i, (x, y) in enumerate(train_loader):"
    text = script(batch, start="train_loss = 0.0", batches=batches, end="print(f'Average loss: {train_loss / 4:.3f}')")
    assert "self.log('train_loss', " in methods(converted(text, style=style).text)["on_train_epoch_end"]


TURNS = """\
other = nn.Linear(4, 4)
other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)

def first(x, y):
    optimizer.zero_grad()
    loss = criterion(model(other(x)), y)
    loss.backward()
    optimizer.step()
    return loss.data.item()

def second(x, y):
    other_optimizer.zero_grad()
    loss = criterion(model(other(x)), y)
    loss.backward()
    other_optimizer.step()
    return loss.data.item()

"""
LISTED = "ones.append(first(x, y))\ntwos.append(second(x, y))"
MEAN = "torch.mean(torch.FloatTensor({}))"


def test_what_calls_give_is_averaged_under_the_words_that_are_printed() -> None:
    shown = f"print('loss_a: %.3f, loss_B: %.3f' % ({MEAN.format('ones')}, {MEAN.format('twos')}))"
    text = script(LISTED, before=TURNS, start="ones, twos = [], []", end=shown)
    step = methods(converted(text, style="idiomatic").text)["training_step"]
    assert "self.log('loss_a', first(x, y), on_step" in step and "self.log('loss_b', second(x, y), on_step" in step


LABELS = {
    "| recon_loss: ": "recon_loss",
    "loss_D ": "loss_d",
    "train_loss ": "train_loss",
    "avg_loss: ": "loss",
    "running_loss ": "loss",
    "Test set: Average loss: ": "loss",
}


@pytest.mark.parametrize(("text", "name"), LABELS.items())
def test_a_word_for_a_measure_is_taken_with_the_name_that_it_stands_in(text: str, name: str) -> None:
    assert label(text) == name


def test_means_of_different_lists_are_different_things() -> None:
    show = "print('Recon Loss : {:.4f} | KL Loss : {:.4f}'.format(np.mean(recon), np.mean(kl)))"
    batch = f"{STEP}\nrecon.append(loss.item())\nkl.append(loss.item() / 2)"
    text = f"import numpy as np\n{script(batch, start='recon, kl = [], []', end=show)}"
    end = methods(converted(text).text)["on_train_epoch_end"]
    assert "self.log('recon_loss', np.mean(self.recon)" in end and "self.log('kl_loss', np.mean(self.kl)" in end


@pytest.mark.parametrize(
    ("name", "shown", "logged"),
    [
        ("running_loss", "Training loss", "train_loss"),
        ("avg_loss", "Validation loss", "val_loss"),
        ("running_loss", "Loss", "running_loss"),
        ("test_loss", "Validation loss", "test_loss"),
    ],
)
def test_the_pass_that_a_print_tells_is_part_of_the_name(name: str, shown: str, logged: str) -> None:
    end = f"{name} = len(train_loader) / 2\nprint(f'{shown}: {{{name}:.3f}}')"
    hooks = methods(converted(script(end=end)).text)
    assert f"self.log('{logged}', {name}" in hooks["on_train_epoch_end"]
