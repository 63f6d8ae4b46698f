"""The baselines of Table 3: methods that finetune a policy in the environment, under DOOF's protocol."""
