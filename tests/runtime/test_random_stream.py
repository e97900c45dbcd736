"""A run draws nothing from the script's random streams."""

import subprocess
import sys

SCRIPT = """
import random
import torch
import lightify.runtime as L

class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

before = random.getstate()
trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
trainer.fit(Line(), torch.utils.data.DataLoader(torch.randn(4, 2)))
assert random.getstate() == before, "fit drew from Python's random stream"
"""


def test_the_first_fit_of_a_process_leaves_pythons_random_stream_alone() -> None:
    """In a process of its own: rich draws a number when it is first imported."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
