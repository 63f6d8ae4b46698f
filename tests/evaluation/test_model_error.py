"""The error of a dynamics on recorded transitions."""

import math

import numpy as np
import pytest
import torch

from doof_ext.evaluation.model_error import model_error


def test_it_is_that_of_a_written_out_loop(dynamics, offline):
    rows = {name: column[:40] for name, column in offline.sample_all().items()}
    error = model_error(dynamics, rows)
    tensors = {name: torch.as_tensor(column) for name, column in rows.items()}
    prediction = dynamics.predict(tensors["observations"], tensors["actions"])
    mean, std = (x.double().numpy() for x in (prediction.mean, prediction.std))
    nll, distance = [], []
    for i in range(40):
        recorded = np.append(rows["next_observations"][i], rows["rewards"][i]).astype(np.float64)
        for elite in prediction.elites.tolist():
            for j, y in enumerate(recorded):
                m, s = mean[elite, i, j], std[elite, i, j]
                nll.append(-math.log(math.exp(-0.5 * ((y - m) / s) ** 2) / (s * math.sqrt(2 * math.pi)) or 1e-300))
        middle = np.mean([mean[elite, i] for elite in prediction.elites.tolist()], 0)
        distance.append(math.dist(middle, recorded))
    assert error.nll == pytest.approx(np.mean(nll), rel=1e-4)
    assert error.distance == pytest.approx(np.mean(distance), rel=1e-5)


def test_nine_tenths_of_what_the_model_itself_draws_lie_within_its_region(dynamics, offline):
    rows = {name: torch.as_tensor(np.repeat(column, 10, 0)) for name, column in offline.sample_all().items()}
    step = dynamics.sample_step(rows["observations"], rows["actions"])
    drawn = rows | {"next_observations": step.next_obs, "rewards": step.reward}
    assert model_error(dynamics, drawn).within_90 == pytest.approx(0.9, abs=0.02)
    far = drawn | {"next_observations": step.next_obs + 100}
    assert model_error(dynamics, far).within_90 == 0
