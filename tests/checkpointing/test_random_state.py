import torch

from doof_ext.checkpointing.random_state import seed_torch


def test_torch_draws_what_it_draws_after_its_own_seeding(device):
    torch.zeros(1, device=device)  # a GPU is in use before it is seeded
    torch.manual_seed(3)
    expected = torch.randn(4, device=device), torch.randperm(9, device=device)
    seed_torch(3)
    assert torch.equal(torch.randn(4, device=device), expected[0])
    assert torch.equal(torch.randperm(9, device=device), expected[1])
