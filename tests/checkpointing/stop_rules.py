"""When a collection's episodes are to end."""


def is_low(observation, action, next_observation):
    """The hopper's torso has come down."""
    return next_observation[0] < 1.15
