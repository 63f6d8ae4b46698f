"""Where a run is: what a checkpoint's stage says of the stages before and after it."""

import pytest

from doof_ext.checkpointing.training_state import STAGES, is_past, position


def test_a_checkpoint_names_its_stage_and_round():
    assert position({"stage": "finetune_dynamics.12"}) == ("finetune_dynamics", 12)


@pytest.mark.parametrize("reached", STAGES)
def test_a_run_is_past_the_stages_whose_followers_have_begun(reached):
    past = [stage for stage in STAGES if is_past((reached, 2), stage, 2)]
    wanted = list(STAGES[: STAGES.index(reached)])
    if reached == "collect":
        wanted.remove("explore")  # it waits for its steps, and nothing is taken yet
    assert past == wanted
    assert all(is_past((reached, 2), stage, 1) and not is_past((reached, 2), stage, 3) for stage in STAGES)
