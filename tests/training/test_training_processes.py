"""Two processes that share a batch train as one that accumulates it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.testing import assert_close

from causvid.training.config import FlowConfig, OptimiserConfig, Phase
from causvid.training.data import Clip, LatentCache, shard_path, write_shard
from causvid.training.models import new_model
from causvid.training.recipes import TransformerShape
from causvid.training.teacher import TeacherStage
from causvid.training.teacher_model import tokens_of
from causvid.training.trainer import LoopConfig, train
from causvid.world.tokenizer import word_tokenizer

SHAPE = TransformerShape(
    patch_size=(1, 1, 1),
    num_attention_heads=2,
    attention_head_dim=8,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=16,
    ffn_dim=32,
    num_layers=1,
    text_length=4,
    position_features=6,
)


def run(data: Path, folder: Path, accumulation: int) -> None:
    """A few steps of the teacher stage, in as many processes as the environment says."""
    tokenizer = word_tokenizer(["red", "car"], SHAPE.text_length)
    cache = LatentCache(data)
    cache.open()
    optimiser = OptimiserConfig(learning_rate=1e-2, warmup_steps=1, accumulation=accumulation)
    config = FlowConfig((Phase(2, 2, 5),), optimiser)
    model, condition = new_model(SHAPE, len(tokenizer), 0), tokens_of(tokenizer, SHAPE.text_length)
    stage = TeacherStage(model, condition, cache, config)
    train(stage, LoopConfig(folder, log_steps=1), Accelerator(cpu=True))


def losses(folder: Path) -> torch.Tensor:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines])


# Without a GPU, `--multi_gpu` is accelerate's word for starting processes itself: `--cpu` and a
# configuration of type MULTI_CPU leave that to MPI, and start one.
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate launch": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_give_the_loss_curve_of_one_with_accumulated_gradients(launcher, tmp_path):
    draw = torch.Generator().manual_seed(0)
    clips = [Clip(torch.randn(3, 4, 2, 3, generator=draw), ("red car",)) for _ in range(4)]
    write_shard(shard_path(tmp_path / "data", 0), clips)
    launch = [*LAUNCHERS[launcher], __file__, str(tmp_path / "data"), str(tmp_path / "two")]
    subprocess.run(
        [sys.executable, "-m", *launch],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    run(tmp_path / "data", tmp_path / "one", accumulation=2)
    assert len(losses(tmp_path / "two")) == 5
    assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), accumulation=1)
