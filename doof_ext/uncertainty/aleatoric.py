"""MOPO's own (Yu et al. 2020; DOOF section 3.2): the largest predicted standard deviation of any member."""


def uncertainty(prediction):
    """max over members of the norm of σ over next-state deltas and reward → [B, 1]."""
    return prediction.std.norm(dim=-1).amax(0).unsqueeze(-1)
