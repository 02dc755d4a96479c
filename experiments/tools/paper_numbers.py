"""Numbers of the paper that results are held to: Liu, Wang, Wu, INFOCOM 2025, abstract and section V (Fig. 14).

A plan's bill and throughput (Bert and GPT2 MoE) are compared with LambdaML's, which gives every expert 3008 MB and
no replicas, and with those of a CPU cluster. Numbers that one figure alone needs stand with that figure.
"""

BELOW_LAMBDAML = 0.4341
"""A plan's bill is at least so much below LambdaML's."""
SLOWER_THAN_LAMBDAML = 0.1876
"""Its throughput is at most so much below LambdaML's: our plans are held to it as a limit."""
BELOW_CLUSTER = 0.7567
"""Its bill is at least so much below the CPU cluster's."""
LAMBDAML_MB = 3008
"""Memory of every expert in LambdaML's plan: the most that Lambda gave then."""
